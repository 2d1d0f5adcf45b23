"""Read sessions in the two layouts of whole-session HDF5 files with `calcium_traces`.

The older one carries masks of the parts beside the traces, the newer one domains of the parts at
the root and labels in degrees. Class names in attributes are ignored: what is there is read. The
clock is the first start of the domain plus frames over the sampling rate; the end of a domain
means the last sample in one generation and the sample after it in the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.hdf5 import h5_attributes, h5_dataset, h5_read
from neurocli.core.data.mapped import h5_map, h5_texts
from neurocli.core.errors import InputError
from neurocli.systems.calcium.session import Session, Table, checked_parts, names_of
from neurocli.systems.calcium.stimuli import (
    STIMULI,
    canonical,
    derived_parts,
    frame_labels,
    frames_of,
)

TRACE_GROUPS = ("calcium_traces", "traces", "spikes")
TRACE_NAMES = ("df_over_f", "dff", "dFF", "events", "data")
_MASKS = {"train": "train_mask", "val": "valid_mask", "test": "test_mask"}
_DOMAINS = {"train": "train_domain", "val": "valid_domain", "test": "test_domain"}


def find_traces(file: Any) -> str | None:
    """Return the path of the trace dataset of such a file, or None when it is none."""
    for group in TRACE_GROUPS:
        for name in TRACE_NAMES:
            if group in file and name in _keys(file[group]):
                return f"{group}/{name}"
    return None


def read_session(file: Any, path: Path) -> Session:
    """Read a session with masks or domains.

    Args:
        file: From `open_h5`.
        path: Its path.

    Raises:
        InputError: A dataset is damaged, masks do not fit, or the clock cannot be told.
    """
    name = find_traces(file)
    assert name is not None
    group = file[name.partition("/")[0]]
    dataset = h5_dataset(file, name, n_dims=2)
    traces = h5_map(dataset)
    start_s, rate = _clock(file, group, name, traces.shape)
    repairs = []
    if _is_transposed(file, traces.shape):
        traces = traces.T
        repairs.append("the traces are stored neurons first and were turned")
    n_frames, n_neurons = traces.shape
    stimuli, found = read_stimuli(file, (start_s, rate))
    segments, split = _parts(file, group, n_frames, (start_s, rate))
    if segments is None:
        segments, split = derived_parts(stimuli, n_frames, rate)
    ids = next((t for key in ("units", "rois") if (t := h5_texts(file, f"{key}/id"))), None)
    return Session(
        name=path.stem,
        traces=traces,
        rate_hz=rate,
        start_s=start_s,
        segments=segments,
        labels={**frame_labels(stimuli, n_frames), **_running(file, n_frames, (start_s, rate))},
        neurons=names_of(n_neurons, ids),
        layout="domains" if split == "domains of the file" else "masks",
        split=split,
        stimuli=found,
        repairs=tuple(repairs),
    )


def read_stimuli(file: Any, clock: tuple[float, float]) -> tuple[dict[str, Table], dict[str, int]]:
    """Return canonical tables of known stimuli, and how many presentations each stimulus has.

    Args:
        file: The open file.
        clock: Time of the first frame and frames per second.
    """
    tables: dict[str, Table] = {}
    counts: dict[str, int] = {}
    for stimulus in _keys(file):
        node = file[stimulus]
        if not {"start", "end"} <= set(_keys(node)) or stimulus.endswith(("domain", "_epochs")):
            continue
        counts[stimulus] = int(node["start"].shape[0])
        if stimulus in STIMULI:
            start, stop = frames_of(
                _floats(file, f"{stimulus}/start"), _floats(file, f"{stimulus}/end"), clock
            )
            values = {
                key: _floats(file, f"{stimulus}/{key}")
                for key in _keys(node)
                if key not in ("start", "end", "timestamps")
                and not key.endswith("_mask")
                and node[key].shape[:1] == start.shape
            }
            tables[stimulus] = canonical(stimulus, Table(start, stop, values))
    return tables, counts


def _keys(node: Any) -> list[str]:
    keys = getattr(node, "keys", None)
    return [str(key) for key in keys()] if keys is not None else []


def _floats(file: Any, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = h5_read(h5_dataset(file, name)).astype(np.float64)
    return values


def _clock(file: Any, group: Any, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    base = name.partition("/")[0]
    rate = h5_attributes(group).get("sampling_rate")
    holder = next((p for p in (f"{base}/domain", "domain") if p in file), None)
    start = float(_floats(file, f"{holder}/start").ravel()[0]) if holder else 0.0
    if isinstance(rate, (int, float)) and rate > 0:
        return start, float(rate)
    if f"{base}/timestamps" in file:
        times = _floats(file, f"{base}/timestamps")
        return float(times[0]), float((len(times) - 1) / (times[-1] - times[0]))
    if holder is None:
        raise InputError(
            f"{file.filename}:{base}", "has neither sampling_rate nor domain", "make the file again"
        )
    end = float(_floats(file, f"{holder}/end").ravel()[-1])
    if not end > start:
        raise InputError(f"{file.filename}:{holder}", f"runs from {start} to {end} s")
    return start, (max(shape) - 1) / (end - start)


def _is_transposed(file: Any, shape: tuple[int, ...]) -> bool:
    """Return whether frames are the second axis, told by masks, times or units."""
    for group in TRACE_GROUPS:
        for mask in (*_MASKS.values(), "timestamps"):
            if f"{group}/{mask}" in file:
                length = file[f"{group}/{mask}"].shape[0]
                return bool(length == shape[1] and length != shape[0])
    for key in ("units/id", "rois/id"):
        if key in file:
            count = file[key].shape[0]
            return bool(count == shape[0] and count != shape[1])
    return shape[0] < shape[1]


def _parts(
    file: Any, group: Any, n_frames: int, clock: tuple[float, float]
) -> tuple[Mapping[str, npt.NDArray[np.int64]] | None, str]:
    base = group.name.strip("/")
    masks = {part: f"{base}/{name}" for part, name in _MASKS.items() if name in _keys(group)}
    if masks:
        read = {part: h5_read(h5_dataset(file, name)).astype(bool) for part, name in masks.items()}
        where = {part: f"{file.filename}:{name}" for part, name in masks.items()}
        return checked_parts(read, n_frames, where), "masks of the file"
    domains = {part: name for part, name in _DOMAINS.items() if name in file}
    if not domains:
        return None, ""
    read = {}
    for part, name in domains.items():
        start, stop = frames_of(_floats(file, f"{name}/start"), _floats(file, f"{name}/end"), clock)
        read[part] = np.zeros(n_frames, dtype=bool)
        for a, b in zip(start, stop, strict=True):
            read[part][a:b] = True
    where = {part: f"{file.filename}:{name}" for part, name in domains.items()}
    return checked_parts(read, n_frames, where), "domains of the file"


def _running(
    file: Any, n_frames: int, clock: tuple[float, float]
) -> dict[str, npt.NDArray[np.float32]]:
    if "running/running_speed" not in file or "running/timestamps" not in file:
        return {}
    return resampled("running", _floats(file, "running/timestamps"),
                     _floats(file, "running/running_speed"), n_frames, clock)  # fmt: skip


def resampled(
    name: str,
    times_s: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    n_frames: int,
    clock: tuple[float, float],
) -> dict[str, npt.NDArray[np.float32]]:
    """Return a signal at the clock of the frames by linear interpolation, NaN outside its time.

    Args:
        name: Label to give it.
        times_s: Times (n,).
        values: (n,) or (n, 1).
        n_frames: T.
        clock: Time of the first frame and frames per second.
    """
    flat = values.reshape(len(values), -1)[:, 0]
    good = np.isfinite(flat) & np.isfinite(times_s)
    if good.sum() < 2:
        return {}
    frames = clock[0] + np.arange(n_frames) / clock[1]
    found = np.interp(frames, times_s[good], flat[good], left=np.nan, right=np.nan)
    return {name: found.astype(np.float32)}
