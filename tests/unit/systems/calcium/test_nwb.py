"""NWB 1 and NWB 2: orientation, clocks, dropped frames, stimuli by frame index, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurocli.core.errors import InputError
from neurocli.systems.calcium.read import open_sessions
from neurocli.systems.calcium.session import Session
from neurocli.systems.calcium.synthetic import CohortSpec, Simulated, simulate
from neurocli.systems.calcium.write_layouts import write_nwb1

SPEC = CohortSpec(n_neurons=(6,), n_frames=40, n_repeats=10, n_trials=1)
PIPELINE = "processing/brain_observatory_pipeline"
PLANE = f"{PIPELINE}/DfOverF/imaging_plane_1"
GRATINGS = "stimulus/presentation/drifting_gratings_stimulus"
Change = Callable[[Any], None]
Make = Callable[[Change], Path]


@pytest.fixture(scope="module")
def made() -> Simulated:
    return simulate(SPEC, 0)


@pytest.fixture
def changed(made: Simulated, tmp_path: Path) -> Make:
    """Return a function that writes NWB 1 and changes it."""

    def make(change: Change) -> Path:
        path = write_nwb1(made, tmp_path / "one.nwb")
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return make


def only(path: Path) -> Session:
    (session,) = open_sessions(path)
    return session


def put(name: str, values: Any) -> Change:
    def change(file: Any) -> None:
        if name in file:
            del file[name]
        file[name] = values

    return change


def refused(path: Path, place: str, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        open_sessions(path)
    assert caught.value.where == f"{path}:{place}"


def write_nwb2(path: Path, traces: Any, kind: str = "DfOverF", **clock: Any) -> Path:
    """Write the least that NWB 2 needs: a series with a rate or with time stamps."""
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.6.0"
        series = file.create_group(f"processing/ophys/{kind}/RoiResponseSeries")
        series["data"] = traces
        if "timestamps" in clock:
            series["timestamps"] = clock["timestamps"]
        if "rate" in clock:
            series["starting_time"] = clock.get("start", 0.0)
            series["starting_time"].attrs["rate"] = clock["rate"]
    return path


# Version 1


def test_version_1_stores_neurons_first(changed: Make, made: Simulated) -> None:
    session = only(changed(lambda file: None))
    assert session.layout == "NWB 1"
    assert np.array_equal(session.rows(slice(None)), made.traces)
    assert isinstance(session.traces.base, np.memmap)  # turned, not read
    assert session.start_s == 5.5
    assert session.rate_hz == pytest.approx(30.0, rel=1e-12)


@pytest.mark.parametrize("side", ["frames", "times"])
def test_the_longer_of_frames_and_times_is_cut(changed: Make, side: str) -> None:
    def change(file: Any) -> None:
        if side == "frames":
            put(f"{PLANE}/timestamps", file[f"{PLANE}/timestamps"][:-3])(file)
        else:
            put(f"{PLANE}/data", file[f"{PLANE}/data"][:, :-3])(file)

    session = only(changed(change))
    assert session.n_frames == 1267  # of 1270
    assert all(len(label) == 1267 for label in session.labels.values())
    assert any("cut to 1267" in text for text in session.repairs)


def test_dropped_frames_are_told(changed: Make) -> None:
    def change(file: Any) -> None:
        times = file[f"{PLANE}/timestamps"][...]
        times[500:] += 1 / 30.0  # one frame was lost before 500
        times[900:] += 0.2 / 30.0  # jitter of a fifth of a frame is none
        put(f"{PLANE}/timestamps", times)(file)

    assert [t for t in only(changed(change)).repairs if "irregular" in t] == [
        "1 intervals between frames are irregular (dropped frames)"
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda times: times[::-1].copy(), "does not run forward"),
        (lambda times: np.r_[times[:-1], np.inf], "does not run forward"),
        (lambda times: np.stack([times, times], 1), "has shape"),
        (lambda times: times[:1], "has shape"),
    ],
)
def test_time_stamps_that_are_no_clock(changed: Make, change: Any, word: str) -> None:
    name = f"{PLANE}/timestamps"
    path = changed(lambda file: put(name, change(file[name][...]))(file))
    refused(path, name, word)


def test_without_any_clock(changed: Make) -> None:
    path = changed(lambda file: file.__delitem__(f"{PLANE}/timestamps"))
    refused(path, PLANE, "neither timestamps nor a rate")


def test_the_end_of_a_presentation_is_shown_too(changed: Make) -> None:
    # Presentations 0..7 of 60 frames each; the last index of each belongs to it.
    frames = np.array([[100 * k, 100 * k + 59] for k in range(8)])
    shown = np.stack([np.full(8, 2.0), 45.0 * np.arange(8), np.zeros(8)], 1)

    def change(file: Any) -> None:
        put(f"{GRATINGS}/frame_duration", frames)(file)
        put(f"{GRATINGS}/data", shown)(file)

    direction = only(changed(change)).labels["direction"]
    for k in range(8):
        assert (direction[100 * k : 100 * k + 60] == k).all()
        assert (direction[100 * k + 60 : 100 * k + 100] == -1).all()


def test_a_presentation_past_the_recording_is_cut(changed: Make) -> None:
    def change(file: Any) -> None:
        put(f"{GRATINGS}/frame_duration", np.array([[1260, 1400], [1500, 1600]]))(file)
        put(f"{GRATINGS}/data", np.array([[1.0, 90.0, 0.0], [1.0, 180.0, 0.0]]))(file)

    direction = only(changed(change)).labels["direction"]
    assert len(direction) == 1270
    # 90 degrees are direction 2, for the ten frames that were recorded; the other never was.
    assert np.flatnonzero(direction >= 0).tolist() == list(range(1260, 1270))
    assert set(direction[1260:]) == {2}


def test_blank_sweeps_have_no_direction(changed: Make) -> None:
    def change(file: Any) -> None:
        data = file[f"{GRATINGS}/data"][...]
        data[:3] = np.nan
        put(f"{GRATINGS}/data", data)(file)

    session = only(changed(change))
    assert session.stimuli["drifting_gratings"] == 5  # of 8
    # The remaining five last two seconds of 30 frames.
    assert (session.labels["direction"] >= 0).sum() == 5 * 60


def test_only_blank_sweeps(changed: Make) -> None:
    path = changed(put(f"{GRATINGS}/data", np.full((8, 3), np.nan)))
    session = only(path)
    assert session.stimuli["drifting_gratings"] == 0
    assert (session.labels["movie_one"] >= 0).sum() == 400


@pytest.mark.parametrize(
    ("name", "values", "word"),
    [
        ("data", np.zeros((5, 3)), r"has shape \(5, 3\) for 8 presentations"),
        ("data", np.zeros(8), r"has shape \(8,\) for 8 presentations"),
        ("data", 1.0, r"has shape \(\) for 8 presentations"),
        ("frame_duration", np.zeros((8, 1), int), "has 1 columns"),
        ("frame_duration", np.zeros((8, 3), int), "has 3 columns"),
        ("frame_duration", np.zeros(8, int), r"has 1 axes"),
    ],
)
def test_tables_that_do_not_fit(changed: Make, name: str, values: Any, word: str) -> None:
    refused(changed(put(f"{GRATINGS}/{name}", values)), f"{GRATINGS}/{name}", word)


def test_cells_keep_their_ids(changed: Make) -> None:
    ids = 517_400_000 + np.arange(6)
    path = changed(put(f"{PIPELINE}/ImageSegmentation/cell_specimen_ids", ids))
    assert only(path).neurons == tuple(str(cell) for cell in ids)


def test_running_of_version_1(changed: Make, made: Simulated) -> None:
    place = f"{PIPELINE}/BehavioralTimeSeries/running_speed"
    times = 5.5 + np.arange(1270) / 30.0

    def change(file: Any) -> None:
        put(f"{place}/timestamps", times)(file)
        put(f"{place}/data", made.running)(file)

    # Speeds at the very times of the frames come back as they were.
    assert only(changed(change)).labels["running"] == pytest.approx(made.running, abs=1e-5)


# Version 2


@pytest.fixture(scope="module")
def traces() -> Any:
    return np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)


@pytest.mark.parametrize("kind", ["DfOverF", "Fluorescence"])
def test_version_2_with_a_rate(tmp_path: Path, traces: Any, kind: str) -> None:
    session = only(write_nwb2(tmp_path / "a.nwb", traces, kind, rate=9.5, start=3.0))
    assert (session.layout, session.rate_hz, session.start_s) == ("NWB 2", 9.5, 3.0)
    assert np.array_equal(session.rows(slice(None)), traces)
    assert session.times_s[19] == pytest.approx(3.0 + 2.0)  # 19 frames at 9.5 Hz are 2 s


def test_version_2_turned(tmp_path: Path, traces: Any) -> None:
    times = 1.0 + np.arange(200) / 20.0
    session = only(write_nwb2(tmp_path / "a.nwb", traces.T.copy(), timestamps=times))
    assert np.array_equal(session.rows(slice(None)), traces)
    assert session.rate_hz == pytest.approx(20.0)
    assert any("turned" in text for text in session.repairs)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_version_2_with_a_rate_that_is_none(tmp_path: Path, traces: Any, rate: float) -> None:
    path = write_nwb2(tmp_path / "a.nwb", traces, rate=rate)
    refused(path, "processing/ophys/DfOverF/RoiResponseSeries", "nor a rate")


def test_ephys_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "units.nwb"
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.0"
        file["units/spike_times"] = np.arange(9.0)
    refused(path, "processing", "without optical physiology .*; it holds units")


def test_a_linked_series_is_not_followed(tmp_path: Path, traces: Any) -> None:
    write_nwb2(tmp_path / "whole.nwb", traces, rate=30.0)
    path = tmp_path / "linked.nwb"
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.0"
        file["processing"] = h5py.ExternalLink("whole.nwb", "/processing")
    with pytest.raises(InputError):
        open_sessions(path)
