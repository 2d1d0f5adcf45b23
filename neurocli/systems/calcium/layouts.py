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

from neurocli.core.data.hdf5 import h5_attributes, h5_dataset, h5_names, h5_read
from neurocli.core.data.mapped import h5_map, h5_texts
from neurocli.core.errors import InputError
from neurocli.systems.calcium.session import Session, Table, checked_parts, names_of, rate_of
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
            if group in h5_names(file) and name in h5_names(file[group]):
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

    Raises:
        InputError: A table is damaged, or its starts and ends do not belong together.
    """
    tables: dict[str, Table] = {}
    counts: dict[str, int] = {}
    for stimulus in h5_names(file):
        node = file[stimulus]
        if not {"start", "end"} <= set(h5_names(node)) or stimulus.endswith(("domain", "_epochs")):
            continue
        counts[stimulus] = int(getattr(node["start"], "size", 0))
        if stimulus in STIMULI:
            start, stop = _intervals(file, stimulus, clock)
            values = {
                key: floats(file, f"{stimulus}/{key}")
                for key in h5_names(node)
                if key not in ("start", "end", "timestamps")
                and not key.endswith("_mask")
                and getattr(node[key], "shape", ())[:1] == start.shape
            }
            tables[stimulus] = canonical(stimulus, Table(start, stop, values))
    return tables, counts


def _intervals(
    file: Any, name: str, clock: tuple[float, float]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    start, end = (floats(file, f"{name}/{key}") for key in ("start", "end"))
    if start.ndim != 1 or start.shape != end.shape:
        raise InputError(
            f"{file.filename}:{name}",
            f"has starts of shape {start.shape} and ends of shape {end.shape}",
            "one start and one end per interval are needed",
        )
    return frames_of(start, end, clock)


def floats(file: Any, name: str) -> npt.NDArray[np.float64]:
    """Return a dataset in double precision.

    Args:
        file: The open file.
        name: Path of the dataset.

    Raises:
        InputError: There is none, or it is damaged.
    """
    values: npt.NDArray[np.float64] = h5_read(h5_dataset(file, name)).astype(np.float64)
    return values


def _clock(file: Any, group: Any, name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    base = name.partition("/")[0]
    rate = h5_attributes(group).get("sampling_rate")
    holder = next((p for p in (f"{base}/domain", "domain") if p in file), None)
    start = float(floats(file, f"{holder}/start").ravel()[0]) if holder else 0.0
    if isinstance(rate, (int, float)) and 0 < rate < np.inf:
        return start, float(rate)
    if f"{base}/timestamps" in file:
        times = floats(file, f"{base}/timestamps")
        rate = rate_of(times, f"{file.filename}:{base}/timestamps")
        return float(times[0]), rate
    if holder is None:
        raise InputError(
            f"{file.filename}:{base}", "has neither sampling_rate nor domain", "make the file again"
        )
    end = float(floats(file, f"{holder}/end").ravel()[-1])
    if not start < end < np.inf:
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
    masks = {part: f"{base}/{name}" for part, name in _MASKS.items() if name in h5_names(group)}
    if masks:
        read = {part: h5_read(h5_dataset(file, name)).astype(bool) for part, name in masks.items()}
        where = {part: f"{file.filename}:{name}" for part, name in masks.items()}
        return checked_parts(read, n_frames, where), "masks of the file"
    domains = {part: name for part, name in _DOMAINS.items() if name in file}
    if not domains:
        return None, ""
    read = {}
    for part, name in domains.items():
        start, stop = _intervals(file, name, clock)
        read[part] = np.zeros(n_frames, dtype=bool)
        for a, b in zip(start, stop, strict=True):
            read[part][a:b] = True
    where = {part: f"{file.filename}:{name}" for part, name in domains.items()}
    return checked_parts(read, n_frames, where), "domains of the file"


def _running(
    file: Any, n_frames: int, clock: tuple[float, float]
) -> dict[str, npt.NDArray[np.float32]]:
    if not {"timestamps", "running_speed"} <= set(h5_names(file.get("running"))):
        return {}
    names = ("running/timestamps", "running/running_speed")
    return resampled("running", (file, *names), n_frames, clock)


def resampled(
    name: str, source: tuple[Any, str, str], n_frames: int, clock: tuple[float, float]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return a signal at the clock of the frames by linear interpolation, NaN outside its time.

    Args:
        name: Label to give it.
        source: The open file, and its datasets of times (n,) and values (n,) or (n, 1).
        n_frames: T.
        clock: Time of the first frame and frames per second.

    Raises:
        InputError: A dataset is damaged, or times and values are not equally many.
    """
    file, times_name, values_name = source
    times_s, values = floats(file, times_name), floats(file, values_name)
    if times_s.ndim != 1 or values.shape[:1] != times_s.shape:
        raise InputError(
            f"{file.filename}:{values_name}",
            f"has shape {values.shape} for times of shape {times_s.shape}",
            "one value per time is needed",
        )
    flat = values.reshape(len(values), -1)[:, 0]
    good = np.isfinite(flat) & np.isfinite(times_s)
    if good.sum() < 2:
        return {}
    frames = clock[0] + np.arange(n_frames) / clock[1]
    found = np.interp(frames, times_s[good], flat[good], left=np.nan, right=np.nan)
    return {name: found.astype(np.float32)}
