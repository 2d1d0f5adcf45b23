"""Laws of the samplers, against the laws written out and against slow obvious versions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neurocli.core.errors import NeuroError
from neurocli.systems.calcium.sampling import LabelPairs, Points, TimePairs
from neurocli.systems.calcium.session import centres_of

FIELD = (5, 5)


def points(segments: list[tuple[int, int]], key: object = None, value: object = None) -> Points:
    bounds = np.array(segments)
    centre = centres_of(bounds, FIELD)
    segment = np.searchsorted(bounds[:, 0], centre, side="right") - 1
    n = len(centre)
    keys = np.zeros(n, dtype=np.int64) if key is None else np.asarray(key)
    values = np.zeros((n, 1)) if value is None else np.asarray(value, dtype=float).reshape(n, -1)
    return Points(centre, segment, keys, values)


# Gaps of one frame and lengths that barely hold a window: the worst case for glued masks.
CUTS = [(0, 60), (61, 73), (80, 240), (241, 262), (300, 420)]


def test_a_million_draws_never_cross_a_cut() -> None:
    own = points(CUTS)
    inside = np.zeros(500, dtype=int)
    for number, (start, stop) in enumerate(CUTS):
        inside[start:stop] = number + 1
    sampler = TimePairs([own], (10,))
    pairs = sampler.draw(np.random.default_rng(0), 1_000_000)
    ref, pos = own.centre[pairs.ref[0]], own.centre[pairs.pos[0]]
    assert np.array_equal(pos - ref, np.full(len(ref), 10))
    for centre in (ref, pos, own.centre[pairs.neg[0]]):
        first, last = inside[centre - 5], inside[centre + 4]
        assert (first == last).all()
        assert (first > 0).all()
    assert (inside[ref] == inside[pos]).all()


def test_time_references_and_negatives_are_uniform() -> None:
    own = points(CUTS)
    pairs = TimePairs([own], (10,)).draw(np.random.default_rng(1), 400_000)
    allowed = [i for i, c in enumerate(own.centre) if c + 10 in set(own.centre) and any(
        a <= c - 5 and c + 15 <= b for a, b in CUTS)]  # fmt: skip
    counts = np.bincount(pairs.ref[0], minlength=len(own.centre))
    assert np.flatnonzero(counts).tolist() == allowed
    assert stats.chisquare(counts[allowed]).pvalue > 1e-3
    negatives = np.bincount(pairs.neg[0], minlength=len(own.centre))
    assert stats.chisquare(negatives).pvalue > 1e-3


def test_several_offsets_are_drawn_evenly() -> None:
    pairs = TimePairs([points([(0, 500)])], (1, 7)).draw(np.random.default_rng(2), 100_000)
    steps = pairs.pos[0] - pairs.ref[0]
    assert set(steps) == {1, 7}
    assert abs((steps == 1).mean() - 0.5) < 0.01  # 6 standard errors


def test_labels_own_steps_find_the_exact_nearest_value() -> None:
    rng = np.random.default_rng(3)
    n = len(centres_of(np.array([[0, 700]]), FIELD))
    walk = np.cumsum(rng.normal(size=n))
    own = points([(0, 700)], value=walk)
    sampler = LabelPairs([own], 10)
    pairs = sampler.draw(np.random.default_rng(4), 2000)
    # The same stream again gives the steps, then brute force finds the nearest value.
    again = np.random.default_rng(4)
    ref = again.integers(0, n, 2000)
    again.integers(0, n, 2000)
    steps = walk[10:] - walk[:-10]
    query = walk[ref] + steps[again.integers(0, len(steps), 2000)]
    brute = np.abs(query[:, None] - walk[None]).argmin(1)
    assert np.array_equal(pairs.ref[0], ref)
    assert np.array_equal(pairs.pos[0], brute)


def test_labels_of_several_columns_find_the_exact_nearest_value() -> None:
    rng = np.random.default_rng(5)
    n = len(centres_of(np.array([[0, 500]]), FIELD))
    walk = np.cumsum(rng.normal(size=(n, 3)), axis=0)
    pairs = LabelPairs([points([(0, 500)], value=walk)], 10, delta=0.5).draw(
        np.random.default_rng(6), 500
    )
    again = np.random.default_rng(6)
    ref = again.integers(0, n, 500)
    again.integers(0, n, 500)
    query = walk[ref] + again.normal(0, 0.5, (500, 3))
    brute = np.square(query[:, None] - walk[None]).sum(-1).argmin(1)
    assert np.array_equal(pairs.pos[0], brute)


def test_equal_labels_are_drawn_evenly_over_repeats() -> None:
    n = len(centres_of(np.array([[0, 809]]), FIELD))  # 800 windows: 8 repeats of 100
    frame = np.arange(n) % 100
    pairs = LabelPairs([points([(0, 809)], value=frame)], 10).draw(
        np.random.default_rng(7), 200_000
    )
    repeats = np.bincount(pairs.pos[0] // 100, minlength=8)
    # A search that takes the first of equals would put all of them into repeat 0.
    assert stats.chisquare(repeats).pvalue > 1e-3


def test_classes_are_kept_and_positives_uniform_in_them() -> None:
    n = len(centres_of(np.array([[0, 400]]), FIELD))
    key = np.random.default_rng(8).integers(-1, 5, n)
    own = points([(0, 400)], key=key)
    pairs = LabelPairs([own], 10).draw(np.random.default_rng(9), 200_000)
    assert np.array_equal(key[pairs.ref[0]], key[pairs.pos[0]])
    assert key[pairs.ref[0]].min() >= 0
    members = np.flatnonzero(key == 2)
    chosen = pairs.pos[0][key[pairs.ref[0]] == 2]
    counts = np.bincount(chosen, minlength=n)[members]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_sessions_get_exactly_as_many_positives_and_labels_match_across() -> None:
    rng = np.random.default_rng(10)
    sessions = []
    for length in (400, 500, 300):
        n = len(centres_of(np.array([[0, length]]), FIELD))
        sessions.append(points([(0, length)], key=rng.integers(0, 4, n)))
    pairs = LabelPairs(sessions, 10).draw(np.random.default_rng(11), 64)
    assert pairs.align is not None
    assert [len(own) for own in pairs.pos] == [64, 64, 64]
    assert sorted(pairs.align) == list(range(192))
    ref = np.concatenate([p.key[i] for p, i in zip(sessions, pairs.ref, strict=True)])
    pos = np.concatenate([p.key[i] for p, i in zip(sessions, pairs.pos, strict=True)])
    assert np.array_equal(ref, pos[pairs.align])
    came_from = pairs.align.reshape(3, 64) // 64
    assert len(set(came_from[0])) == 3  # positives of one session's references lie in all


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(NeuroError, match=r"10 frames apart"):
        TimePairs([points([(0, 12)])], (10,))
    one, two = points([(0, 100)]), points([(0, 100)], key=np.full(91, 1))
    with pytest.raises(NeuroError, match=r"share the same labels"):
        LabelPairs([one, two], 10)
