"""Who is in which part, who stays together, and what is fitted on the training part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from neurocli.core.cohort.assign import Assignment, assign_parts
from neurocli.core.cohort.groups import connected_groups, divided_groups
from neurocli.core.cohort.splits import random_split
from neurocli.core.config.run import RunConfig
from neurocli.core.data.tables import read_table
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.names import choices_text
from neurocli.systems.genes.built_in import SPLIT
from neurocli.systems.genes.cohort import PairedCohort
from neurocli.systems.genes.config import GenesDataBlock
from neurocli.systems.genes.covariates import columns_of, design_matrix, explain

_FAMILY = "family"


def set_families(cohort: PairedCohort, data: GenesDataBlock, table: Path) -> list[str]:
    """Tie relatives by a group table, or by the column `family` of the people's table.

    Args:
        cohort: Gets its families.
        data: Names the group table.
        table: The people's table.

    Returns:
        Sentences the user should read.

    Raises:
        InputError: The group table cannot be read or names nobody.
    """
    if data.group is not None:
        path = Path(data.group)
        known = read_table(path)
        names = list(known.columns)
    elif table.is_file() and _FAMILY in read_table(table).columns:
        path, names = table, [_FAMILY]
    else:
        return ["no --group: relatives may land in different parts and flatter the result"]
    columns, notes = columns_of(path, cohort.people, names)
    tied = connected_groups(cohort.people, columns)
    cohort.families = [tied[person] for person in cohort.people]
    return notes


def assign_people(
    config: RunConfig, cohort: PairedCohort, folder: Path, split: Mapping[str, list[str]] | None
) -> Assignment:
    """Return who is in which part, never dividing a family.

    Args:
        config: Names a split file, else seed and shares.
        cohort: People and their families.
        folder: May hold a split of its own.
        split: Ids by part of a checkpoint; wins over all.

    Raises:
        NeuroError: Relatives are in different parts.
        UsageError: The split names nobody.
    """
    people, families = cohort.people, cohort.families
    path = config.data.split
    if split is None and path is None and (folder / SPLIT).is_file():
        path = str(folder / SPLIT)
    if split is None and path is None:
        data = cast(GenesDataBlock, config.data)
        train = 1 - data.val_share - data.test_share
        parts = random_split(
            people,
            train=train,
            val=data.val_share,
            seed=config.run.seed,
            groups={_FAMILY: families},
        )
        assigned = assign_parts(people, parts=parts)
        shares = "/".join(f"{100 * s:.0f}" for s in (train, data.val_share, data.test_share))
        note = f"no --split: people are divided {shares} by a hash of seed and id"
        assigned = Assignment(assigned.parts, assigned.sha256, [note, *assigned.notes])
    else:
        assigned = assign_parts(people, parts=split, split_path=path)
    tied = dict(zip(people, families, strict=True))
    divided = divided_groups({p: n for p, n in assigned.parts.items() if p != "rest"}, tied)
    if divided:
        family, parts_of = next(iter(divided.items()))
        members = [person for person in people if tied[person] == family]
        raise NeuroError(
            f"{len(divided)} families are in several parts, such as {choices_text(members[:4])} in "
            f"{' and '.join(parts_of)}: a relative's genes give the answer away",
            where=path or "split",
            hint="divide with `neuro split --group`, or leave --split out",
        )
    return assigned


def take_out(
    cohort: PairedCohort, data: GenesDataBlock, table: Path, assigned: Assignment
) -> tuple[dict[str, list[str | None]], list[str]]:
    """Fit covariates on the training part and take them out of brains and genes.

    Args:
        cohort: Gets what is explained.
        data: Names the columns.
        table: Holds them.
        assigned: Says who trains.

    Returns:
        Column -> cells of all people, and notes.

    Raises:
        UsageError: Nobody of the training part is here, or there is no such column.
        InputError: The table cannot be read.
    """
    if not data.covariates:
        return {}, []
    cells, notes = columns_of(table, cohort.people, data.covariates)
    train = cohort.rows_of(assigned.parts["train"])
    if not len(train):
        raise UsageError(
            "covariates are fitted on training people, and none are here",
            where="data.covariates",
            hint="give the data that the model was trained on as well",
        )
    design = design_matrix(cells, train)
    cohort.brain_explained = explain(design, train, cohort.raw_brain)
    explained = []
    for index in range(len(cohort.genes)):
        own = train[cohort.present[index, train]]
        explained.append(explain(design, own, lambda rows, i=index: cohort.raw_gene(i, rows)))  # type: ignore[misc]
    cohort.genes_explained = explained
    notes.append(
        f"taken out of brains and genes, fitted on {len(train)} training people: "
        f"{choices_text(data.covariates)}"
    )
    return cells, notes


def fill_absent(cohort: PairedCohort, data: GenesDataBlock, assigned: Assignment) -> None:
    """Fill absent gene vectors with the training part's means, where that is asked for."""
    if data.missing_genes != "mean" or cohort.present.all():
        return
    train = cohort.rows_of(assigned.parts["train"])
    means = [
        cohort.gene(index, train[cohort.present[index, train]]).mean(0)
        for index in range(len(cohort.genes))
    ]
    cohort.filled = np.stack(means).astype(np.float32)
