"""Greedy pairs against a slow version that looks at every partner in every turn."""

from __future__ import annotations

import numpy as np
import pytest

from neurocli.core.cohort.nearest import nearest_pairs, nearest_with_replacement


def slow(focal, partners, turns, cap, ratio, allowed):  # type: ignore[no-untyped-def]
    """Return pairs by the definition: each in turn takes the nearest free, the left of two."""
    free = set(range(len(partners)))
    made = []
    for _ in range(ratio):
        for turn in turns:
            near = [
                (abs(int(partners[p] - focal[turn])), partners[p] > focal[turn], p)
                for p in free
                if (cap is None or abs(partners[p] - focal[turn]) <= cap)
                and (allowed is None or allowed(turn, np.array([p]))[0])
            ]
            if near:
                distance, _, partner = min(near)
                free.discard(partner)
                made.append((turn, distance))
    return made


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("with_condition", [False, True])
def test_greedy_equals_the_definition(ratio: int, with_condition: bool) -> None:
    rng = np.random.default_rng(3)
    for _ in range(150):
        span = int(rng.choice([5, 50, 10**6]))
        focal = rng.integers(-span, span, int(rng.integers(1, 25)))
        partners = np.sort(rng.integers(-span, span, int(rng.integers(1, 60))))
        mine, theirs = rng.integers(0, 3, len(focal)), rng.integers(0, 3, len(partners))
        condition = (lambda i, js: theirs[js] == mine[i]) if with_condition else None  # noqa: B023
        turns = rng.permutation(len(focal)).tolist()
        cap = None if rng.random() < 0.5 else int(rng.integers(0, span))
        rows, columns = nearest_pairs(
            focal, partners, turns, cap=cap, ratio=ratio, allowed=condition
        )
        assert len(set(columns.tolist())) == len(columns)
        made = [
            (r, abs(int(focal[r] - partners[c])))
            for r, c in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        assert made == slow(focal, partners, turns, cap, ratio, condition)


def test_closest_first_always_makes_the_closest_pair_that_is_left() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        focal = rng.integers(-1000, 1000, int(rng.integers(1, 20)))
        partners = np.sort(rng.integers(-1000, 1000, int(rng.integers(1, 40))))
        rows, columns = nearest_pairs(focal, partners, None)
        distances = np.abs(focal[rows] - partners[columns]).tolist()
        open_rows, open_columns = set(range(len(focal))), set(range(len(partners)))
        for row, column, distance in zip(rows, columns, distances, strict=True):
            least = min(abs(int(focal[r] - partners[c])) for r in open_rows for c in open_columns)
            assert distance == least
            open_rows.discard(int(row))
            open_columns.discard(int(column))
        assert not open_rows or not open_columns


def test_a_partner_may_serve_many_where_that_is_asked() -> None:
    rng = np.random.default_rng(5)
    for ratio in (1, 3):
        focal = rng.integers(-50, 50, 30)
        partners = np.sort(rng.integers(-50, 50, 12))
        rows, columns = nearest_with_replacement(focal, partners, ratio=ratio, cap=20)
        for index, x in enumerate(focal.tolist()):
            expected = [d for d in sorted(np.abs(partners - x).tolist())[:ratio] if d <= 20]
            mine = columns[rows == index]
            assert np.abs(partners[mine] - x).tolist() == expected
            assert len(set(mine.tolist())) == len(mine)


def test_a_condition_reaches_beyond_the_first_window() -> None:
    partners = np.arange(10_000)
    rows, columns = nearest_pairs(
        np.array([5]), partners, [0], allowed=lambda _, js: js % 5000 == 4999
    )
    assert (rows.tolist(), columns.tolist()) == ([0], [4999])
