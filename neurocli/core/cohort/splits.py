"""Divide people into parts and folds: pure functions of ids, columns and a seed.

Order comes from hashes (`order`), so neither the rows' order nor the machine matters. A person is
in exactly one part. Sizes follow the largest remainder; with groups, which are never divided, no
part is off by as much as the largest group.

Tiny cohorts keep to the same rule: with 70/15/15, one or two people are all in train, three give
2/0/1 and four 3/0/1 (train, val, test): on a tie test comes before val, because an unbiased
judgement is worth more than the choice of a checkpoint. A part may be empty; none overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from neurocli.core.cohort.groups import connected_groups, members_by_group
from neurocli.core.cohort.order import (
    even_sequence,
    exact,
    hash_key,
    keyed_order,
    largest_remainder,
)
from neurocli.core.cohort.placing import place_groups
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text

PARTS = ("train", "val", "test")
_TIE_ORDER = ("train", "test", "val")

Parts = dict[str, list[str]]
GroupColumns = Mapping[str, Sequence[str | None]]


def random_split(
    ids: Sequence[str],
    *,
    train: float = 0.7,
    val: float = 0.15,
    seed: int,
    groups: GroupColumns | None = None,
) -> Parts:
    """Divide people by chance.

    Without groups the hash order is cut twice, so an added person moves at most one other over
    each cut. With groups, the largest are placed first, each into a part drawn in proportion to
    the places left among the parts where it fits.

    Args:
        ids: Participants, each once.
        train: Share of the training part, above 0.
        val: Share of the validation part; test takes what is left of 1.
        seed: Seed of the order.
        groups: Values by group column, aligned with `ids`; people tied by a shared value, also
            through others, stay together. None ties nobody.

    Returns:
        train, val and test, each sorted.

    Raises:
        UsageError: The shares are impossible, or ids are missing or repeated.

    >>> random_split(["a", "b", "c", "d", "e"], seed=1)
    {'train': ['a', 'd', 'e'], 'val': ['b'], 'test': ['c']}
    """
    counts = part_counts(_checked(ids), train=train, val=val)
    if not groups:
        return _cut(keyed_order(ids, seed), counts)
    tied = connected_groups(ids, groups)
    return place_groups(ids, counts, seed=seed, groups=tied, columns={})


def stratified_split(
    ids: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    *,
    train: float = 0.7,
    val: float = 0.15,
    seed: int,
    groups: GroupColumns | None = None,
) -> Parts:
    """Divide people so that every level of every column has its share in every part.

    Without groups the people stand in one line, cell by cell (a cell is one combination of
    levels), in hash order inside a cell, and the parts are dealt evenly along it: no cell and no
    level of the first column is off by two. With groups, the largest are placed first, each by
    chance among the parts where it keeps the shares of all columns.

    Args:
        ids: Participants, each once.
        columns: Levels by column, aligned with `ids`; the first column is balanced best.
        train: Share of the training part, above 0.
        val: Share of the validation part; test takes what is left of 1.
        seed: Seed of the order.
        groups: Values by group column, aligned with `ids`; people tied by a shared value, also
            through others, stay together. None ties nobody.

    Returns:
        train, val and test, each sorted.

    Raises:
        UsageError: The shares are impossible, or ids are missing or repeated.

    >>> parts = stratified_split(list("abcdefgh"), {"sex": list("FFFFMMMM")}, train=0.5, val=0.0,
    ...                          seed=0)
    >>> sum(name in "abcd" for name in parts["train"])
    2
    """
    counts = part_counts(_checked(ids), train=train, val=val)
    if groups:
        tied = connected_groups(ids, groups)
        return place_groups(ids, counts, seed=seed, groups=tied, columns=columns)
    return _deal(_line_of_cells(ids, columns, seed), counts, seed)


def k_folds(
    ids: Sequence[str],
    n_folds: int,
    *,
    seed: int,
    columns: Mapping[str, Sequence[str]] | None = None,
    groups: GroupColumns | None = None,
) -> list[list[str]]:
    """Divide people into blocks of equal size, as a split does into parts.

    Args:
        ids: Participants, each once.
        n_folds: Number of blocks, at least 2.
        seed: Seed of the order.
        columns: Levels by column to balance; None balances nothing.
        groups: Values by group column, aligned with `ids`; people tied by a shared value, also
            through others, stay together. None ties nobody.

    Returns:
        n_folds blocks, each sorted; none is empty, and everyone is in exactly one.

    Raises:
        UsageError: There are fewer people or groups than blocks, or ids are missing or repeated.

    >>> [len(block) for block in k_folds(list("abcdefg"), 3, seed=0)]
    [3, 2, 2]
    """
    tied = connected_groups(_checked(ids), groups or {})
    n_units = len(set(tied.values()))
    if not 2 <= n_folds <= n_units:
        raise UsageError(
            f"folds={n_folds} does not fit {n_units} {'groups' if groups else 'people'}",
            hint=f"give 2 to {n_units} folds" if n_units > 1 else "folds need two people or more",
        )
    names = [str(number) for number in range(n_folds)]
    sizes = largest_remainder(len(ids), [Fraction(1, n_folds)] * n_folds)
    counts = dict(zip(names, sizes, strict=True))
    if groups:
        blocks = place_groups(ids, counts, seed=seed, groups=tied, columns=columns or {})
    else:
        blocks = _deal(_line_of_cells(ids, columns or {}, seed), counts, seed)
    return _fill_empty([blocks[name] for name in names], tied)


def rotate_folds(blocks: Sequence[Sequence[str]], *, with_val: bool = True) -> list[Parts]:
    """Return one split per block: it is the test part, the next block is val, the rest train.

    So everyone is tested once and validated once, and no group is divided in any fold.

    Args:
        blocks: Blocks of people, at least two.
        with_val: Whether to set a block aside for validation; two blocks leave none for it.

    >>> rotate_folds([["a"], ["b"], ["c"]])[2]
    {'train': ['b'], 'val': ['a'], 'test': ['c']}
    """
    n = len(blocks)
    folds: list[Parts] = []
    for test in range(n):
        val = (test + 1) % n if with_val and n > 2 else test
        rest = [name for i, block in enumerate(blocks) if i not in (test, val) for name in block]
        held = sorted(blocks[val]) if val != test else []
        folds.append({"train": sorted(rest), "val": held, "test": sorted(blocks[test])})
    return folds


def part_counts(ids: Sequence[str], *, train: float, val: float) -> dict[str, int]:
    """Return how many people each part gets, by the largest remainder of the exact shares.

    Args:
        ids: Participants.
        train: Share of the training part, above 0.
        val: Share of the validation part; test takes what is left of 1.

    Raises:
        UsageError: A share is below 0, train is 0, or they add up to more than 1.
    """
    shares = {"train": exact(train), "val": exact(val)}
    shares["test"] = 1 - shares["train"] - shares["val"]
    if shares["train"] <= 0 or shares["val"] < 0 or shares["test"] < 0:
        raise UsageError(
            f"train={train} and val={val} are no possible shares",
            hint="train must be above 0, val 0 or more, and both together at most 1",
        )
    sizes = largest_remainder(len(ids), [shares[part] for part in _TIE_ORDER])
    by_part = dict(zip(_TIE_ORDER, sizes, strict=True))
    return {part: by_part[part] for part in PARTS}


def _checked(ids: Sequence[str]) -> Sequence[str]:
    if not ids:
        raise UsageError("there is nobody to divide", hint="check the table and its filters")
    repeated = sorted(name for name, count in Counter(ids).items() if count > 1)
    if repeated:
        raise UsageError(
            f"{choices_text(repeated[:3])}: listed more than once", hint="list everyone once"
        )
    return ids


def _cut(line: Sequence[str], counts: Mapping[str, int]) -> Parts:
    parts: Parts = {}
    start = 0
    for part, count in counts.items():
        parts[part] = sorted(line[start : start + count])
        start += count
    return parts


def _deal(line: Sequence[str], counts: Mapping[str, int], seed: int) -> Parts:
    names = list(counts)
    parts: Parts = {part: [] for part in names}
    turns = list(even_sequence(list(counts.values())))
    # Both ends of the sequence are always train. Turned like a wheel it stays as even, and a rare
    # level at an end of the line can meet any part.
    start = int.from_bytes(hash_key(seed, "start")) % len(turns)
    for identifier, index in zip(line, turns[start:] + turns[:start], strict=True):
        parts[names[index]].append(identifier)
    return {part: sorted(members) for part, members in parts.items()}


def _line_of_cells(
    ids: Sequence[str], columns: Mapping[str, Sequence[str]], seed: int
) -> list[str]:
    # Levels stand in hash order too: else a rare level would meet the same part under every seed.
    keys: dict[tuple[str, str], bytes] = {}
    cells = list(zip(*columns.values(), strict=True)) if columns else [()] * len(ids)

    def place(entry: tuple[str, tuple[str, ...]]) -> tuple[list[bytes], bytes, str]:
        name, cell = entry
        ranks = []
        for column, level in zip(columns, cell, strict=True):
            if (column, level) not in keys:
                keys[column, level] = hash_key(seed, f"{column}={level}")
            ranks.append(keys[column, level])
        return ranks, hash_key(seed, name), name

    return [name for name, _ in sorted(zip(ids, cells, strict=True), key=place)]


def _fill_empty(blocks: list[list[str]], groups: Mapping[str, str]) -> list[list[str]]:
    """Give every empty block the smallest group of a block that has several."""
    for block in blocks:
        if not block:
            donors = [other for other in blocks if len({groups[name] for name in other}) > 1]
            donor = max(donors, key=len)
            sizes = members_by_group({name: groups[name] for name in donor})
            moved = min(sizes.values(), key=lambda names: (len(names), names))
            block.extend(moved)
            donor[:] = [name for name in donor if name not in set(moved)]
    return blocks
