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

from neurocli.core.cohort.nearest import nearest_pairs

Ints = npt.NDArray[np.int64]
_NEVER = 1 << 62  # no distance on the line is as long; Python integers do not overflow
_MOST_CELLS = 4_000_000  # a dense table of distances up to 32 MB is solved as it is


def optimal_pairs(focal_F: Ints, partners_P: Ints) -> tuple[Ints, Ints]:
    """Pair as many as can be at the least total distance.

    Args:
        focal_F: Positions, sorted.
        partners_P: Positions, sorted.

    Returns:
        Indices into both, in the order of positions, equally long: as many pairs as there are of
        the fewer.

    >>> optimal_pairs(np.array([0, 10]), np.array([1, 2, 9]))[1].tolist()
    [0, 2]
    """
    return _cheapest(focal_F, partners_P, _NEVER)


def _cheapest(focal_F: Ints, partners_P: Ints, alone: int) -> tuple[Ints, Ints]:
    """Pair at the least total cost, where a focal point without a partner costs `alone`.

    No pair is longer than `alone`, since its focal point would rather stay without. Both heaps
    hold (gain to come, slot), a slot being a partner, or a focal point's place of staying alone. In
    `open_slots` a slot stands for what a later focal point pays besides its own position; in
    `open_focal` for what a later partner wins by taking over, and then that slot is left again.
    """
    focal, partners = focal_F.tolist(), partners_P.tolist()
    n_focal, n_partners = len(focal), len(partners)
    used = bytearray(n_partners + n_focal)
    open_slots: list[tuple[int, int]] = []
    open_focal: list[tuple[int, int]] = []
    # Where both share a place the partner comes first, so that the focal point finds it.
    i, j = 0, 0
    while i < n_focal:
        if j < n_partners and partners[j] <= focal[i]:
            _offer(partners[j], j, open_slots, open_focal, used)
            j += 1
            continue
        x = focal[i]
        cost, slot = alone, n_partners + i
        if open_slots and open_slots[0][0] + x <= alone:
            cost, slot = heappop(open_slots)
            cost += x
        used[slot] = 1
        heappush(open_focal, (-cost - x, slot))
        i += 1
    while j < n_partners:
        # Every later partner is farther still, so the first that helps nobody is the last.
        if not open_focal or open_focal[0][0] + partners[j] >= 0:
            break
        _offer(partners[j], j, open_slots, open_focal, used)
        j += 1
    flags = np.frombuffer(used, np.uint8)
    kept = np.flatnonzero(flags[n_partners:] == 0).astype(np.int64)
    return kept, np.flatnonzero(flags[:n_partners]).astype(np.int64)


def _offer(
    y: int,
    index: int,
    open_slots: list[tuple[int, int]],
    open_focal: list[tuple[int, int]],
    used: bytearray,
) -> None:
    if open_focal and open_focal[0][0] + y < 0:
        gain, left = heappop(open_focal)
        used[left], used[index] = 0, 1
        # Taking this decision back later means that slot is used again.
        heappush(open_slots, (-(gain + y) - y, left))
    else:
        heappush(open_slots, (-y, index))


def capped_pairs(focal_F: Ints, partners_P: Ints, cap: int) -> tuple[Ints, Ints, bool]:
    """Pair as many focal points as can be within a caliper, then at a small total distance.

    Up to four million distances the result is the exact optimum of both, in that order; so it is
    beyond when counting each focal point left alone as one caliper leaves no more of them alone
    than must be. Else the number of pairs is still the largest possible, and the distance the
    shortest of several such pairings, the greedy ones among them.

    Args:
        focal_F: Positions, sorted.
        partners_P: Positions, sorted.
        cap: Largest distance of a pair.

    Returns:
        Indices into both, in the order of positions, equally long; and whether they are the exact
        optimum.
    """
    starts = _component_starts(focal_F, partners_P, cap)
    found: list[tuple[Ints, Ints]] = []
    is_exact = True
    for (f0, p0), (f1, p1) in itertools.pairwise(starts):
        if f1 > f0 and p1 > p0:
            rows, columns, is_best = _capped_component(focal_F[f0:f1], partners_P[p0:p1], cap)
            found.append((rows + f0, columns + p0))
            is_exact &= is_best
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), True
    rows, columns = (np.concatenate([pair[side] for pair in found]) for side in (0, 1))
    return rows, columns, is_exact


def _component_starts(focal: Ints, partners: Ints, cap: int) -> list[tuple[int, int]]:
    """Cut the line where a gap is wider than the caliper: no pair crosses it."""
    places = np.sort(np.concatenate([focal, partners]))
    edges = places[1:][np.diff(places) > cap]
    f = [0, *np.searchsorted(focal, edges).tolist(), len(focal)]
    p = [0, *np.searchsorted(partners, edges).tolist(), len(partners)]
    return list(zip(f, p, strict=True))


def _capped_component(focal: Ints, partners: Ints, cap: int) -> tuple[Ints, Ints, bool]:
    if len(focal) <= len(partners):
        pairs = optimal_pairs(focal, partners)
        if int(np.abs(focal - partners[pairs[1]]).max()) <= cap:
            return *pairs, True
    if len(focal) * len(partners) <= _MOST_CELLS:
        return *cheapest_allowed(np.abs(focal[:, None] - partners[None, :]), cap), True
    near = _cheapest(focal, partners, cap)
    most = most_pairs(focal, partners, cap)
    if len(near[0]) == len(most[0]):
        return *near, True
    # No longer exact: of several pairings with the largest number, improved, the shortest.
    found = [_lengthened(near, most), most]
    for turns in (range(len(focal) - 1, -1, -1), range(len(focal))):
        rows, columns = nearest_pairs(focal, partners, turns, cap=cap)
        if len(rows) == len(most[0]):
            found.append((np.sort(rows), np.sort(columns)))
    found += [_spliced(focal, partners, safe, cap) for safe in found]
    best = min(found, key=lambda pairs: int(np.abs(focal[pairs[0]] - partners[pairs[1]]).sum()))
    return *best, False


def _spliced(focal: Ints, partners: Ints, safe: tuple[Ints, Ints], cap: int) -> tuple[Ints, Ints]:
    """Take the best pairing of the same focal points, and the safe one where that is too long.

    Both run in the order of positions, so they may be changed for each other between two focal
    points wherever the partner before is left of the partner after.
    """
    rows, columns = safe
    best = _cheapest(focal[rows], partners, _NEVER)[1]
    mixed = best.copy()
    for broken in np.flatnonzero(np.abs(focal[rows] - partners[best]) > cap).tolist():
        if mixed[broken] == columns[broken]:
            continue  # an earlier splice reached so far
        first, last = broken, broken
        while first > 0 and mixed[first - 1] >= columns[first]:
            first -= 1
        while last + 1 < len(best) and columns[last] >= best[last + 1]:
            last += 1
        mixed[first : last + 1] = columns[first : last + 1]
    return rows, mixed


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


def _lengthened(near: tuple[Ints, Ints], most: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Add pairs to a pairing until it has as many as another, using pairs of either only.

    Both together fall into paths that take their pairs by turns. Where a path starts with a focal
    point and ends with a partner whom only the larger pairing uses, its pairs there are one more.
    """
    mine = dict(zip(near[0].tolist(), near[1].tolist(), strict=True))
    holder = {partner: focal for focal, partner in mine.items()}
    theirs = dict(zip(most[0].tolist(), most[1].tolist(), strict=True))
    for start in most[0].tolist():
        if start in mine:
            continue
        path, focal = [], start
        while focal in theirs:
            partner = theirs[focal]
            path.append((focal, partner))
            if partner not in holder:
                for one, other in path:
                    mine[one] = other
                    holder[other] = one
                break
            focal = holder[partner]
    rows = np.array(sorted(mine), np.int64)
    return rows, np.array(sorted(mine.values()), np.int64)
