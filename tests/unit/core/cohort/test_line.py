"""Optimal pairs on a line against scipy's dense assignment, ties and calipers included."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from neurocli.core.cohort import line
from neurocli.core.cohort.line import capped_pairs, cheapest_allowed, most_pairs, optimal_pairs


def cases(n: int, *, spans: tuple[int, ...] = (3, 20, 100, 10**9)) -> Iterator[tuple]:
    """Yield sorted whole numbers; narrow spans are full of ties."""
    rng = np.random.default_rng(7)
    for _ in range(n):
        n_focal = int(rng.integers(1, 30))
        n_partners = n_focal + int(rng.integers(0, 60))
        span = int(rng.choice(spans))
        focal = np.sort(rng.integers(-span, span, n_focal))
        partners = np.sort(rng.integers(-span, span, n_partners))
        yield focal, partners, int(rng.integers(0, max(span // 4, 2)))


def referee(focal: np.ndarray, partners: np.ndarray, cap: int | None = None) -> tuple[int, int]:
    """Return the number of pairs and the least total distance by the dense solver of scipy."""
    distance = np.abs(focal[:, None] - partners[None, :]).astype(object)
    if cap is None:
        rows, columns = linear_sum_assignment(distance.astype(np.int64))
        return len(rows), int(distance[rows, columns].sum())
    dear = (cap + 1) * (len(focal) + 1)
    cost = np.where(distance <= cap, distance, dear).astype(np.int64)
    rows, columns = linear_sum_assignment(cost)
    kept = cost[rows, columns] < dear
    return int(kept.sum()), int(cost[rows, columns][kept].sum())


def told(focal: np.ndarray, partners: np.ndarray, pairs: tuple) -> tuple[int, int]:
    assert len(set(pairs[0].tolist())) == len(pairs[0])
    assert len(set(pairs[1].tolist())) == len(pairs[1])
    return len(pairs[0]), int(np.abs(focal[pairs[0]] - partners[pairs[1]]).sum())


def test_a_thousand_cases_equal_the_dense_assignment() -> None:
    for focal, partners, _ in cases(1000):
        assert told(focal, partners, optimal_pairs(focal, partners)) == referee(focal, partners)


def test_with_a_caliper_as_many_as_can_be_then_the_nearest() -> None:
    for focal, partners, cap in cases(500):
        for one, other in ((focal, partners), (partners, focal)):
            pairs = capped_pairs(one, other, cap)
            assert (np.abs(one[pairs[0]] - other[pairs[1]]) <= cap).all()
            assert told(one, other, pairs) == referee(one, other, cap)
            assert pairs[2]


def test_most_pairs_are_as_many_as_can_be() -> None:
    for focal, partners, cap in cases(300):
        pairs = most_pairs(focal, partners, cap)
        assert told(focal, partners, pairs)[0] == referee(focal, partners, cap)[0]


def test_too_large_for_a_table_still_most_pairs_within_the_caliper(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line, "_MOST_CELLS", 0)
    extra, exact = 0, 0
    for focal, partners, cap in cases(500):
        for one, other in ((focal, partners), (partners, focal)):
            pairs = capped_pairs(one, other, cap)
            n, distance = told(one, other, pairs)
            best_n, best = referee(one, other, cap)
            assert (np.abs(one[pairs[0]] - other[pairs[1]]) <= cap).all()
            assert n == best_n
            # What is called exact is, and only greedy pairs may be longer.
            assert distance == best or not pairs[2]
            extra, exact = extra + distance - best, exact + best
    # Sums over all cases; the widest span decides both.
    assert 0 <= extra <= 0.03 * exact


def test_nobody_within_the_caliper() -> None:
    pairs = capped_pairs(np.array([0, 100]), np.array([50, 200]), 10)
    assert [len(side) for side in pairs[:2]] == [0, 0]
    assert pairs[2]


def test_pairs_that_are_not_allowed_are_not_made() -> None:
    distance = np.array([[0, 5], [5, 0]])
    allowed = np.array([[False, True], [False, False]])
    rows, columns = cheapest_allowed(distance, 10, allowed)
    assert (rows.tolist(), columns.tolist()) == ([0], [1])


def test_far_points_push_nobody_off_their_own_place() -> None:
    # By hand: 0 and 10 stay with their twins, 11 pays 989.
    focal, partners = np.array([0, 10, 11]), np.array([0, 10, 1000])
    assert told(focal, partners, optimal_pairs(focal, partners)) == (3, 989)
