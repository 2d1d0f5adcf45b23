"""From a table of people and options to an audited split, without touching a file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurocli.core.cohort.balance import MAX_LEVELS, SMD_LIMIT, balance_rows
from neurocli.core.cohort.files import Split
from neurocli.core.cohort.groups import connected_groups, divided_groups
from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.people import family_columns, without
from neurocli.core.cohort.splits import (
    PARTS,
    Parts,
    k_folds,
    part_counts,
    random_split,
    rotate_folds,
    stratified_split,
)
from neurocli.core.cohort.strata import Column, Kind, parse_request, read_column
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text

_MANY = 0.2  # share of all people in one group from which sizes and chance suffer


@dataclass(frozen=True)
class Division:
    """Hold a split, what the user should know, and the columns that are out of balance."""

    split: Split
    notes: list[str]
    imbalanced: list[str]


def divide(people: Table, options: SplitOptions) -> Division:
    """Divide the people of a table and audit the result.

    Args:
        people: The table, sorted by id.
        options: How.

    Returns:
        The split with its group audit and its balance over all usable columns.

    Raises:
        UsageError: A column is unknown or cannot be balanced, a value is missing under the policy
            "error", the shares or folds are impossible, or all people are one group.
    """
    requests = [parse_request(text, list(people.columns)) for text in options.stratify_names]
    people, notes = _without_missing(people, requests, options.missing)
    strata = [_stratum(people, name, kind) for name, kind in requests]
    groups = {name: read_column(people, name, "categorical").labels for name in options.group_names}
    levels = {column.name: column.levels(options.bins) for column in strata}
    folds = _folds(people.ids, levels, groups, options)
    parts = folds[0] if folds else _parts(people.ids, levels, groups, options)
    tied = connected_groups(people.ids, groups)
    covariates = strata + _other_columns(people, {*levels, *groups})
    balance = balance_rows(covariates, people.ids, parts)
    judged = [row for row in balance if not strata or row["column"] in levels]
    imbalanced = [row["column"] for row in judged if row["smd"] and abs(row["smd"]) > SMD_LIMIT]
    split = Split(
        parts=parts,
        seed=options.seed,
        method=_method(options),
        folds=folds,
        inputs_sha256=_inputs_sha256(people.ids, strata, groups),
        groups=_group_audit(tied, groups, [parts, *folds]),
        balance=balance,
        options=options.as_dict(),
    )
    notes += _column_notes(strata, len(people.ids))
    notes += _group_notes(people, tied, options)
    notes += _part_notes(parts, folds, options)
    if imbalanced:
        more = f" and {len(imbalanced) - 3} more columns" if len(imbalanced) > 3 else ""
        first = choices_text(imbalanced[:3])
        notes.append(f"train and test differ by more than {SMD_LIMIT} SD in {first}{more}")
    return Division(split, notes, imbalanced)


def _without_missing(
    people: Table, requests: Sequence[tuple[str, Kind | None]], policy: str
) -> tuple[Table, list[str]]:
    if policy == "category":
        return people, []
    lacking: dict[str, str] = {}
    for name, kind in requests:
        for identifier, label in zip(
            people.ids, read_column(people, name, kind).labels, strict=True
        ):
            if label is None:
                lacking.setdefault(identifier, name)
    if not lacking:
        return people, []
    told = choices_text(f"{identifier} ({name})" for identifier, name in [*lacking.items()][:3])
    if policy == "error" or len(lacking) == len(people.ids):
        raise UsageError(
            f"{len(lacking)} of {len(people.ids)} people lack a value: {told}",
            where=str(people.path),
            hint="fill the cells, or choose missing=category or missing=drop",
        )
    notes = [f"{len(lacking)} people lack a value and are left out: {told}"]
    return without(people, lacking), notes


def _stratum(people: Table, name: str, kind: Kind | None) -> Column:
    column = read_column(people, name, kind)
    n_levels = len(set(column.labels) - {None})
    where = f"{people.path}, column {name}"
    if not n_levels:
        raise UsageError("holds no value at all", where=where, hint="choose another column")
    if column.kind == "categorical" and n_levels > max(MAX_LEVELS, len(people.ids) // 2):
        raise UsageError(
            f"holds {n_levels} different texts for {len(people.ids)} people: nothing to balance",
            where=where,
            hint=f"choose a column with fewer levels, or {name}:cont if it holds numbers",
        )
    return column


def _parts(
    ids: Sequence[str],
    levels: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str | None]],
    options: SplitOptions,
) -> Parts:
    train, val, seed = options.train, options.val, options.seed
    if levels:
        return stratified_split(ids, levels, train=train, val=val, seed=seed, groups=groups)
    return random_split(ids, train=train, val=val, seed=seed, groups=groups)


def _folds(
    ids: Sequence[str],
    levels: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str | None]],
    options: SplitOptions,
) -> list[Parts]:
    if options.folds is None:
        return []
    part_counts(ids, train=options.train, val=options.val)
    blocks = k_folds(ids, options.folds, seed=options.seed, columns=levels, groups=groups)
    return rotate_folds(blocks, with_val=options.val > 0)


def _other_columns(people: Table, known: set[str]) -> list[Column]:
    found = []
    for name in people.columns:
        if name in known:
            continue
        try:
            column = read_column(people, name)
        except UsageError:  # numbers mixed with texts: nothing that a table of balance can show
            continue
        n_levels = len(set(column.labels) - {None})
        if n_levels > 1 and (column.kind == "continuous" or n_levels <= MAX_LEVELS):
            found.append(column)
    return found


def _method(options: SplitOptions) -> str:
    words = ["stratified" if options.stratify_names else "random"]
    if options.group_names:
        words.append("grouped")
    if options.folds:
        words.append(f"{options.folds} folds")
    return ", ".join(words)


def _inputs_sha256(
    ids: Sequence[str], strata: Sequence[Column], groups: Mapping[str, Sequence[str | None]]
) -> str:
    # Of the values that were used, not of the file: the same table saved in another order or
    # format is the same input, and gives the same bytes.
    used: dict[str, Sequence[str | None]] = {column.name: column.labels for column in strata}
    names = sorted({*used, *groups})
    rows = [
        [name, *(used[key][i] if key in used else groups[key][i] for key in names)]
        for i, name in enumerate(ids)
    ]
    text = json.dumps([names, rows], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _group_audit(
    tied: Mapping[str, str], groups: Mapping[str, Sequence[str | None]], splits: Sequence[Parts]
) -> dict[str, Any]:
    sizes = Counter(tied.values())
    divided = {group for parts in splits for group in divided_groups(parts, tied)}
    return {
        "columns": list(groups),
        "n": len(sizes),
        "largest": max(sizes.values()),
        "split": len(divided),
    }


def _column_notes(strata: Sequence[Column], n_people: int) -> list[str]:
    notes = []
    for column in strata:
        if column.n_coded:
            notes.append(f"{column.name}: {column.n_coded} missing codes (-9999) count as missing")
        if column.n_missing:
            notes.append(
                f"{column.name}: {column.n_missing} of {n_people} values are missing and form a "
                "level of their own"
            )
        if len(set(column.labels) - {None}) == 1:
            notes.append(f"{column.name}: everyone has the same value, nothing to balance")
    return notes


def _group_notes(people: Table, tied: Mapping[str, str], options: SplitOptions) -> list[str]:
    if not options.group_names:
        if names := family_columns(people):
            return [
                f"column {choices_text(names)} looks like families, and relatives may land in "
                f"different parts; --group {','.join(names)} keeps them together"
            ]
        return []
    (name, size), *others = Counter(tied.values()).most_common()
    if not others:
        raise UsageError(
            f"--group {','.join(options.group_names)} ties all {size} people into one group",
            where=str(people.path),
            hint="choose columns that name families, not properties that everyone shares",
        )
    if size > _MANY * len(people.ids):
        return [f"the group of '{name}' holds {size} of {len(people.ids)} people; sizes suffer"]
    return []


def _part_notes(parts: Parts, folds: Sequence[Parts], options: SplitOptions) -> list[str]:
    empty = [part for part in PARTS if not parts[part]]
    if folds:
        return [
            f"parts are those of fold 1; every fold tests another block of {len(folds)} and "
            + ("validates on the next" if not empty else "has no validation part")
        ]
    everyone = [name for names in parts.values() for name in names]
    wanted = part_counts(everyone, train=options.train, val=options.val)
    moved = [f"{part} {len(parts[part])} for {wanted[part]}" for part in PARTS]
    notes = []
    if any(len(parts[part]) != wanted[part] for part in PARTS):
        notes.append(f"whole groups change the sizes: {', '.join(moved)}")
    asked = [part for part in empty if options.train + options.val < 1 or part == "val"]
    if asked and not (asked == ["val"] and options.val == 0):
        notes.append(f"{len(everyone)} people leave {' and '.join(asked)} empty")
    return notes
