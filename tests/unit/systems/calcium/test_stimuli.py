"""Tables of stimuli to labels and parts: codes, units, edges, presentations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurocli.systems.calcium.session import Table, mask_of
from neurocli.systems.calcium.stimuli import (
    canonical,
    coded,
    column,
    derived_parts,
    frame_labels,
    frames_of,
    with_repeats,
)


def slow_frames(start: float, stop: float, first: float, rate: float) -> list[int]:
    """Ask every frame whether its time lies in the interval."""
    return [k for k in range(2000) if start - 1e-9 <= first + k / rate < stop - 1e-9]


@pytest.mark.parametrize("rate", [7.5, 30.0, 31.25])
def test_intervals_hold_the_frames_whose_time_they_hold(rate: float) -> None:
    rng = np.random.default_rng(0)
    start = rng.uniform(5, 30, 40)
    stop = start + rng.uniform(0, 3, 40)
    first, last = frames_of(start, stop, (5.5, rate))
    for number in range(40):
        expected = slow_frames(start[number], stop[number], 5.5, rate)
        assert list(range(first[number], last[number])) == expected


def test_intervals_on_the_frames_are_exact() -> None:
    # 10 / 30 s and the like are no binary fractions: rounding must not move an edge.
    frames = np.arange(5000)
    first, last = frames_of(5.5 + frames / 30.0, 5.5 + (frames + 1) / 30.0, (5.5, 30.0))
    assert np.array_equal(first, frames)
    assert np.array_equal(last, frames + 1)


def test_intervals_before_the_recording_and_without_an_edge() -> None:
    start = np.array([-9.0, 0.0, np.nan, 1.0, 2.0])
    stop = np.array([-5.0, 1.0, 5.0, np.nan, np.inf])
    first, last = frames_of(start, stop, (0.0, 10.0))
    assert (last - first).tolist() == [0, 10, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "values", "spelling", "expected"),
    [
        ("direction", [0.0, 45.0, 90.0, 315.0, 360.0], "orientation", [0, 1, 2, 7, 0]),
        ("direction", [0.0, 1.0, 7.0], "orientation_id", [0, 1, 7]),
        ("direction", [np.nan, 270.0], "orientation", [-1, 6]),
        ("orientation", [0.0, 30.0, 150.0], "orientation", [0, 1, 5]),
        ("orientation", [0.0, 5.0], "orientation_id", [0, 5]),
        # 1 2 4 8 15 Hz are steps 0 to 4; in Hz by name even where no value is above 4.
        ("temp_freq", [1.0, 2.0, 4.0, 8.0, 15.0], "temp_freq", [0, 1, 2, 3, 4]),
        ("temp_freq", [1.0, 2.0, 4.0], "temporal_frequency", [0, 1, 2]),
        ("temp_freq", [0.0, 1.0, 4.0], "temporal_frequency_id", [0, 1, 4]),
        ("temp_freq", [np.nan, 15.0], "temporal_frequency", [-1, 4]),
        ("frame", [0.0, 899.0, np.nan], "frame", [0, 899, -1]),
        ("frame", [], "frame", []),
    ],
)
def test_codes_and_units(name: str, values: Any, spelling: str, expected: list[int]) -> None:
    assert coded(name, np.array(values, dtype=float), spelling).tolist() == expected


def test_the_first_known_spelling_is_taken() -> None:
    values = {"orientation": np.array([90.0]), "orientation_id": np.array([[2]])}
    found = column(values, "direction")
    assert found is not None
    assert (found[0], found[1].tolist()) == ("orientation_id", [2.0])
    assert column(values, "frame") is None
    empty = column({"frame": np.zeros(0)}, "frame")
    assert empty is not None
    assert empty[1].shape == (0,)


def test_repeats_count_how_often_a_frame_came_before() -> None:
    frames = np.random.default_rng(0).integers(0, 9, 300)
    seen: dict[int, int] = {}
    expected = []
    for frame in frames.tolist():  # slow: a count per frame
        expected.append(seen.get(frame, 0))
        seen[frame] = expected[-1] + 1
    assert with_repeats(frames).tolist() == expected
    assert with_repeats(np.zeros(0, dtype=np.int64)).tolist() == []


def test_rows_are_sorted_and_empty_ones_left_out() -> None:
    table = Table(
        np.array([30, 10, 20, 40]),
        np.array([35, 15, 20, 39]),
        {"orientation": np.array([90.0, 0.0, 45.0, 315.0]), "odd": np.zeros(4)},
    )
    found = canonical("drifting_gratings", table)
    assert found.start.tolist() == [10, 30]
    assert found.stop.tolist() == [15, 35]
    assert {name: v.tolist() for name, v in found.values.items()} == {"direction": [0, 2]}


def test_labels_are_those_of_a_loop_over_rows() -> None:
    rng = np.random.default_rng(3)
    start = np.sort(rng.integers(0, 480, 30))
    stop = start + rng.integers(1, 40, 30)
    shown = rng.integers(0, 8, 30)
    labels = frame_labels(
        {"drifting_gratings": Table(start, stop, {"direction": shown})}, n_frames=500
    )
    expected = np.full(500, -1)
    for a, b, value in zip(start, stop, shown, strict=True):
        expected[a:b] = value
    assert np.array_equal(labels["direction"], expected)
    assert labels["direction"].dtype == np.int32


def test_labels_outside_the_recording_are_cut() -> None:
    table = Table(np.array([8, 50]), np.array([15, 60]), {"frame": np.array([3, 4])})
    labels = frame_labels({"natural_scenes": table}, 10)
    assert labels["scene"].tolist() == [-1] * 8 + [3, 3]


# Parts


def test_trials_are_shuffled_70_10_20_and_always_the_same() -> None:
    start = 10 * np.arange(50)
    table = {"drifting_gratings": Table(start, start + 5, {"direction": start % 8})}
    parts, text = derived_parts(table, 500, 30.0)
    assert {part: len(own) for part, own in parts.items()} == {"train": 35, "val": 5, "test": 10}
    assert "70/10/20" in text
    every = sorted(a for own in parts.values() for a, _ in own.tolist())
    assert every == start.tolist()  # each trial in one part, none cut
    assert parts["train"][:, 0].tolist() != start[:35].tolist()  # not the first ones
    again, _ = derived_parts(table, 500, 30.0)
    assert all(np.array_equal(parts[part], again[part]) for part in parts)


@pytest.mark.parametrize(
    ("n_repeats", "expected"),
    [(10, (8, 1, 1)), (20, (16, 2, 2)), (5, (4, 1, 0)), (3, (2, 1, 0)), (1, (1, 0, 0))],
)
def test_presentations_go_in_their_order(n_repeats: int, expected: tuple[int, ...]) -> None:
    # round(0.8 n) for training and round(0.1 n) for validation, at least one where one is left.
    repeat = np.arange(n_repeats)
    table = Table(10 * repeat, 10 * repeat + 10, {"frame": 0 * repeat, "repeat": repeat})
    parts, _ = derived_parts({"natural_movie_one": table}, 10 * n_repeats, 30.0)
    counts = [int(mask_of(parts[part], 10 * n_repeats).sum()) for part in ("train", "val", "test")]
    assert counts == [10 * count for count in expected]
    assert parts["train"].tolist() == [[0, 10 * expected[0]]]


def test_presentations_that_touch_share_no_frame() -> None:
    rng = np.random.default_rng(0)
    start = np.sort(rng.integers(0, 900, 80))
    table = Table(start, start + 15, {"direction": start % 8})
    parts, _ = derived_parts({"drifting_gratings": table}, 1000, 30.0)
    total = sum(mask_of(own, 1000).astype(int) for own in parts.values())
    assert np.max(total) == 1
    # Together they hold each frame that any presentation holds (a loop over rows).
    shown = np.zeros(1000, dtype=int)
    for a in start:
        shown[a : a + 15] = 1
    assert np.array_equal(total, shown)


def test_a_short_recording_has_no_room_for_all_parts() -> None:
    parts, _ = derived_parts({}, 100, 30.0)
    # 30 frames between the parts swallow the 10 of validation: 70 + 30 > 80; 80 + 30 > 100.
    assert {part: own.tolist() for part, own in parts.items()} == {
        "train": [[0, 70]],
        "val": [],
        "test": [],
    }
