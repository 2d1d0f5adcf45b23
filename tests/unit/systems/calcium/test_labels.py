"""Which labels are used, how they become classes and values, and labels spoiled on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurocli.core.errors import UsageError
from neurocli.systems.calcium.labels import (
    LabelSpec,
    classes_and_values,
    find_specs,
    trials_of,
    truth_spec,
    with_null,
)
from neurocli.systems.calcium.session import Session

EMPTY = np.zeros((0, 2), dtype=np.int64)
N = 600


def session_of(rate_hz: float = 30.0, **labels: Any) -> Session:
    return Session(
        name="s",
        traces=np.zeros((N, 2), dtype=np.float32),
        rate_hz=rate_hz,
        start_s=0.0,
        segments={"train": np.array([[0, N]]), "val": EMPTY, "test": EMPTY},
        labels=labels,
        neurons=("0", "1"),
        layout="array",
        split="by hand",
    )


@pytest.fixture
def movie() -> Any:
    """Return 5 presentations of a movie of 100 frames, and 100 frames without it."""
    return np.r_[np.tile(np.arange(100), 5), np.full(100, -1)].astype(np.int32)


@pytest.fixture
def direction() -> Any:
    """Return nothing for 500 frames, then 10 trials of 8 frames with 2 between."""
    found = np.full(N, -1, dtype=np.int32)
    for trial in range(10):
        found[500 + 10 * trial : 508 + 10 * trial] = trial % 8
    return found


# Which labels


def test_kinds_periods_and_tolerances(movie: Any, direction: Any) -> None:
    specs, notes = find_specs([session_of(movie_one=movie, direction=direction)], None)
    assert specs == [
        # A second of movie is 30 frames, at most a quarter of the movie: 25 of 100.
        LabelSpec("movie_one", "movie", 100, 25),
        LabelSpec("direction", "class", 8),
    ]
    assert notes == []
    long = np.arange(N, dtype=np.int32)
    (spec,), _ = find_specs([session_of(movie_two=long)], None)
    assert (spec.period, spec.tolerance) == (600, 30)


def test_the_period_is_that_of_all_sessions() -> None:
    first, second = np.zeros(N, dtype=np.int32), np.full(N, 6, dtype=np.int32)
    (spec,), _ = find_specs([session_of(lap=first), session_of(lap=second)], None)
    assert spec == LabelSpec("lap", "class", 7)


def test_nuisances_are_used_only_when_named(movie: Any) -> None:
    speed = np.zeros(N, dtype=np.float32)
    session = session_of(movie_one=movie, movie_one_repeat=movie // 100, running=speed)
    assert [spec.name for spec in find_specs([session], None)[0]] == ["movie_one"]
    specs, _ = find_specs([session], " running , movie_one_repeat,")
    assert [(spec.name, spec.kind) for spec in specs] == [
        ("running", "number"),
        ("movie_one_repeat", "class"),
    ]


def test_labels_of_some_sessions_alone(movie: Any, direction: Any) -> None:
    sessions = [session_of(movie_one=movie, direction=direction), session_of(movie_one=movie)]
    specs, notes = find_specs(sessions, None)
    assert [spec.name for spec in specs] == ["movie_one"]
    assert notes == ["labels that not every session has are not used: direction"]
    with pytest.raises(UsageError, match="'direction' is not in every session") as caught:
        find_specs(sessions, "direction")
    assert "movie_one" in str(caught.value.hint)
    assert find_specs([session_of()], None) == ([], [])
    with pytest.raises(UsageError) as caught:
        find_specs([session_of()], "lap")
    assert "none" in str(caught.value.hint)


def test_the_truth_must_be_known_of_all() -> None:
    known, unknown = session_of(truth=np.zeros((N, 4))), session_of()
    assert truth_spec([known, known]) == [LabelSpec("truth", "number")]
    assert truth_spec([known, unknown]) == []


# Classes and values


def test_stimuli_unite(movie: Any, direction: Any) -> None:
    session = session_of(movie_one=movie, direction=direction)
    specs, _ = find_specs([session], None)
    key, value = classes_and_values(session, specs)
    for frame in range(N):  # slow: one frame at a time
        if movie[frame] >= 0:
            assert (key[frame], value[frame, 0]) == (0, movie[frame])
        elif direction[frame] >= 0:
            assert (key[frame], value[frame, 0]) == (1 + direction[frame], 0)
        else:
            assert key[frame] == -1


def test_classes_of_two_stimuli_do_not_meet(direction: Any) -> None:
    scene = np.full(N, -1, dtype=np.int32)
    scene[:100] = np.arange(100) % 4
    session = session_of(direction=direction, scene=scene)
    key, _ = classes_and_values(session, find_specs([session], None)[0])
    # Eight directions are classes 0 to 7, the scenes follow.
    assert key[:100].tolist() == [8 + number % 4 for number in range(100)]
    assert np.array_equal(key[500:], direction[500:])


def test_classes_multiply_and_numbers_stand_side_by_side() -> None:
    rng = np.random.default_rng(0)
    lap, side = rng.integers(-1, 3, N), rng.integers(-1, 2, N)
    place = rng.random((N, 2))
    place[::7, 1] = np.nan
    speed = rng.random(N)
    session = session_of(lap=lap, side=side, place=place, speed=speed)
    specs, _ = find_specs([session], "lap,side,place,speed")
    key, value = classes_and_values(session, specs)
    assert value.shape == (N, 3)
    for frame in range(N):
        missing = lap[frame] < 0 or side[frame] < 0 or np.isnan(place[frame]).any()
        assert key[frame] == (-1 if missing else 2 * lap[frame] + side[frame])
        if not missing:
            assert value[frame].tolist() == [*place[frame], speed[frame]]


def test_stimuli_do_not_mix_with_other_labels(movie: Any) -> None:
    session = session_of(movie_one=movie, running=np.zeros(N, dtype=np.float32))
    specs, _ = find_specs([session], "movie_one,running")
    with pytest.raises(UsageError, match="movie_one, running mix stimuli"):
        classes_and_values(session, specs)


# Labels that say nothing


def test_without_a_null_nothing_changes(movie: Any) -> None:
    session = session_of(movie_one=movie)
    assert with_null(session, find_specs([session], None)[0], "none", 0) is session


def test_shuffled_frames_are_the_same_in_every_presentation(movie: Any) -> None:
    session = session_of(movie_one=movie)
    specs, _ = find_specs([session], None)
    found = with_null(session, specs, "shuffle", 0).labels["movie_one"]
    once = found[:100]
    assert sorted(once) == list(range(100))
    assert once.tolist() != list(range(100))
    assert np.array_equal(found[:500], np.tile(once, 5))
    assert (found[500:] == -1).all()
    assert np.array_equal(session.labels["movie_one"], movie)  # the session is left alone


def test_shuffled_classes_keep_their_trials(direction: Any) -> None:
    session = session_of(direction=direction)
    specs, _ = find_specs([session], None)
    found = with_null(session, specs, "shuffle", 1).labels["direction"]
    assert np.array_equal(found >= 0, direction >= 0)
    trials = found[500:].reshape(10, 10)[:, :8]
    assert (trials == trials[:, :1]).all()
    assert sorted(trials[:, 0]) == sorted(trial % 8 for trial in range(10))
    assert trials[:, 0].tolist() != [trial % 8 for trial in range(10)]


def test_shuffled_numbers_are_the_same_numbers() -> None:
    values = np.random.default_rng(0).random((N, 2)).astype(np.float32)
    values[50:60] = np.nan
    session = session_of(place=values)
    specs, _ = find_specs([session], None)
    found = with_null(session, specs, "shuffle", 0).labels["place"]
    assert np.isnan(found[50:60]).all()
    known = ~np.isnan(values).any(1)
    # Rows stay whole: the same pairs in another order.
    assert sorted(map(tuple, found[known])) == sorted(map(tuple, values[known]))
    assert not np.array_equal(found[known], values[known])


@pytest.mark.parametrize("seed", range(5))
def test_a_shift_turns_labels_by_ten_seconds_at_least(seed: int) -> None:
    values = np.arange(N, dtype=np.float32)
    session = session_of(rate_hz=10.0, place=values)
    specs, _ = find_specs([session], None)
    found = with_null(session, specs, "shift", seed).labels["place"]
    step = int(found[0])
    assert np.array_equal(found, np.roll(values, -step))
    assert 100 <= step <= 500  # 10 s at 10 Hz, from either side


def test_nulls_depend_on_the_seed_and_on_nothing_else(direction: Any) -> None:
    session = session_of(direction=direction)
    specs, _ = find_specs([session], None)
    found = [with_null(session, specs, "shuffle", seed).labels["direction"] for seed in (3, 3, 4)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_trials_end_where_the_class_or_the_segment_does() -> None:
    values, segment = np.array([2, 2, 5, 5, 5, 5, 2]), np.array([0, 0, 0, 0, 1, 1, 1])
    assert trials_of(values, segment).tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert trials_of(values[:0], segment[:0]).tolist() == []
