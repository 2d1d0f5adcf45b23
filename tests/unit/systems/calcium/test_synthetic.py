"""Made-up sessions and their writers: the documented law, determinism, what the files hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurocli.systems.calcium.read import open_sessions
from neurocli.systems.calcium.synthetic import CohortSpec, Simulated, simulate, torus
from neurocli.systems.calcium.write_layouts import write_domains, write_masks, write_nwb1

SPEC = CohortSpec(seed=3, n_neurons=(40, 10), n_frames=60, n_repeats=10, n_trials=5)
WRITERS = (write_masks, write_domains, write_nwb1)


@pytest.fixture(scope="module")
def made() -> Simulated:
    return simulate(SPEC, 0)


def test_the_torus_is_the_documented_path() -> None:
    found = torus(60)
    for frame in range(60):  # the two angles, frame by frame
        share = frame / 60
        th1 = 2 * np.pi * share
        th2 = 6 * np.pi * share + 0.8 * np.sin(4 * np.pi * share)
        expected = [np.cos(th1), np.cos(th2), np.sin(th1), np.sin(th2)]
        assert found[frame] == pytest.approx(expected, abs=1e-12)
    assert np.hypot(found[:, 0], found[:, 2]) == pytest.approx(np.ones(60))


def test_the_same_specification_gives_the_same_numbers(made: Simulated) -> None:
    again = simulate(SPEC, 0)
    assert again.traces.tobytes() == made.traces.tobytes()
    assert np.array_equal(again.running, made.running)
    other = simulate(replace(SPEC, seed=4), 0)
    assert not np.array_equal(other.traces, made.traces)


def test_sessions_share_the_stimuli_and_nothing_else(made: Simulated) -> None:
    other = simulate(SPEC, 1)
    for name, table in made.stimuli.items():
        assert np.array_equal(table.start, other.stimuli[name].start)
        for column, values in table.values.items():
            assert np.array_equal(values, other.stimuli[name].values[column])
    assert not np.array_equal(made.running, other.running)
    assert (made.traces.shape[1], other.traces.shape[1]) == (40, 10)


def test_a_session_does_not_depend_on_how_many_there_are(made: Simulated) -> None:
    alone = simulate(replace(SPEC, n_neurons=(40,)), 0)
    assert alone.traces.tobytes() == made.traces.tobytes()


def test_the_timeline_adds_up(made: Simulated) -> None:
    # 600 frames of movie, 2 s of grey, then 8 x 5 trials and 2 blanks (5 %) of 3 s at 30 Hz.
    assert len(made.traces) == 600 + 60 + 42 * 90
    gratings = made.stimuli["drifting_gratings"]
    assert len(gratings.start) == 40
    assert set(gratings.stop - gratings.start) == {60}
    assert ((gratings.start - 660) % 90 == 0).all()
    assert np.bincount(gratings.values["direction"]).tolist() == [5] * 8
    assert np.bincount(gratings.values["temp_freq"]).tolist() == [8] * 5


def test_the_truth_is_the_torus_under_the_movie(made: Simulated) -> None:
    assert np.isnan(made.truth[600:]).all()
    for repeat in range(10):
        shown = made.truth[60 * repeat : 60 * repeat + 60]
        assert shown == pytest.approx(torus(60), abs=1e-6)


def test_running_is_a_slow_path_of_unit_variance() -> None:
    speed = simulate(CohortSpec(n_neurons=(2,), n_frames=3000, n_repeats=30, n_trials=0), 0).running
    # An Ornstein-Uhlenbeck path of 3 s at 30 Hz correlates with itself by exp(-1/90) per frame;
    # 90,000 frames are 500 independent stretches, so the spread is known to some 5 %.
    step = np.corrcoef(speed[1:], speed[:-1])[0, 1]
    assert step == pytest.approx(np.exp(-1 / 90), abs=0.002)
    assert speed.std() == pytest.approx(1.0, abs=0.15)


def test_tuned_neurons_follow_the_movie_and_the_others_do_not() -> None:
    made = simulate(CohortSpec(n_neurons=(60,), n_frames=60, n_repeats=60, n_trials=0), 0)
    by_repeat = made.traces.reshape(60, 60, 60)  # repeat, frame, neuron
    first, second = by_repeat[::2].mean(0), by_repeat[1::2].mean(0)
    alike = np.array([np.corrcoef(first[:, n], second[:, n])[0, 1] for n in range(60)])
    # Halves of the repeats agree where a neuron follows the movie and by chance where it does not:
    # the bounds are chosen between the two, not derived.
    assert np.median(alike[made.is_tuned]) > 0.6
    assert abs(np.median(alike[~made.is_tuned])) < 0.3
    # Six in ten follow nothing: 24 of 60 are expected to be tuned, within 4 standard deviations.
    assert abs(made.is_tuned.sum() - 24) < 4 * np.sqrt(60 * 0.4 * 0.6)


# The writers


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_session_gives_the_same_bytes(write: Any, made: Simulated, tmp_path: Path) -> None:
    first, second = write(made, tmp_path / "a.h5"), write(made, tmp_path / "b.h5")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]  # no leftovers


def test_masks_hold_what_the_older_generation_holds(made: Simulated, tmp_path: Path) -> None:
    with h5py.File(write_masks(made, tmp_path / "a.h5")) as file:
        group = file["calcium_traces"]
        assert group["df_over_f"].shape == made.traces.shape
        masks = [group[name][...] for name in ("train_mask", "valid_mask", "test_mask")]
        assert np.sum(masks, axis=0).max() == 1  # no frame in two parts
        movie = file["natural_movie_one"]
        assert movie["frame_number"].shape == (600, 1)
        assert "repeat" not in movie
        assert set(file["drifting_gratings/orientation"][...]) == set(range(8))
        # The domain ends with the last sample.
        assert file["domain/end"][0] == pytest.approx(5.5 + (len(made.traces) - 1) / 30)


def test_domains_hold_degrees_and_hertz(made: Simulated, tmp_path: Path) -> None:
    with h5py.File(write_domains(made, tmp_path / "a.h5")) as file:
        assert set(file["drifting_gratings/orientation"][...]) == {45.0 * k for k in range(8)}
        hertz = set(file["drifting_gratings/temporal_frequency"][...])
        assert hertz == {1.0, 2.0, 4.0, 8.0, 15.0}
        assert file["running/running_speed"].shape == (len(made.traces), 1)
        assert {"train_domain", "valid_domain", "test_domain"} <= set(file)
        assert file["rois/id"][0] == b"synthetic-1/0"


def test_version_1_holds_inclusive_frame_indices(made: Simulated, tmp_path: Path) -> None:
    with h5py.File(write_nwb1(made, tmp_path / "a.nwb")) as file:
        table = made.stimuli["drifting_gratings"]
        frames = file["stimulus/presentation/drifting_gratings_stimulus/frame_duration"][...]
        assert np.array_equal(frames[:, 0], table.start)
        assert np.array_equal(frames[:, 1], table.stop - 1)
        place = "processing/brain_observatory_pipeline/DfOverF/imaging_plane_1/data"
        assert file[place].shape == made.traces.T.shape


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("rate", [10.0, 31.25])
def test_any_rate_reads_back(write: Any, rate: float, tmp_path: Path) -> None:
    spec = CohortSpec(n_neurons=(4,), n_frames=30, n_repeats=10, n_trials=1, rate_hz=rate)
    made = simulate(spec, 0)
    (session,) = open_sessions(write(made, tmp_path / "a.h5"))
    assert session.rate_hz == pytest.approx(rate, rel=1e-9)
    assert np.array_equal(session.rows(slice(None)), made.traces)
    movie = made.stimuli["natural_movie_one"]
    assert np.array_equal(session.labels["movie_one"][movie.start], movie.values["frame"])
    gratings = made.stimuli["drifting_gratings"]
    assert (session.labels["direction"][gratings.start] == gratings.values["direction"]).all()
    assert (session.labels["direction"][gratings.stop - 1] == gratings.values["direction"]).all()


def test_without_gratings_there_is_a_movie_alone(tmp_path: Path) -> None:
    made = simulate(replace(SPEC, n_trials=0), 1)
    assert list(made.stimuli) == ["natural_movie_one"]
    for write in WRITERS:
        (session,) = open_sessions(write(made, tmp_path / "a.h5"))
        assert "direction" not in session.labels
