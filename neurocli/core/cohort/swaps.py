"""Even out the parts of a split by swapping groups of equal size between them.

Sizes of parts do not change and no group is divided. Every person is a vector of whole numbers
(each continuous column and its square, each level, in units of 1/1000 SD), a part's residual is its
sum less its share of everyone's, and a swap is made when the squared residuals, weighted so that
small parts count as much as large ones, become smaller. All of it is integer arithmetic and the
draws are hashes, so the result is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from neurocli.core.cohort.groups import members_by_group
from neurocli.core.cohort.order import hash_key
from neurocli.core.cohort.strata import Column

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_UNIT = 1000.0
_CANDIDATES = 64  # tried together; numpy costs the same for fewer
_MOST_SD = 6.0  # beyond, one odd value would rule the search
_PATIENCE = 600  # rounds without a gain, after which there is none to be found
_LARGEST_SUM = 1e7  # residuals stay below, hence weighted squares within 63 bits


def even_out(
    parts: Mapping[str, Sequence[str]],
    groups: Mapping[str, str],
    columns: Sequence[Column],
    *,
    ids: Sequence[str],
    trials: int,
    seed: int,
) -> dict[str, list[str]]:
    """Return parts of the same sizes that are more alike in every column.

    Args:
        parts: Ids by part.
        groups: Group by id; an id without one is its own.
        columns: What is to be alike, aligned with `ids`.
        ids: Participants, sorted.
        trials: Swaps that are tried.
        seed: Of the draws.
    """
    features = _features(columns, len(ids))
    filled = [part for part in parts if parts[part]]
    if not trials or not features.shape[1] or len(filled) < 2:
        return {part: list(names) for part, names in parts.items()}
    search = _Search(parts, filled, groups, features, ids)
    search.run(trials, seed)
    return {part: search.members(part) for part in parts}


def _features(columns: Sequence[Column], n: int) -> Floats:
    made: list[Floats] = []
    for column in columns:
        if column.kind == "continuous" and column.numbers is not None:
            z = _standardised(column.values)
            made += [z, _standardised(z**2)]
            if column.n_missing:
                made.append(_standardised_marks(np.isnan(column.values)))
            continue
        levels, places = column.coded()
        made += [_standardised_marks(places == index) for index in range(len(levels))]
    return np.column_stack(made) if made else np.empty((n, 0))


def _standardised(values: Floats) -> Floats:
    is_known = ~np.isnan(values)
    known = values[is_known]
    mean = math.fsum(known.tolist()) / len(known) if len(known) else 0.0
    # fsum and plain arithmetic: the same on every machine, unlike a vectorised sum.
    squares = [gap**2 for gap in (known - mean).tolist()]
    spread = math.sqrt(math.fsum(squares) / len(known)) if len(known) else 0.0
    scale = 1 / spread if spread > 0 else 0.0
    most = math.inf if len(np.unique(known)) == 2 else _MOST_SD
    found = np.zeros(len(values))
    found[is_known] = np.clip((known - mean) * scale, -most, most)
    return found


def _standardised_marks(marks: npt.NDArray[np.bool_]) -> Floats:
    """Return `_standardised` of zeros and ones; their sums need no list of them."""
    n, n_ones = len(marks), int(marks.sum())
    mean = n_ones / n
    squares = Fraction((1.0 - mean) ** 2) * n_ones + Fraction((0.0 - mean) ** 2) * (n - n_ones)
    spread = math.sqrt(float(squares) / n)
    scale = 1 / spread if spread > 0 else 0.0
    return np.where(marks, (1.0 - mean) * scale, (0.0 - mean) * scale)


class _Search:
    """Hold residuals of parts and features of groups while swaps are made."""

    def __init__(
        self,
        parts: Mapping[str, Sequence[str]],
        filled: Sequence[str],
        groups: Mapping[str, str],
        features: npt.NDArray[np.float64],
        ids: Sequence[str],
    ) -> None:
        self._names = list(filled)
        self._members = list(members_by_group({n: groups.get(n, n) for n in ids}).values())
        place = {name: index for index, name in enumerate(ids)}
        home = {name: i for i, part in enumerate(self._names) for name in parts[part]}
        self._part = np.array([home[members[0]] for members in self._members], np.int64)
        sizes = np.array([len(members) for members in self._members], np.int64)
        group_of_row = [0] * len(ids)
        for index, members in enumerate(self._members):
            for name in members:
                group_of_row[place[name]] = index
        row_group = np.array(group_of_row, np.int64)
        n_people = np.array([len(parts[part]) for part in self._names])
        people = np.rint(features * _UNIT).astype(np.int64)
        residual = self._residuals(people, row_group, n_people)
        if (largest := float(np.abs(residual).max())) > _LARGEST_SUM:  # a very large cohort
            people = np.rint(features * (_UNIT * _LARGEST_SUM / largest)).astype(np.int64)
            residual = self._residuals(people, row_group, n_people)
        self._residual = residual
        self._features = np.zeros((len(self._members), people.shape[1]), np.int64)
        np.add.at(self._features, row_group, people)
        self._weight = np.maximum(np.rint((n_people.max() / n_people) ** 2), 1).astype(np.int64)
        self._weight = np.minimum(self._weight, 1000)
        self._by_size = {
            int(size): np.flatnonzero(sizes == size)
            for size in np.unique(sizes)
            if len(np.unique(self._part[sizes == size])) > 1
        }
        self._sizes = sizes

    def _residuals(self, people: Ints, row_group: Ints, n_people: npt.NDArray[np.int64]) -> Ints:
        total = people.sum(axis=0)
        rows = self._part[row_group]
        return np.stack(
            [
                people[rows == part].sum(axis=0)
                - np.rint(total * (n / n_people.sum())).astype(np.int64)
                for part, n in enumerate(n_people)
            ]
        )

    def run(self, trials: int, seed: int) -> None:
        """Make the best swap of each handful of candidates while any helps."""
        pool = np.concatenate([*self._by_size.values(), np.empty(0, np.int64)])
        idle = 0
        patience = min(_PATIENCE, 30 + 2 * len(pool))
        for number in range(max(trials // _CANDIDATES, 1) if len(pool) else 0):
            key = hash_key(seed, f"swap:{number}")
            mine = int(pool[int.from_bytes(key[:8]) % len(pool)])
            alike = self._by_size[int(self._sizes[mine])]
            start, stride = int.from_bytes(key[8:16]), int.from_bytes(key[16:20]) | 1
            picks = [(start + stride * i) % len(alike) for i in range(_CANDIDATES)]
            others = alike[picks]
            others = others[self._part[others] != self._part[mine]]
            idle = 0 if len(others) and self._swap_best(mine, others) else idle + 1
            if idle >= patience:
                return

    def _swap_best(self, mine: int, others: Ints) -> bool:
        change = self._features[others] - self._features[mine]
        here, there = int(self._part[mine]), self._part[others]
        size = (change * change).sum(axis=1)
        gain_here = self._weight[here] * (2 * (change * self._residual[here]).sum(axis=1) + size)
        gain_there = self._weight[there] * (size - 2 * (change * self._residual[there]).sum(axis=1))
        gains = gain_here + gain_there
        best = int(gains.argmin())
        if gains[best] >= 0:
            return False
        other = int(others[best])
        self._residual[here] += change[best]
        self._residual[there[best]] -= change[best]
        self._part[mine], self._part[other] = self._part[other], self._part[mine]
        return True

    def members(self, part: str) -> list[str]:
        """Return the ids of a part, sorted."""
        if part not in self._names:
            return []
        index = self._names.index(part)
        return sorted(
            name
            for group, members in enumerate(self._members)
            if self._part[group] == index
            for name in members
        )
