"""Choose whom to keep: everyone, some by chance, equal classes, equal cells, or matched pairs.

Chance is the order of hashes, as in splits, so an added person changes little. What is left out is
always told, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from neurocli.core.cohort.comparison import DENOMINATOR, comparison_rows
from neurocli.core.cohort.missing import without_missing
from neurocli.core.cohort.options import SplitOptions, parse_limit
from neurocli.core.cohort.order import exact, hash_key, largest_remainder
from neurocli.core.cohort.people import without
from neurocli.core.cohort.propensity_match import match_cohort
from neurocli.core.cohort.sample import Sample, rounded
from neurocli.core.cohort.strata import Column, parse_request
from neurocli.core.cohort.treatment import (
    Classes,
    read_classes,
    read_covariates,
    treatment_column,
)
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text


def sample_people(people: Table, options: SplitOptions) -> Sample:
    """Choose people as the options say.

    Args:
        people: The table, sorted by id.
        options: Method, classes, covariates, limit and seed.

    Returns:
        Who is kept, pairs, notes and the audit for the report.

    Raises:
        UsageError: A column is unknown or holds one class only, the classes do not overlap, or
            nobody would be left.
    """
    method = options.sampling
    if method == "none" and options.treatment is None:
        return Sample(people)
    if method in ("none", "random") and options.treatment is None:
        return _of_random(people, options, None)
    names = [parse_request(text, list(people.columns)) for text in options.covariate_names]
    people, notes = without_missing(people, names, options.missing)
    people, more = _with_class(people, options)
    notes += more
    classes = read_classes(people, str(options.treatment), are_two=method in ("psm", "none"))
    columns: list[Column] = []
    if options.covariate_names:
        columns = read_covariates(people, options.covariate_names, skip=classes.name)
    if method == "psm":
        sample = match_cohort(people, classes, columns, options)
    elif method == "stratified":
        sample = _of_cells(people, classes, _cells(columns, options), options, method)
    elif method == "balanced":
        sample = _of_cells(people, classes, [()] * len(people.ids), options, method)
    else:
        sample = _of_random(people, options, classes)
    if method != "psm" and columns and len(classes.names) == 2:
        sample.audit["balance"] = rounded(_compared(columns, classes, sample.people, people))
        sample.audit["denominator"] = DENOMINATOR
    if method == "none":
        notes.append("--treatment alone compares the classes; --sample psm or balanced evens them")
    return replace(sample, notes=notes + _coded(columns) + sample.notes, class_column=classes.name)


def _with_class(people: Table, options: SplitOptions) -> tuple[Table, list[str]]:
    column, _ = treatment_column(people, str(options.treatment))
    lacking = [name for name, label in zip(people.ids, column.labels, strict=True) if label is None]
    if not lacking:
        return people, []
    told = f"{len(lacking)} people have no {column.name}: {choices_text(lacking[:3])}"
    if options.missing == "error":
        raise UsageError(
            told, where=str(people.path), hint="fill the cells, or choose missing=drop"
        )
    if len(lacking) == len(people.ids):
        raise UsageError(told, where=str(people.path), hint="choose another --treatment")
    return without(people, lacking), [f"left out, {told}"]


def _coded(columns: Sequence[Column]) -> list[str]:
    notes = []
    for column in columns:
        if column.n_coded:
            notes.append(f"{column.name}: {column.n_coded} missing codes (-9999) count as missing")
        if column.n_missing:
            notes.append(
                f"{column.name}: {column.n_missing} of {len(column.labels)} values are missing and "
                "are compared as a level of their own"
            )
    return notes


def _n_kept(options: SplitOptions, n: int) -> int:
    limit = parse_limit(options.limit)
    if limit is None:
        return n
    wanted = limit if isinstance(limit, int) else max(int(exact(limit) * n), 1)
    return min(wanted, n)


def _of_random(people: Table, options: SplitOptions, classes: Classes | None) -> Sample:
    n_kept = _n_kept(options, len(people.ids))
    line = sorted(people.ids, key=lambda name: (hash_key(options.seed, f"keep:{name}"), name))
    audit: dict[str, Any] = {"method": options.sampling, "n_before": len(people.ids)}
    audit["n_after"] = n_kept
    if classes is not None:
        audit["treatment"] = _told(classes)
    notes = []
    limit = parse_limit(options.limit)
    if isinstance(limit, int) and limit > len(people.ids):
        notes.append(f"--limit {limit} is more than the {len(people.ids)} people there are")
    return Sample(
        without(people, line[n_kept:]) if n_kept < len(line) else people, (), notes, audit
    )


def _told(classes: Classes) -> dict[str, Any]:
    counts = Counter(classes.labels)
    told: dict[str, Any] = {"column": classes.name, "classes": dict(sorted(counts.items()))}
    if len(classes.names) == 2:
        told |= {"treated": classes.names[0], "control": classes.names[1], "why": classes.why}
    return told


def _cells(columns: Sequence[Column], options: SplitOptions) -> list[tuple[str, ...]]:
    return list(zip(*(column.levels(options.bins) for column in columns), strict=True))


@dataclass
class _Cell:
    by_class: dict[str, list[str]] = field(default_factory=dict)


def _of_cells(
    people: Table,
    classes: Classes,
    cells: Sequence[tuple[str, ...]],
    options: SplitOptions,
    method: str,
) -> Sample:
    """Keep as many of each class, in every cell, as its smallest class has there."""
    found: dict[tuple[str, ...], _Cell] = {}
    for name, label, cell in zip(people.ids, classes.labels, cells, strict=True):
        found.setdefault(cell, _Cell()).by_class.setdefault(label, []).append(name)
    least = {
        cell: min(len(content.by_class.get(name, ())) for name in classes.names)
        for cell, content in found.items()
    }
    dropped = {cell: content for cell, content in found.items() if not least[cell]}
    wanted = _within_limit({c: n for c, n in sorted(least.items()) if n}, classes, options, people)
    kept = []
    for cell, n in wanted.items():
        for names in found[cell].by_class.values():
            line = sorted(names, key=lambda name: (hash_key(options.seed, f"keep:{name}"), name))
            kept += line[:n]
    notes = []
    if dropped:
        n_lost = sum(len(v) for content in dropped.values() for v in content.by_class.values())
        shown = choices_text("/".join(cell) for cell in sorted(dropped)[:3])
        notes.append(
            f"{len(dropped)} cells lack a class, so their {n_lost} people are left out: {shown}"
        )
    audit = {
        "method": method,
        "treatment": _told(classes),
        "n_before": len(people.ids),
        "n_after": len(kept),
        "per_class": len(kept) // len(classes.names),
        "cells": len(found),
        "cells_without_a_class": len(dropped),
    }
    return Sample(without(people, set(people.ids) - set(kept)), (), notes, audit)


def _within_limit(
    least: Mapping[tuple[str, ...], int], classes: Classes, options: SplitOptions, people: Table
) -> dict[tuple[str, ...], int]:
    total = sum(least.values())
    if not total:
        raise UsageError(
            "no cell of the covariates holds every class: nobody would be left",
            where=f"{people.path}, column {classes.name}",
            hint="name fewer --covariates, or set fewer bins",
        )
    per_class = min(total, _n_kept(options, len(people.ids)) // len(classes.names))
    if not per_class:
        raise UsageError(
            f"--limit {options.limit} is less than one of each of {len(classes.names)} classes",
            hint="raise it",
        )
    if per_class == total:
        return dict(least)
    sizes = largest_remainder(per_class, [exact(1) * n / total for n in least.values()])
    return dict(zip(least, sizes, strict=True))


def _compared(
    columns: Sequence[Column], classes: Classes, kept: Table, people: Table
) -> list[dict[str, Any]]:
    import numpy as np

    chosen = set(kept.ids)
    weight = np.array([float(name in chosen) for name in people.ids])
    is_all = len(chosen) == len(people.ids)
    return comparison_rows(columns, classes.treated_S, None if is_all else weight, None)
