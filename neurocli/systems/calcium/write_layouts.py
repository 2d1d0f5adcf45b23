"""Write made-up sessions in the three layouts of Allen sessions, for tests and examples.

All three hold the same numbers; only their order, clocks and tables differ. Parts follow the rule
that readers use when a file names none, so a session reads the same from each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.hdf5 import write_h5
from neurocli.systems.calcium.session import Segments, Table, mask_of
from neurocli.systems.calcium.stimuli import derived_parts
from neurocli.systems.calcium.synthetic import Simulated

_FREQUENCIES = np.array([1.0, 2.0, 4.0, 8.0, 15.0])
_MASKS = {"train": "train_mask", "val": "valid_mask", "test": "test_mask"}
_DOMAINS = {"train": "train_domain", "val": "valid_domain", "test": "test_domain"}


def write_masks(session: Simulated, path: Path) -> Path:
    """Write the layout with masks of the parts beside the traces; return `path`.

    Args:
        session: What to write.
        path: The file.

    Raises:
        NeuroError: The file cannot be written.
    """

    def fill(file: Any) -> None:
        traces = _traces(file, session)
        for part, segments in _parts(session).items():
            mask = mask_of(segments, len(session.traces))
            traces.create_dataset(_MASKS[part], data=mask, track_times=False)
        _units(file, "units", session)
        _interval_tables(file, session, degrees=False)
        _truth(file, session)

    write_h5(path, fill)
    return path


def write_domains(session: Simulated, path: Path) -> Path:
    """Write the layout with domains of the parts at the root; return `path`.

    Args:
        session: What to write.
        path: The file.

    Raises:
        NeuroError: The file cannot be written.
    """

    def fill(file: Any) -> None:
        file.attrs["absolute_start"] = 0.0
        _traces(file, session)
        for part, segments in _parts(session).items():
            start, stop = (_seconds(session, segments[:, side]) for side in (0, 1))
            _interval(file, _DOMAINS[part], start, stop)
        _units(file, "rois", session)
        _interval_tables(file, session, degrees=True)
        running = file.create_group("running")
        times = session.start_s + np.arange(len(session.running)) / session.rate_hz
        running.create_dataset("timestamps", data=times, track_times=False)
        speed = session.running.astype(np.float32)[:, None]
        running.create_dataset("running_speed", data=speed, track_times=False)
        _truth(file, session)

    write_h5(path, fill)
    return path


def write_nwb1(session: Simulated, path: Path) -> Path:
    """Write the layout of NWB 1.0: neurons first, stimuli by frame index; return `path`.

    Args:
        session: What to write.
        path: The file.

    Raises:
        NeuroError: The file cannot be written.
    """

    def fill(file: Any) -> None:
        file.create_dataset("nwb_version", data=np.bytes_("NWB-1.0.6"), track_times=False)
        plane = file.create_group("processing/brain_observatory_pipeline/DfOverF/imaging_plane_1")
        _plain(plane, "data", np.ascontiguousarray(session.traces.T))
        times = session.start_s + np.arange(len(session.traces)) / session.rate_hz
        _plain(plane, "timestamps", times)
        for stimulus, table in session.stimuli.items():
            group = file.create_group(f"stimulus/presentation/{stimulus}_stimulus")
            _plain(group, "frame_duration", np.stack([table.start, table.stop - 1], 1))
            _plain(group, "data", _version_1_data(table))
        _truth(file, session)

    write_h5(path, fill)
    return path


def _version_1_data(table: Table) -> npt.NDArray[Any]:
    if "frame" in table.values:
        return np.asarray(table.values["frame"])
    frequency = _FREQUENCIES[table.values["temp_freq"]]
    blank = np.zeros(len(frequency))
    return np.stack([frequency, 45.0 * table.values["direction"], blank], axis=1)


def _parts(session: Simulated) -> dict[str, Segments]:
    segments, _ = derived_parts(session.stimuli, len(session.traces), session.rate_hz)
    return segments


def _seconds(session: Simulated, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return session.start_s + frames / session.rate_hz


def _plain(group: Any, name: str, values: npt.NDArray[Any]) -> None:
    group.create_dataset(name, data=values, track_times=False)


def _traces(file: Any, session: Simulated) -> Any:
    file.attrs["object"] = "Data"
    group = file.create_group("calcium_traces")
    group.attrs["sampling_rate"] = session.rate_hz
    _plain(group, "df_over_f", session.traces)
    end = session.start_s + (len(session.traces) - 1) / session.rate_hz
    for holder in (group, file):
        _interval(holder, "domain", np.array([session.start_s]), np.array([end]))
    return group


def _units(file: Any, name: str, session: Simulated) -> None:
    ids = [f"{session.name}/{number}" for number in range(session.traces.shape[1])]
    _plain(file.create_group(name), "id", np.array(ids, dtype="S"))


def _interval(
    holder: Any, name: str, start: npt.NDArray[np.float64], stop: npt.NDArray[np.float64]
) -> Any:
    group = holder.create_group(name)
    _plain(group, "start", start)
    _plain(group, "end", stop)
    return group


def _interval_tables(file: Any, session: Simulated, *, degrees: bool) -> None:
    for stimulus, table in session.stimuli.items():
        start, stop = _seconds(session, table.start), _seconds(session, table.stop)
        group = _interval(file, stimulus, start, stop)
        _plain(group, "timestamps", (start + stop) / 2)
        if "frame" in table.values:
            if degrees:
                _plain(group, "frame", table.values["frame"])
                _plain(group, "repeat", table.values["repeat"])
            else:  # the older generation stores a column vector and no repeat
                _plain(group, "frame_number", table.values["frame"].astype(np.float32)[:, None])
            continue
        direction, step = table.values["direction"], table.values["temp_freq"]
        _plain(group, "orientation", 45.0 * direction if degrees else direction)
        name = "temporal_frequency" if degrees else "temp_freq"
        _plain(group, name, _FREQUENCIES[step] if degrees else step)


def _truth(file: Any, session: Simulated) -> None:
    _plain(file.create_group("truth"), "latent", session.truth)
