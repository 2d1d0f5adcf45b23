"""Pair points on a line at the least total distance, exactly and in O(n log n).

On a line the best pairing of two chosen sets joins them in order, so only the choice of partners is
open. It is a minimum-cost flow along the line, solved from left to right with two heaps that keep
what an undone decision would give back (the "mice and holes" recursion). Distances are integers,
hence every tie is a true tie and the result the same on every machine.

Letters: F focal points (each wants a partner), P partners (each serves once).
"""

from __future__ import annotations

import itertools
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_NEVER = 1 << 62  # no distance on the line is as long; Python integers do not overflow
_MOST_CELLS = 4_000_000  # a dense table of distances up to 32 MB is solved as it is


def optimal_pairs(focal_F: Ints, partners_P: Ints) -> tuple[Ints, Ints]:
    """Pair every focal point with a partner of its own at the least total distance.

    Args:
        focal_F: Positions, sorted.
        partners_P: Positions, sorted, at least as many.

    Returns:
        Indices into both, in the order of positions, equally long: as many pairs as focal points.

    >>> optimal_pairs(np.array([0, 10]), np.array([1, 2, 9]))[1].tolist()
    [0, 2]
    """
    chosen = _chosen_partners(focal_F.tolist(), partners_P.tolist())
    return np.arange(len(focal_F), dtype=np.int64), chosen


def _chosen_partners(focal: list[int], partners: list[int]) -> Ints:
    """Return which partners a cheapest pairing uses, sorted.

    Both heaps hold (gain to come, partner). In `open_partners` a partner stands for what a later
    focal point pays besides its own position; in `open_focal` for what a later partner wins by
    taking over, and then that one is set free again.
    """
    used = bytearray(len(partners) + 1)  # the last stands for "no partner yet"
    nobody = len(partners)
    open_partners: list[tuple[int, int]] = []
    open_focal: list[tuple[int, int]] = []
    # Where both share a place the partner comes first, so that the focal point finds it.
    i, j, n_focal = 0, 0, len(focal)
    while i < n_focal:
        if j < nobody and partners[j] <= focal[i]:
            _offer(partners[j], j, open_partners, open_focal, used)
            j += 1
            continue
        x = focal[i]
        cost, partner = heappop(open_partners) if open_partners else (_NEVER, nobody)
        cost += x
        used[partner] = 1
        heappush(open_focal, (-cost - x, partner))
        i += 1
    while j < nobody:
        y = partners[j]
        # Every later partner is farther still, so the first that helps nobody is the last.
        if not open_focal or open_focal[0][0] + y >= 0:
            break
        _offer(y, j, open_partners, open_focal, used)
        j += 1
    return np.flatnonzero(np.frombuffer(used, np.uint8)[:nobody]).astype(np.int64)


def _offer(
    y: int,
    index: int,
    open_partners: list[tuple[int, int]],
    open_focal: list[tuple[int, int]],
    used: bytearray,
) -> None:
    if open_focal and open_focal[0][0] + y < 0:
        gain, freed = heappop(open_focal)
        used[freed], used[index] = 0, 1
        # Taking this decision back later makes the freed one serve again.
        heappush(open_partners, (-(gain + y) - y, freed))
    else:
        heappush(open_partners, (-y, index))


def capped_pairs(focal_F: Ints, partners_P: Ints, cap: int) -> tuple[Ints, Ints]:
    """Pair as many focal points as can be within a caliper, then at a small total distance.

    Up to four million distances the result is the exact optimum of both, in that order. Beyond,
    the number of pairs is still the largest possible, and the distance is that of the
    unconstrained optimum except around pairs that it would stretch beyond the caliper.

    Args:
        focal_F: Positions, sorted.
        partners_P: Positions, sorted.
        cap: Largest distance of a pair.

    Returns:
        Indices into both, in the order of positions, equally long.
    """
    starts = _component_starts(focal_F, partners_P, cap)
    found: list[tuple[Ints, Ints]] = []
    for (f0, p0), (f1, p1) in itertools.pairwise(starts):
        if f1 > f0 and p1 > p0:
            part = _capped_component(focal_F[f0:f1], partners_P[p0:p1], cap)
            found.append((part[0] + f0, part[1] + p0))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate([f for f, _ in found]), np.concatenate([p for _, p in found])


def _component_starts(focal: Ints, partners: Ints, cap: int) -> list[tuple[int, int]]:
    """Cut the line where a gap is wider than the caliper: no pair crosses it."""
    places = np.sort(np.concatenate([focal, partners]))
    edges = places[1:][np.diff(places) > cap]
    f = [0, *np.searchsorted(focal, edges).tolist(), len(focal)]
    p = [0, *np.searchsorted(partners, edges).tolist(), len(partners)]
    return list(zip(f, p, strict=True))


def _capped_component(focal: Ints, partners: Ints, cap: int) -> tuple[Ints, Ints]:
    if len(focal) <= len(partners):
        pairs = optimal_pairs(focal, partners)
        if int(np.abs(focal - partners[pairs[1]]).max()) <= cap:
            return pairs
    if len(focal) * len(partners) <= _MOST_CELLS:
        return cheapest_allowed(np.abs(focal[:, None] - partners[None, :]), cap)
    most_f, most_p = most_pairs(focal, partners, cap)
    best = optimal_pairs(focal[most_f], partners)[1]
    return most_f, _spliced(focal[most_f], partners, best, most_p, cap)


def cheapest_allowed(
    distance_FP: Ints, cap: int, allowed_FP: npt.NDArray[np.bool_] | None = None
) -> tuple[Ints, Ints]:
    """Solve a dense problem: as many allowed pairs as can be, then the least total distance.

    Args:
        distance_FP: Distances, integers from 0.
        cap: Largest distance of a pair.
        allowed_FP: Pairs that may be made; None for all.

    Returns:
        Indices into both, in the order of rows.
    """
    from scipy.optimize import linear_sum_assignment

    is_allowed = distance_FP <= cap if allowed_FP is None else (distance_FP <= cap) & allowed_FP
    n_pairs = min(distance_FP.shape)
    # One forbidden pair costs more than any number of allowed ones.
    forbidden = float(min(cap, int(distance_FP.max(initial=0))) + 1) * (n_pairs + 1)
    rows, columns = linear_sum_assignment(np.where(is_allowed, distance_FP, forbidden))
    kept = is_allowed[rows, columns]
    return rows[kept].astype(np.int64), columns[kept].astype(np.int64)


def most_pairs(focal_F: Ints, partners_P: Ints, cap: int) -> tuple[Ints, Ints]:
    """Return the largest number of pairs within a caliper: first come, first served on both sides.

    Args:
        focal_F: Positions, sorted.
        partners_P: Positions, sorted.
        cap: Largest distance of a pair.
    """
    focal, partners = focal_F.tolist(), partners_P.tolist()
    rows: list[int] = []
    columns: list[int] = []
    j = 0
    for i, x in enumerate(focal):
        while j < len(partners) and partners[j] < x - cap:
            j += 1
        if j < len(partners) and partners[j] <= x + cap:
            rows.append(i)
            columns.append(j)
            j += 1
    return np.array(rows, np.int64), np.array(columns, np.int64)


def _spliced(focal: Ints, partners: Ints, best: Ints, safe: Ints, cap: int) -> Ints:
    """Take the best pairing, and the safe one where the best stretches beyond the caliper.

    Both run in the order of positions, so they may be changed for each other between two focal
    points wherever the partner before is left of the partner after.
    """
    mixed = best.copy()
    for broken in np.flatnonzero(np.abs(focal - partners[best]) > cap).tolist():
        first, last = broken, broken
        if mixed[broken] == safe[broken]:
            continue  # an earlier splice reached so far
        while first > 0 and mixed[first - 1] >= safe[first]:
            first -= 1
        while last + 1 < len(best) and safe[last] >= best[last + 1]:
            last += 1
        mixed[first : last + 1] = safe[first : last + 1]
    return mixed
