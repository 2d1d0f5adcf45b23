"""Place groups of people, which must not be divided, into parts of given sizes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from math import fsum

from neurocli.core.cohort.groups import members_by_group
from neurocli.core.cohort.order import hash_key

_DRAW_BYTES = 8  # the end of a hash; its beginning decides the order
_MOST_TRIES = 16
_GROUPS_IN_ALL = 5_000  # placed over all tries; with more, chance is even enough
_PEOPLE_IN_ALL = 100_000  # placed over all tries; a second or so


def place_groups(
    ids: Sequence[str],
    counts: Mapping[str, int],
    *,
    seed: int,
    groups: Mapping[str, str],
    columns: Mapping[str, Sequence[str]],
) -> dict[str, list[str]]:
    """Put whole groups into parts, the largest first.

    While a group fits into some part it goes into one of those, drawn in proportion to their free
    places among the parts where the shares of the columns are not disturbed. A group that fits
    nowhere goes where most places are free; hence no part ends as much as the largest group away
    from its count, and people without relatives, who come last, make up the differences. With
    columns, the most even of several tries is taken when there are few groups.

    Args:
        ids: Participants, each once.
        counts: People wanted by part.
        seed: Seed of order and draws.
        groups: Group by id; an id without one is its own.
        columns: Levels by column, aligned with `ids`; empty balances nothing.

    Returns:
        Ids by part, each sorted.
    """
    members = members_by_group({name: groups.get(name, name) for name in ids})
    # Few large groups can fall badly; many small ones cannot, and need one try only.
    n_tries = min(_MOST_TRIES, _GROUPS_IN_ALL // len(members), _PEOPLE_IN_ALL // len(ids))
    tries = []
    for number in range(max(n_tries, 1) if columns else 1):
        ledger = _Ledger(ids, counts, columns)
        keys = {group: hash_key(seed, f"{number}:{group}") for group in members}
        for group in sorted(members, key=lambda name: (-len(members[name]), keys[name], name)):
            ledger.place(members[group], keys[group])
        tries.append(ledger)
    best = min(tries, key=lambda ledger: ledger.distance())
    return {part: sorted(names) for part, names in best.parts.items()}


class _Ledger:
    """Keep what every part still lacks while groups are placed one by one.

    A feature is a level of a column, known by its number; counts and quotas are lists by feature.
    """

    def __init__(
        self, ids: Sequence[str], counts: Mapping[str, int], columns: Mapping[str, Sequence[str]]
    ) -> None:
        self.parts: dict[str, list[str]] = {part: [] for part in counts}
        self._room = dict(counts)
        numbers: dict[tuple[str, str], int] = {}
        cells = [
            [numbers.setdefault((name, level), len(numbers)) for level in levels]
            for name, levels in columns.items()
        ]
        rows = zip(*cells, strict=True) if cells else ((),) * len(ids)
        self._features: dict[str, tuple[int, ...]] = dict(zip(ids, rows, strict=True))
        self._totals = [0] * len(numbers)
        for column in cells:
            for feature, count in Counter(column).items():
                self._totals[feature] = count
        self._given = {part: [0] * len(numbers) for part in counts}
        shares = {part: count / len(ids) for part, count in counts.items()}
        self._quotas = {part: [n * share for n in self._totals] for part, share in shares.items()}
        # What a part has beyond its quota, as a share of it, by feature.
        self._excess = {part: [-1.0] * len(numbers) for part in counts}

    def place(self, members: Sequence[str], key: bytes) -> None:
        """Put a group into one part; `key` is its share of chance."""
        n = len(members)
        fitting = [part for part, room in self._room.items() if room >= n]
        joined = self._features[members[0]] if n == 1 else self._joined(members)
        if not fitting:
            part = max(self._room, key=lambda name: self._room[name])
        else:
            part = self._drawn(self._undisturbed(fitting, joined), key)
        self.parts[part].extend(members)
        self._room[part] -= n
        given, quotas, excess = self._given[part], self._quotas[part], self._excess[part]
        for feature in joined:
            given[feature] += 1
            if quotas[feature]:
                excess[feature] = given[feature] / quotas[feature] - 1

    def _joined(self, members: Sequence[str]) -> tuple[int, ...]:
        return tuple(itertools.chain.from_iterable(self._features[name] for name in members))

    def distance(self) -> float:
        """Return the chi-square distance of all parts from their quotas, sizes included."""
        terms = [
            (given - quota) ** 2 / quota
            for part, quotas in self._quotas.items()
            for given, quota in zip(self._given[part], quotas, strict=True)
            if quota
        ]
        # Free places that are left over, or too few, are people in excess or missing.
        sizes = [
            room**2 / (len(self.parts[part]) + room) for part, room in self._room.items() if room
        ]
        return fsum(terms + sizes)

    def _drawn(self, fitting: Sequence[str], key: bytes) -> str:
        """Draw a part in proportion to its free places, as from an urn without return."""
        places = sum(self._room[part] for part in fitting)
        ball = int.from_bytes(key[-_DRAW_BYTES:]) * places >> (8 * _DRAW_BYTES)
        for part in fitting:
            ball -= self._room[part]
            if ball < 0:
                return part
        return fitting[-1]

    def _undisturbed(self, fitting: Sequence[str], joined: Sequence[int]) -> list[str]:
        """Return the parts that may take a group without harm to the shares of the columns.

        The chi-square distance of a part from its quotas q grows by sum (2 c (a - q) + c^2) / q
        when c people join the a there. Its first term says how much a part still lacks. Every
        part that lacks at least what the best choice costs in full is as good as that choice to
        within one group, so chance may decide among them; else the largest family would be in
        train under every seed.
        """
        if len(fitting) == 1:
            return list(fitting)
        wanted = list(Counter(joined).items())
        # fsum, since what sum() does to floats differs between versions of Python.
        lacking, full = {}, {}
        for part in fitting:
            excess, quotas = self._excess[part], self._quotas[part]
            lacking[part] = fsum([2 * c * excess[f] for f, c in wanted])
            full[part] = lacking[part] + fsum([c * c / quotas[f] for f, c in wanted])
        least = min(full.values())
        return [part for part in fitting if lacking[part] <= least]
