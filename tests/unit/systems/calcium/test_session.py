"""Segments, masks, gaps and dead neurons, each against a slow loop over frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocli.core.errors import InputError
from neurocli.systems.calcium import session as module
from neurocli.systems.calcium.discover import describe, find_suite2p
from neurocli.systems.calcium.session import (
    Session,
    centres_of,
    checked_parts,
    cleaned,
    frames_in,
    mask_of,
    n_crossing,
    names_of,
    rate_of,
    runs_of,
)

EMPTY = np.zeros((0, 2), dtype=np.int64)


def session_of(traces: Any, rate_hz: float = 30.0, **parts: Any) -> Session:
    whole = np.array([[0, len(traces)]])
    segments = {"train": whole, "val": EMPTY, "test": EMPTY, **parts}
    return Session(
        name="s",
        traces=traces,
        rate_hz=rate_hz,
        start_s=0.0,
        segments=segments,
        labels={},
        neurons=names_of(traces.shape[1]),
        layout="array",
        split="by hand",
    )


@pytest.fixture
def noise() -> Any:
    return np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)


# Runs and masks


def slow_runs(mask: Any) -> list[list[int]]:
    """Walk over the frames one by one."""
    found: list[list[int]] = []
    for frame, value in enumerate(mask):
        if value and (frame == 0 or not mask[frame - 1]):
            found.append([frame, frame + 1])
        elif value:
            found[-1][1] = frame + 1
    return found


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_those_of_a_walk(seed: int) -> None:
    mask = np.random.default_rng(seed).random(200) < 0.2 + 0.15 * seed
    runs = runs_of(mask)
    assert runs.tolist() == slow_runs(mask)
    assert np.array_equal(mask_of(runs, 200), mask)
    assert frames_in(runs) == mask.sum()


def test_runs_at_the_edges() -> None:
    assert runs_of([]).shape == (0, 2)
    assert runs_of([False, False]).tolist() == []
    assert runs_of([True]).tolist() == [[0, 1]]
    assert mask_of(EMPTY, 3).tolist() == [False] * 3


def test_overlapping_segments_still_make_one_mask() -> None:
    # Frames 1-4 and 3-6: every frame of either, each once.
    mask = mask_of(np.array([[1, 5], [3, 7]]), 8)
    assert np.flatnonzero(mask).tolist() == [1, 2, 3, 4, 5, 6]


def test_parts_are_checked_against_every_earlier_one() -> None:
    frames = np.arange(20)
    masks = {"train": frames < 10, "val": (frames >= 10) & (frames < 15), "test": frames >= 14}
    where = {part: f"f.h5:{part}" for part in masks}
    with pytest.raises(InputError, match="shares 1 frames with the part 'val'") as caught:
        checked_parts(masks, 20, where)
    assert caught.value.where == "f.h5:test"
    masks["test"] = frames >= 15
    found = checked_parts(masks, 20, where)
    assert {part: own.tolist() for part, own in found.items()} == {
        "train": [[0, 10]],
        "val": [[10, 15]],
        "test": [[15, 20]],
    }


def test_parts_that_no_mask_names_are_empty() -> None:
    found = checked_parts({"test": np.ones(4, dtype=bool)}, 4, {"test": "f:t"})
    assert list(found) == ["train", "val", "test"]
    assert found["train"].shape == found["val"].shape == (0, 2)


# Windows


@pytest.mark.parametrize("field", [(0, 1), (2, 3), (5, 5), (18, 18)])
def test_centres_are_those_of_a_walk(field: tuple[int, int]) -> None:
    segments = np.array([[0, 40], [41, 45], [50, 86], [90, 91]])
    inside = mask_of(segments, 100)
    # Slow: every frame whose whole window is inside and does not span a cut (40 and others).
    left, right = field
    expected = [
        centre
        for centre in range(left, 100 - right + 1)
        if inside[centre - left : centre + right].all()
    ]
    assert centres_of(segments, field).tolist() == expected
    # Glued together the segments would be 81 frames long (40 + 4 + 36 + 1).
    assert n_crossing(segments, field) == 81 - sum(field) + 1 - len(expected)


def test_a_segment_as_long_as_the_window_holds_one() -> None:
    assert centres_of(np.array([[7, 17]]), (5, 5)).tolist() == [12]
    assert centres_of(np.array([[7, 16]]), (5, 5)).tolist() == []
    assert centres_of(EMPTY, (5, 5)).tolist() == []
    assert n_crossing(EMPTY, (5, 5)) == 0


# Cleaning


def test_a_clean_session_is_left_as_it_is(noise: Any) -> None:
    found = cleaned(session_of(noise), "f")
    assert found.columns is None
    assert found.traces is noise
    assert found.repairs == ()


def test_gaps_are_filled_on_a_line_and_only_where_missing(noise: Any) -> None:
    holed = noise.copy()
    holed[20:26, 1] = np.nan  # 6 frames at 30 Hz are the 0.2 s that are filled
    found = cleaned(session_of(holed), "f")
    rows = found.rows(slice(None))
    # numpy.interp over the frames that are there, in the neuron that lacks some.
    frames = np.arange(100)
    good = np.isfinite(holed[:, 1])
    expected = np.interp(frames, frames[good], holed[good, 1])
    assert rows[:, 1] == pytest.approx(expected, abs=1e-6)
    others = [0, 2, 3, 4]
    assert np.array_equal(rows[:, others], noise[:, others])
    assert found.segments["train"].tolist() == [[0, 100]]


@pytest.mark.parametrize(
    ("gap", "rate", "left"),
    [
        ((20, 27), 30.0, [[0, 20], [27, 100]]),  # 7 frames are longer than 0.2 s of 30 Hz
        ((20, 23), 10.0, [[0, 20], [23, 100]]),  # 3 frames at 10 Hz are 0.3 s
        ((0, 2), 30.0, [[2, 100]]),  # nothing before it to draw a line from
        ((98, 100), 30.0, [[0, 98]]),  # nothing after it
    ],
)
def test_long_gaps_and_open_ends_are_cut(
    noise: Any, gap: tuple[int, int], rate: float, left: list[list[int]]
) -> None:
    holed = noise.copy()
    holed[gap[0] : gap[1], 2] = np.nan
    found = cleaned(session_of(holed, rate), "f")
    assert found.segments["train"].tolist() == left
    assert np.isnan(found.rows(slice(*gap))).all()  # never zeros
    assert f"{gap[1] - gap[0]} frames in longer NaN gaps" in " ".join(found.repairs)
    assert np.isfinite(found.rows(np.flatnonzero(mask_of(np.array(left), 100)))).all()


def test_infinite_values_are_missing_too(noise: Any) -> None:
    holed = noise.copy()
    holed[50, 3], holed[60, 4] = np.inf, -np.inf
    rows = cleaned(session_of(holed), "f").rows(slice(None))
    assert rows[50, 3] == pytest.approx((noise[49, 3] + noise[51, 3]) / 2, abs=1e-6)
    assert rows[60, 4] == pytest.approx((noise[59, 4] + noise[61, 4]) / 2, abs=1e-6)


def test_dead_neurons_do_not_cut_the_others(noise: Any) -> None:
    holed = noise.copy()
    holed[:, 0] = np.nan
    holed[:, 4] = 7.0
    found = cleaned(session_of(holed), "f")
    assert found.neurons == ("1", "2", "3")
    assert found.n_neurons == 3
    assert found.segments["train"].tolist() == [[0, 100]]
    assert np.array_equal(found.rows(slice(None)), noise[:, 1:4])
    assert np.array_equal(found.rows(np.array([[3, 5]])), noise[[[3, 5]], 1:4])


def test_a_neuron_that_is_constant_where_it_is_known_is_dropped(noise: Any) -> None:
    holed = noise.copy()
    holed[:, 1] = 2.0
    holed[10:20, 1] = np.nan
    assert cleaned(session_of(holed), "f").neurons == ("0", "2", "3", "4")


def test_blocks_change_nothing(noise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    holed = noise.copy()
    holed[31:33, 1] = np.nan
    holed[:, 2] = 1.0
    whole = cleaned(session_of(holed), "f")
    monkeypatch.setattr(module, "_BLOCK", 7)
    small = cleaned(session_of(holed), "f")
    assert small.neurons == whole.neurons
    assert np.array_equal(small.rows(slice(None)), whole.rows(slice(None)))


@pytest.mark.parametrize(
    ("traces", "word"),
    [
        (np.zeros((1, 3)), "holds 1 frames"),
        (np.zeros((0, 3)), "holds 0 frames"),
        (np.zeros((9, 3)), "all 3 neurons are constant or NaN"),
        (np.full((9, 3), np.nan), "all 3 neurons are NaN"),
    ],
)
def test_nothing_that_is_left(traces: Any, word: str) -> None:
    with pytest.raises(InputError, match=word) as caught:
        cleaned(session_of(traces), "file.h5")
    assert caught.value.where == "file.h5"


# Small things


def test_names_must_be_as_many_as_neurons() -> None:
    assert names_of(2, ["a", "b"]) == ("a", "b")
    assert names_of(3, ["a", "b"]) == ("0", "1", "2")
    assert names_of(0, []) == ()


def test_the_rate_is_that_of_the_steps() -> None:
    times = np.cumsum(np.full(50, 0.04))
    # 49 steps of 0.04 s: 25 per second, whatever the first time is.
    assert rate_of(times, "f") == pytest.approx(25.0)
    with pytest.raises(InputError, match="does not run forward") as caught:
        rate_of(-times, "f.h5:t")
    assert caught.value.where == "f.h5:t"


def test_times_of_frames(noise: Any) -> None:
    session = replace(session_of(noise, 20.0), start_s=3.0)
    assert session.times_s[[0, 1, 99]].tolist() == pytest.approx([3.0, 3.05, 3.0 + 99 / 20])


def test_the_description_warns_of_short_segments(noise: Any) -> None:
    parts = np.array([[k, k + 9] for k in range(0, 100, 10)])
    session = session_of(noise, train=parts)
    assert "no training segment is as long as the 10 frames" in describe(session)
    # Two segments of 50: 91 windows when glued, 41 in each, so 9 of 91 would cross the cut.
    session = session_of(noise, train=np.array([[0, 50], [50, 100]]))
    assert "9.9 % of offset10 windows" in describe(session)
    assert "risk" not in describe(session_of(noise))


def test_planes_are_looked_for_by_name(tmp_path: Path) -> None:
    (tmp_path / "m" / "plane0").mkdir(parents=True)
    np.save(tmp_path / "m" / "plane0" / "F.npy", np.random.default_rng(0).random((3, 90)))
    np.save(tmp_path / "other.npy", np.random.default_rng(0).random((90, 3)))
    found = find_suite2p([tmp_path], {"rate_hz": 30.0})
    assert [item.subject for item in found.items] == ["m"]
    with pytest.raises(InputError, match="holds no suite2p plane"):
        find_suite2p([tmp_path / "other.npy"], {"rate_hz": 30.0})
