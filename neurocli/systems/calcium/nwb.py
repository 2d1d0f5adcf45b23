"""Read optical physiology from NWB files, version 1 (Allen) and version 2.

Version 1 stores neurons first and stimuli by the index of the imaging frame, its end included;
version 2 stores frames first with a rate or time stamps. A file without optical physiology is
refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.hdf5 import h5_attributes, h5_dataset, h5_names, h5_read
from neurocli.core.data.mapped import h5_map
from neurocli.core.errors import InputError
from neurocli.systems.calcium.layouts import floats, resampled
from neurocli.systems.calcium.session import Session, Table, names_of, rate_of
from neurocli.systems.calcium.stimuli import STIMULI, canonical, derived_parts, frame_labels

_PIPELINE = "processing/brain_observatory_pipeline"
_DFF = f"{_PIPELINE}/DfOverF/imaging_plane_1"
_RUNNING = f"{_PIPELINE}/BehavioralTimeSeries/running_speed"
_CELLS = f"{_PIPELINE}/ImageSegmentation/cell_specimen_ids"
_SPREAD = 0.5  # frames whose interval differs by more than half of one are dropped frames


def is_nwb(file: Any) -> bool:
    """Return whether an HDF5 file is NWB of either version."""
    return "nwb_version" in file or "nwb_version" in file.attrs


def read_session(file: Any, path: Path) -> Session:
    """Read a session from NWB.

    Args:
        file: From `open_h5`.
        path: Its path.

    Raises:
        InputError: There is no optical physiology, or a dataset is damaged.
    """
    place = _DFF if f"{_DFF}/data" in file else _version_2_place(file)
    if place is None:
        kinds = [key for key in ("units", "acquisition") if h5_names(file.get(key))]
        raise InputError(
            f"{path}:processing",
            "is NWB without optical physiology (no DfOverF or Fluorescence)"
            + (f"; it holds {', '.join(kinds)}" if kinds else ""),
            "give a file of a two-photon session",
        )
    data = h5_dataset(file, f"{place}/data", n_dims=2)
    times, start_s, rate = _clock(file, place)
    traces, repairs = _oriented(h5_map(data), times, is_first=place == _DFF)
    n_frames = traces.shape[0]
    if times is not None and len(times) != n_frames:
        short = min(len(times), n_frames)
        repairs.append(f"{n_frames} frames and {len(times)} time stamps: cut to {short}")
        traces, n_frames = traces[:short], short
    repairs += _irregular(times, rate)
    stimuli, counts = _stimuli(file, n_frames)
    segments, split = derived_parts(stimuli, n_frames, rate)
    cells = floats(file, _CELLS).astype(np.int64).tolist() if _CELLS in file else None
    labels: dict[str, npt.NDArray[Any]] = {**frame_labels(stimuli, n_frames)}
    if f"{_RUNNING}/data" in file and f"{_RUNNING}/timestamps" in file:
        names = (f"{_RUNNING}/timestamps", f"{_RUNNING}/data")
        labels |= resampled("running", (file, *names), n_frames, (start_s, rate))
    return Session(
        name=path.stem,
        traces=traces,
        rate_hz=rate,
        start_s=start_s,
        segments=segments,
        labels=labels,
        neurons=names_of(traces.shape[1], [str(cell) for cell in cells] if cells else None),
        layout="NWB 1" if place == _DFF else "NWB 2",
        split=split,
        stimuli=counts,
        repairs=tuple(repairs),
    )


def _version_2_place(file: Any) -> str | None:
    for module in h5_names(file.get("processing")):
        for kind in ("DfOverF", "Fluorescence"):
            holder = f"processing/{module}/{kind}"
            for series in h5_names(file.get(holder)):
                if f"{holder}/{series}/data" in file:
                    return f"{holder}/{series}"
    return None


def _clock(file: Any, place: str) -> tuple[npt.NDArray[np.float64] | None, float, float]:
    if f"{place}/timestamps" in file:
        times = floats(file, f"{place}/timestamps")
        per_second = rate_of(times, f"{file.filename}:{place}/timestamps")
        return times, float(times[0]), per_second
    if f"{place}/starting_time" in file:
        rate = h5_attributes(file[f"{place}/starting_time"]).get("rate")
        if isinstance(rate, (int, float)) and 0 < rate < np.inf:
            return None, float(_read_scalar(file, f"{place}/starting_time")), float(rate)
    raise InputError(f"{file.filename}:{place}", "has neither timestamps nor a rate")


def _read_scalar(file: Any, name: str) -> float:
    return float(np.asarray(h5_read(h5_dataset(file, name))).ravel()[0])


def _oriented(
    traces: npt.NDArray[Any], times: npt.NDArray[np.float64] | None, *, is_first: bool
) -> tuple[npt.NDArray[Any], list[str]]:
    if is_first:
        return traces.T, []
    if times is not None and len(times) == traces.shape[1] != traces.shape[0]:
        return traces.T, ["the traces are stored neurons first and were turned"]
    return traces, []


def _irregular(times: npt.NDArray[np.float64] | None, rate: float) -> list[str]:
    if times is None:
        return []
    late = int((np.abs(np.diff(times) * rate - 1.0) > _SPREAD).sum())
    return [f"{late} intervals between frames are irregular (dropped frames)"] if late else []


def _stimuli(file: Any, n_frames: int) -> tuple[dict[str, Table], dict[str, int]]:
    """Return canonical tables of known stimuli, and how many rows each stimulus has."""
    tables: dict[str, Table] = {}
    counts: dict[str, int] = {}
    holder = file.get("stimulus/presentation")
    for name in h5_names(holder):
        stimulus = name.removesuffix("_stimulus")
        place = f"stimulus/presentation/{name}"
        if "frame_duration" not in h5_names(file[place]):
            continue
        duration = h5_read(h5_dataset(file, f"{place}/frame_duration", n_dims=2)).astype(np.int64)
        if duration.shape[1] != 2:
            raise InputError(
                f"{file.filename}:{place}/frame_duration",
                f"has {duration.shape[1]} columns, first and last frame are needed",
            )
        counts[stimulus] = len(duration)
        if stimulus not in STIMULI:
            continue
        values = _version_1_values(file, place, stimulus, len(duration))
        start = np.clip(duration[:, 0], 0, n_frames)
        stop = np.clip(duration[:, 1] + 1, 0, n_frames)
        keep = np.ones(len(start), dtype=bool)
        for shown in values.values():
            keep &= np.isfinite(shown)  # a blank sweep has no orientation
        rows = {key: shown[keep] for key, shown in values.items()}
        counts[stimulus] = int(keep.sum())
        tables[stimulus] = canonical(stimulus, Table(start[keep], stop[keep], rows))
    return tables, counts


def _version_1_values(
    file: Any, place: str, stimulus: str, n_rows: int
) -> dict[str, npt.NDArray[np.float64]]:
    data = floats(file, f"{place}/data")
    if len(data.shape) == 0 or len(data) != n_rows or ("gratings" in stimulus and data.ndim != 2):
        raise InputError(
            f"{file.filename}:{place}/data", f"has shape {data.shape} for {n_rows} presentations"
        )
    if "gratings" not in stimulus:
        return {"frame": data.reshape(len(data), -1)[:, 0]}
    names = ("temporal_frequency", "orientation")
    if stimulus == "static_gratings":
        names = ("orientation", "spatial_frequency")
    return {name: data[:, number] for number, name in enumerate(names) if number < data.shape[1]}
