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
from neurocli.core.cohort.missing import without_missing
from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.people import family_columns
from neurocli.core.cohort.sample import Sample
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
from neurocli.core.cohort.swaps import even_out
from neurocli.core.cohort.ties import site_column, ties
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


def divide(people: Table, options: SplitOptions, sample: Sample | None = None) -> Division:
    """Divide the people of a table and audit the result.

    Args:
        people: The table, sorted by id.
        options: How.
        sample: How these people were chosen; None when they were not. Its pairs are not divided,
            and its classes keep their shares in every part.

    Returns:
        The split with its group audit and its balance over all usable columns.

    Raises:
        UsageError: A column is unknown or cannot be balanced, a value is missing under the policy
            "error", the shares or folds are impossible, or all people are one group.
    """
    requests = _requests(people, options, sample)
    people, notes = without_missing(people, requests, options.missing)
    strata = [_stratum(people, name, kind) for name, kind in requests]
    groups, told = ties(people, options, sample.pairs if sample else ())
    levels = {column.name: column.levels(options.bins) for column in strata}
    tied = connected_groups(people.ids, groups)
    folds, parts = _placed(people.ids, strata, levels, groups, tied, options)
    covariates = strata + _other_columns(people, {*levels, *options.group_names})
    balance = balance_rows(covariates, people.ids, parts)
    judged = [row for row in balance if not strata or row["column"] in levels]
    imbalanced = [row["column"] for row in judged if row["smd"] and abs(row["smd"]) > SMD_LIMIT]
    split = Split(
        parts=parts,
        seed=options.seed,
        method=_method(options, groups, is_even=bool(strata)),
        folds=folds,
        inputs_sha256=_inputs_sha256(people.ids, strata, groups),
        groups=_group_audit(tied, groups, [parts, *folds]),
        balance=balance,
        options=options.as_dict(),
        pairs=[list(pair) for pair in sample.pairs] or () if sample else (),
        sampling=sample.summary() if sample else {},
    )
    notes += told + _column_notes(strata, len(people.ids))
    notes += _group_notes(people, tied, groups, options)
    notes += _part_notes(parts, folds, options)
    if imbalanced:
        more = f" and {len(imbalanced) - 3} more columns" if len(imbalanced) > 3 else ""
        first = choices_text(imbalanced[:3])
        notes.append(f"train and test differ by more than {SMD_LIMIT} SD in {first}{more}")
    return Division(split, notes, imbalanced)


def _requests(
    people: Table, options: SplitOptions, sample: Sample | None
) -> list[tuple[str, Kind | None]]:
    requests = [parse_request(text, list(people.columns)) for text in options.stratify_names]
    named = {name for name, _ in requests}
    site = site_column(people, options)
    if options.site_policy == "stratify" and site is not None and site not in named:
        requests.append((site, "categorical"))
    if sample is None or options.sampling == "none":
        return requests
    # What was made alike in the cohort is kept alike in its parts.
    extra = [parse_request(text, list(people.columns)) for text in options.covariate_names]
    if sample.class_column is not None:
        extra.insert(0, (sample.class_column, "categorical"))
    for name, kind in extra:
        if name not in {known for known, _ in requests}:
            requests.append((name, kind))
    return requests


def _placed(
    ids: Sequence[str],
    strata: Sequence[Column],
    levels: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str | None]],
    tied: Mapping[str, str],
    options: SplitOptions,
) -> tuple[list[Parts], Parts]:
    """Return the folds, if any, and the parts."""
    blocks = _blocks(ids, levels, groups, options)
    if strata and options.optimize:
        blocks = even_out(blocks, tied, strata, ids=ids, trials=options.optimize, seed=options.seed)
    if options.folds is None:
        return [], blocks
    folds = rotate_folds(list(blocks.values()), with_val=options.val > 0)
    return folds, folds[0]


def _blocks(
    ids: Sequence[str],
    levels: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str | None]],
    options: SplitOptions,
) -> Parts:
    train, val, seed = options.train, options.val, options.seed
    if options.folds is not None:
        part_counts(ids, train=train, val=val)
        made = k_folds(ids, options.folds, seed=seed, columns=levels, groups=groups)
        return {str(number): block for number, block in enumerate(made)}
    if levels:
        return stratified_split(ids, levels, train=train, val=val, seed=seed, groups=groups)
    return random_split(ids, train=train, val=val, seed=seed, groups=groups)


def columns_of_balance(people: Table, options: SplitOptions) -> list[Column]:
    """Return the columns whose balance is shown: those asked for first, then all usable ones.

    Args:
        people: The table.
        options: Columns to balance and to tie by.
    """
    requests = [parse_request(text, list(people.columns)) for text in options.stratify_names]
    strata = [read_column(people, name, kind) for name, kind in requests]
    named = {column.name for column in strata}
    return strata + _other_columns(people, {*named, *options.group_names})


def _stratum(people: Table, name: str, kind: Kind | None) -> Column:
    column = read_column(people, name, kind)
    n_levels = column.n_levels
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


def _other_columns(people: Table, known: set[str]) -> list[Column]:
    found = []
    for name in people.columns:
        if name in known:
            continue
        try:
            column = read_column(people, name)
        except UsageError:  # numbers mixed with texts: nothing that a table of balance can show
            continue
        n_levels = column.n_levels
        if n_levels > 1 and (column.kind == "continuous" or n_levels <= MAX_LEVELS):
            found.append(column)
    return found


def _method(options: SplitOptions, groups: Mapping[str, Any], *, is_even: bool) -> str:
    words = ["stratified" if is_even else "random"]
    if groups:
        words.append("grouped")
    if options.site_policy == "hold-out":
        words.append("sites held out")
    if options.sampling != "none":
        words.append(f"{options.sampling} sample")
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
    columns = [used[key] if key in used else groups[key] for key in names]
    rows = list(zip(ids, *columns, strict=True))
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
        if column.n_levels == 1:
            notes.append(f"{column.name}: everyone has the same value, nothing to balance")
    return notes


def _group_notes(
    people: Table,
    tied: Mapping[str, str],
    groups: Mapping[str, Sequence[str | None]],
    options: SplitOptions,
) -> list[str]:
    is_open = not options.group_names and options.kinship is None
    if is_open and (names := family_columns(people)):
        return [
            f"column {choices_text(names)} looks like families, and relatives may land in "
            f"different parts; --group {','.join(names)} keeps them together"
        ]
    if not groups:
        return []
    (name, size), *others = Counter(tied.values()).most_common()
    if not others:
        raise UsageError(
            f"{_spoken(groups, options)} ties all {size} people into one group",
            where=str(people.path),
            hint="choose columns that name families, not properties that everyone shares",
        )
    if size > _MANY * len(people.ids):
        return [f"the group of '{name}' holds {size} of {len(people.ids)} people; sizes suffer"]
    return []


def _spoken(groups: Mapping[str, Any], options: SplitOptions) -> str:
    asked = ",".join(options.group_names)
    others = [name for name in groups if name not in options.group_names]
    return " and ".join([*([f"--group {asked}"] if asked else []), *others])


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
