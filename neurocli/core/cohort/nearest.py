"""Pair points on a line greedily: each focal point in turn takes its nearest free partner.

What is taken is skipped by two chains of pointers to the next free partner on either side,
shortened as they are walked (union-find), so a hundred thousand turns cost a fraction of a
second. Distances are integers; at equal distances the partner on the left wins.

Letters: F focal points, P partners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
# (focal index, partner indices) -> which of these may be paired with it.
Allowed = Callable[[int, Ints], npt.NDArray[np.bool_]]
_FIRST_WINDOW = 64


class _Line:
    """Answer which free partner is nearest to a focal point."""

    def __init__(self, focal: Ints, partners: Ints, cap: int | None, allowed: Allowed | None):
        self._x, self._y = focal.tolist(), partners.tolist()
        self._start = np.searchsorted(partners, focal).tolist()
        self._cap, self._allowed = cap, allowed
        n = len(self._y)
        # Chains are shifted by one: 0 and n + 1 are the ends of the line.
        self._right, self._left = list(range(n + 2)), list(range(n + 2))
        self._places = partners
        self._free = np.ones(n, dtype=np.bool_)

    def take(self, partner: int) -> None:
        """Make a partner unavailable."""
        self._right[partner + 1] = partner + 2
        self._left[partner + 1] = partner
        self._free[partner] = False

    def nearest(self, focal: int) -> tuple[int, int] | None:
        """Return (distance, partner), or None when nobody is free and allowed."""
        if self._allowed is not None:
            return self._nearest_allowed(focal, self._allowed)
        x, start = self._x[focal], self._start[focal]
        left, right = _end(self._left, start), _end(self._right, start + 1)
        best: tuple[int, int] | None = None
        if left > 0:
            best = x - self._y[left - 1], left - 1
        if right <= len(self._y):
            distance = self._y[right - 1] - x
            if best is None or distance < best[0]:
                best = distance, right - 1
        if best is None or (self._cap is not None and best[0] > self._cap):
            return None
        return best

    def _nearest_allowed(self, focal: int, allowed: Allowed) -> tuple[int, int] | None:
        x, start, n = self._x[focal], self._start[focal], len(self._y)
        width = _FIRST_WINDOW
        while True:
            low, high = max(start - width, 0), min(start + width, n)
            seen = np.arange(low, high)
            seen = seen[self._free[low:high]]
            seen = seen[allowed(focal, seen)]
            # Whoever stands outside the window is at least this far away.
            outside = [x - self._y[low]] if low else []
            outside += [self._y[high - 1] - x] if high < n else []
            if len(seen):
                distances = np.abs(self._places[seen] - x)
                index = int(distances.argmin())
                distance = int(distances[index])
                if not outside or distance <= min(outside):
                    is_near = self._cap is None or distance <= self._cap
                    return (distance, int(seen[index])) if is_near else None
            if not outside or (self._cap is not None and min(outside) > self._cap):
                return None
            width *= 4


def _end(chain: list[int], start: int) -> int:
    """Follow a chain to its free end, halving the way for those who come later."""
    while chain[start] != start:
        chain[start] = chain[chain[start]]
        start = chain[start]
    return start


def nearest_pairs(
    focal_F: Ints,
    partners_P: Ints,
    turns: Sequence[int] | None,
    *,
    cap: int | None = None,
    ratio: int = 1,
    allowed: Allowed | None = None,
) -> tuple[Ints, Ints]:
    """Pair without replacement.

    Args:
        focal_F: Positions, in any order.
        partners_P: Positions, sorted.
        turns: Indices of focal points in the order of their turns; None always takes the closest
            pair that can still be made.
        cap: Largest distance of a pair; None for any.
        ratio: Partners of each focal point, taken one a round.
        allowed: Further condition on a pair; None allows all.

    Returns:
        Indices into both, in the order the pairs were made.

    >>> nearest_pairs(np.array([0, 3]), np.array([1, 9]), [1, 0])[1].tolist()
    [0, 1]
    """
    line = _Line(focal_F, partners_P, cap, allowed)
    rows: list[int] = []
    columns: list[int] = []
    for _ in range(ratio):
        made = _closest_round(line, len(focal_F)) if turns is None else _round(line, turns)
        rows += [row for row, _ in made]
        columns += [column for _, column in made]
    return np.array(rows, np.int64), np.array(columns, np.int64)


def _round(line: _Line, turns: Sequence[int]) -> list[tuple[int, int]]:
    made = []
    for focal in turns:
        found = line.nearest(focal)
        if found is not None:
            line.take(found[1])
            made.append((focal, found[1]))
    return made


def _closest_round(line: _Line, n_focal: int) -> list[tuple[int, int]]:
    waiting = [(*found, focal) for focal in range(n_focal) if (found := line.nearest(focal))]
    heapify(waiting)
    made = []
    while waiting:
        _, partner, focal = heappop(waiting)
        now = line.nearest(focal)
        if now is None:
            continue
        if now[1] != partner:  # taken meanwhile; the next one may be farther than others' pairs
            heappush(waiting, (*now, focal))
            continue
        line.take(partner)
        made.append((focal, partner))
    return made


def nearest_with_replacement(
    focal_F: Ints,
    partners_P: Ints,
    *,
    cap: int | None = None,
    ratio: int = 1,
    allowed: Allowed | None = None,
) -> tuple[Ints, Ints]:
    """Pair each focal point with its nearest partners, who may serve many.

    Args:
        focal_F: Positions, in any order.
        partners_P: Positions, sorted.
        cap: Largest distance of a pair; None for any.
        ratio: Different partners of each focal point.
        allowed: Further condition on a pair; None allows all.

    Returns:
        Indices into both, by focal point, the nearest first.
    """
    rows: list[int] = []
    columns: list[int] = []
    starts = np.searchsorted(partners_P, focal_F)
    everyone = np.arange(len(partners_P), dtype=np.int64)
    for focal, (x, start) in enumerate(zip(focal_F.tolist(), starts.tolist(), strict=True)):
        near = everyone[max(start - ratio, 0) : start + ratio] if allowed is None else everyone
        if allowed is not None:
            near = near[allowed(focal, near)]
        distances = np.abs(partners_P[near] - x)
        best = np.argsort(distances, kind="stable")[:ratio]
        if cap is not None:
            best = best[distances[best] <= cap]
        rows += [focal] * len(best)
        columns += near[best].tolist()
    return np.array(rows, np.int64), np.array(columns, np.int64)
