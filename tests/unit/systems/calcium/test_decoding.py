"""Neighbours, ridge and choice of settings: tiny cases by hand, slow loops, scikit-learn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurocli.systems.calcium.decoding import (
    NEIGHBOURS,
    PENALTIES,
    Side,
    decode,
    is_right,
    neighbours,
    phase,
    r2_of,
    ridge,
    smoothed,
)
from neurocli.systems.calcium.labels import LabelSpec
from neurocli.systems.calcium.templates import template_frames

CLASSES = LabelSpec("direction", "class", 4)
MOVIE = LabelSpec("movie_one", "movie", 40, 3)
NUMBER = LabelSpec("place", "number")


def side(x: Any, y: Any, segment: Any = None) -> Side:
    """Return windows in one segment, or in those that are given."""
    wide = np.asarray(x, dtype=np.float32)
    own = np.zeros(len(wide)) if segment is None else segment
    return Side(wide, np.asarray(y), np.asarray(own, dtype=np.int64), np.arange(len(wide)))


def at_angles(*degrees: float) -> npt.NDArray[np.float32]:
    """Return vectors of the plane at angles."""
    turned = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)


def votes(order: list[int]) -> float:
    """Return what neighbours of these classes, the nearest first, vote for."""
    fit = side(at_angles(*(1.0 + np.arange(len(order)))), order)
    return float(neighbours(fit, at_angles(0), [len(order)], CLASSES)[len(order)][0])


@pytest.mark.parametrize(("order", "winner"), [
    ([0, 1, 1], 1),  # a majority beats the nearest
    ([2, 1], 2),  # one each: the nearest wins, not the smaller number
    ([1, 0, 0, 1], 1),
    ([3, 1, 1, 2, 2], 1),  # 2 against 2: the class that comes first
    ([0, *[1] * 20, *[0] * 19, 3], 0),  # 20 against 20: the nearest still wins
    ([3, 2, *[1] * 15, *[2] * 14], 2),
])  # fmt: skip
def test_the_nearest_wins_a_tie(order: list[int], winner: int) -> None:
    assert votes(order) == winner


def test_votes_equal_a_slow_count() -> None:
    rng = np.random.default_rng(0)
    x, y, asked = rng.normal(size=(90, 3)), rng.integers(0, 4, 90), rng.normal(size=(25, 3))
    found = neighbours(side(x, y), asked.astype(np.float32), list(NEIGHBOURS), CLASSES)
    for row, one in enumerate(asked):
        cosine = [float(one @ v) / float(np.linalg.norm(v) * np.linalg.norm(one)) for v in x]
        order = sorted(range(90), key=lambda i: -cosine[i])
        for k in NEIGHBOURS:
            near = [int(y[i]) for i in order[:k]]
            counts = Counter(near)
            best = max(counts, key=lambda c: (counts[c], -near.index(c)))
            assert found[k][row] == best


def test_more_neighbours_than_windows_are_all_of_them() -> None:
    x, y = at_angles(10, 20, 30), [1, 1, 2]
    found = neighbours(side(x, y), at_angles(0, 29), [2, 3, 41], CLASSES)
    assert found[2].tolist() == [1, 2]  # at 29 degrees: 30 and 20, one each, the nearest wins
    assert found[3].tolist() == found[41].tolist() == [1, 1]


def test_only_the_direction_of_an_embedding_counts() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 4)).astype(np.float32), rng.integers(0, 4, 60)
    asked = rng.normal(size=(20, 4)).astype(np.float32)
    plain = neighbours(side(x, y), asked, [5], CLASSES)[5]
    long = x * rng.uniform(0.1, 9, (60, 1)).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0].astype(np.float32)
    assert np.array_equal(neighbours(side(long, y), 7 * asked, [5], CLASSES)[5], plain)
    assert np.array_equal(neighbours(side(x @ turn, y), asked @ turn, [5], CLASSES)[5], plain)
    assert not np.array_equal(neighbours(side(x @ turn, y), asked, [5], CLASSES)[5], plain)


def test_pieces_of_a_long_request_change_nothing() -> None:
    # 1024 windows are asked for at a time; 2100 make three pieces, the last one short.
    rng = np.random.default_rng(2)
    fit = side(rng.normal(size=(50, 3)), rng.integers(0, 4, 50))
    asked = rng.normal(size=(2100, 3)).astype(np.float32)
    whole = neighbours(fit, asked, [1, 7], CLASSES)
    for start in (0, 700, 1400):
        part = neighbours(fit, asked[start : start + 700], [1, 7], CLASSES)
        assert all(np.array_equal(part[k], whole[k][start : start + 700]) for k in (1, 7))


def test_a_zero_embedding_is_no_division_by_zero() -> None:
    found = neighbours(side(at_angles(0, 90), [1, 2]), np.zeros((1, 2), "f4"), [2], CLASSES)[2]
    assert found[0] in (1, 2)


def test_movie_frames_are_the_angle_of_the_mean_of_neighbours() -> None:
    # scikit-learn averages cosine and sine of the same neighbours; the angle gives the frame.
    rng = np.random.default_rng(3)
    x, asked = rng.normal(size=(120, 3)), rng.normal(size=(30, 3))
    y = rng.integers(0, 40, 120)
    unit, other = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, asked))
    mean = KNeighborsRegressor(5).fit(unit, phase(y, 40)).predict(other)
    expected = np.round(np.arctan2(mean[:, 1], mean[:, 0]) / (2 * np.pi) * 40) % 40
    assert np.array_equal(neighbours(side(x, y), asked.astype("f4"), [5], MOVIE)[5], expected)


def test_phase_by_hand() -> None:
    # A quarter, half and three quarters of 40 frames; 40 is 0 again.
    expected = [[1, 0], [0, 1], [-1, 0], [0, -1], [1, 0]]
    assert np.allclose(phase(np.array([0, 10, 20, 30, 40]), 40), expected, atol=1e-12)


@pytest.mark.parametrize(("target", "found", "is_hit"), [
    (0, 37, True), (0, 36, False), (39, 2, True), (39, 3, False), (20, 17, True), (20, 24, False),
])  # fmt: skip
def test_frames_count_around_the_end_of_the_movie(target: int, found: int, is_hit: bool) -> None:
    assert is_right(MOVIE, np.array([target]), np.array([found])).tolist() == [is_hit]


def test_classes_do_not_go_round() -> None:
    assert is_right(CLASSES, np.array([0, 3]), np.array([3, 3])).tolist() == [False, True]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_ridge_equals_a_pipeline_of_scikit_learn(penalty: float) -> None:
    rng = np.random.default_rng(4)
    x = (rng.normal(size=(40, 6)) * [1, 5, 0.1, 2, 1, 30] + 3).astype(np.float32)
    y, asked = rng.normal(size=(40, 3)), rng.normal(size=(7, 6)).astype(np.float32)
    model = make_pipeline(StandardScaler(), Ridge(alpha=penalty)).fit(x.astype(float), y)
    assert np.allclose(ridge(x, y, asked, penalty), model.predict(asked.astype(float)), rtol=1e-5)


def test_ridge_by_hand() -> None:
    # x = -1, 1 has unit spread, x'x = 2, x'y = 4 and mean 5: slope 4 / (2 + 2) = 1.
    x, y = np.array([[-1.0], [1.0]], dtype=np.float32), np.array([[3.0], [7.0]])
    asked = np.array([[0.0], [2.0]], dtype=np.float32)
    assert np.allclose(ridge(x, y, asked, 2.0), [[5.0], [7.0]])


def test_ridge_ends_at_the_mean_and_ignores_constant_columns() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=(30, 1))
    asked = rng.normal(size=(5, 3)).astype(np.float32)
    assert np.allclose(ridge(x, y, asked, 1e12), y.mean(), atol=1e-6)
    constant = np.column_stack([x, np.full(30, 0.5, dtype=np.float32)])
    with_it = ridge(constant, y, np.column_stack([asked, np.full(5, 0.5, "f4")]), 1.0)
    assert np.allclose(with_it, ridge(x, y, asked, 1.0), atol=1e-9)


def test_ridge_solves_more_columns_than_rows() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(5, 40)).astype(np.float32), rng.normal(size=(5, 2))
    model = make_pipeline(StandardScaler(), Ridge(alpha=0.01)).fit(x.astype(float), y)
    assert np.allclose(ridge(x, y, x, 0.01), model.predict(x.astype(float)), atol=1e-5)


def test_r2_is_scikit_learns_with_columns_weighed_by_variance() -> None:
    rng = np.random.default_rng(7)
    target, found = rng.normal(size=(20, 3)) * [1, 2, 9], rng.normal(size=(20, 3))
    expected = r2_score(target, found, multioutput="variance_weighted")
    assert r2_of(np.concatenate([target, found], 1)) == pytest.approx(expected)
    assert np.isnan(r2_of(np.ones((4, 2))))  # nothing varies, so no share of it is explained


def test_numbers_take_the_penalty_that_validation_likes_best() -> None:
    rng = np.random.default_rng(8)
    x, noise = rng.normal(size=(30, 20)), rng.normal(size=30)
    fit = side(x, x[:, 0] + 2 * noise)
    choose, judge = (
        side(own, own[:, 0]) for own in (rng.normal(size=(80, 20)), rng.normal(size=(9, 20)))
    )
    found = decode(NUMBER, fit, choose, judge)
    errors = []
    for penalty in PENALTIES:
        model = make_pipeline(StandardScaler(), Ridge(alpha=penalty)).fit(x, fit.y)
        errors.append(np.square(model.predict(choose.x) - choose.y).mean())
    assert found.setting == {"penalty": PENALTIES[int(np.argmin(errors))]}
    assert found.hit is None
    assert found.target.shape == found.predicted.shape == (9, 1)
    assert found.wave is not None
    assert np.array_equal(found.wave, np.concatenate([found.target, found.predicted], 1))


def test_equal_scores_take_more_neighbours_and_no_validation_takes_the_usual() -> None:
    # Two classes at right angles, 50 windows of each: every k up to 41 is always right.
    y = np.repeat([0, 1], 50)
    x = at_angles(*np.where(y == 0, 0, 90) + np.linspace(0, 5, 100))
    every = side(x, y, np.arange(100))
    assert decode(CLASSES, every, every, every).setting == {"k": 41}
    assert decode(CLASSES, every, None, every).setting == {"k": 11}
    assert decode(NUMBER, every, None, every).setting == {"penalty": 1.0}


def test_a_single_neighbour_is_chosen_when_more_mislead() -> None:
    # Validation repeats the fitted windows exactly, and all others around are of random classes.
    rng = np.random.default_rng(9)
    n = 120
    x, y = rng.normal(size=(n, 2)), rng.integers(0, 4, n)
    own = side(x, y, np.arange(n))
    found = decode(CLASSES, own, own, own)
    assert found.setting == {"k": 1}
    assert found.hit is not None
    assert found.hit.mean() == 1.0


def test_presentations_are_judged_once_by_their_mean() -> None:
    # Runs of one class in one segment are presentations: 0 0 | 1 1 | 1 (a new segment).
    x = np.array([[1.0, 0.1], [1.0, -0.1], [0.0, 1.0], [0.2, 1.0], [0.0, 2.0]])
    y, segment = [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]
    judge = side(x, y, segment)
    found = decode(CLASSES, side(at_angles(0, 90), [0, 1], [0, 1]), None, judge)
    assert found.target.tolist() == [0, 1, 1]
    assert found.predicted.tolist() == [0, 1, 1]
    assert found.centre.tolist() == [0, 2, 4]
    assert found.wave is None


def test_one_class_alone_is_always_right() -> None:
    own = side(np.random.default_rng(10).normal(size=(12, 3)), np.full(12, 2), np.arange(12))
    found = decode(CLASSES, own, None, own)
    assert found.hit is not None
    assert found.hit.tolist() == [1.0] * 12


def test_a_movie_is_decoded_both_as_frame_and_as_wave() -> None:
    frame = np.tile(np.arange(40), 3)
    x = phase(frame, 40).astype(np.float32)
    found = decode(MOVIE, side(x, frame), side(x, frame), side(x[:40], frame[:40]))
    assert found.hit is not None
    assert found.wave is not None
    assert found.hit.mean() == 1.0
    assert found.wave.shape == (40, 4)
    assert np.allclose(found.wave[:, :2], phase(frame[:40], 40))
    # The smallest penalty shrinks by 120 / (120 + 0.01); r2 loses the square of the rest.
    assert r2_of(found.wave) == pytest.approx(1, abs=1e-6)
    assert found.setting["penalty"] == min(PENALTIES)


def test_smoothing_is_the_mean_of_neighbours_in_one_stretch() -> None:
    # Frames 0 to 6 of segment 0 without frame 3, then two frames of segment 1.
    centre, segment = [0, 1, 2, 4, 5, 6, 7, 8], [0, 0, 0, 0, 0, 0, 1, 1]
    x = np.arange(16, dtype=np.float32).reshape(8, 2) ** 2
    found = smoothed(Side(x, np.arange(8), np.array(segment), np.array(centre)), 3)
    runs = [(0, 3), (3, 6), (6, 8)]
    for a, b in runs:
        for at in range(a, b):
            own = x[max(a, at - 1) : min(b, at + 2)].astype(np.float64)
            assert found.x[at] == pytest.approx(own.mean(0))
    assert np.array_equal(found.y, np.arange(8))
    assert smoothed(found, 1) is found


def test_the_stretch_is_chosen_on_validation_and_single_windows_are_told_too() -> None:
    # One turn in 40 frames; noise of the size of the signal, new in every presentation.
    rng = np.random.default_rng(0)

    def shown(n: int) -> Side:
        frame = np.tile(np.arange(40), n)
        x = phase(frame, 40) + rng.normal(size=(40 * n, 2))
        return Side(x.astype(np.float32), frame, np.zeros(40 * n, dtype=np.int64),
                    np.arange(40 * n))  # fmt: skip

    sides = shown(30), shown(10), shown(10)
    found = decode(MOVIE, *sides, rate_hz=9.0)
    assert found.setting["smoothing_s"] > 0
    assert found.hit is not None
    assert found.hit.mean() > found.setting["accuracy_single"] + 0.1
    assert found.wave is not None
    assert r2_of(found.wave) > found.setting["r2_single"] + 0.1
    # By hand: windows of the chosen stretch, and the templates that they are nearest to.
    width = 9.0 * found.setting["smoothing_s"]
    known, asked = smoothed(sides[0], width), smoothed(sides[2], width)
    chosen = (found.setting["template_width"], found.setting["shrinkage"])
    (by_hand,) = next(iter(template_frames((known.x, known.y), [asked.x], 40, [chosen])))
    assert np.array_equal(found.predicted, by_hand)
    # Without a validation part nothing is chosen.
    usual = decode(MOVIE, sides[0], None, sides[2])
    assert usual.setting["smoothing_s"] == 0
    assert usual.hit is not None
    assert usual.setting["accuracy_single"] == usual.hit.mean()
