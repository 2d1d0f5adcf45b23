"""Several datasets as one: their people divided, their phenotypes read together, their weights.

Each dataset is divided by its own rule, the same as when it is alone. What would make a model learn
datasets and not brains, such as other words for the same classes, is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.cohort.assign import Assignment, assign_parts
from neurocli.core.cohort.files import split_sha256
from neurocli.core.data.mixing import MixedSamples, Mixture
from neurocli.core.data.tables import Table
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.names import choices_text
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.found import Found, joined_id
from neurocli.systems.fmri.sources import JOIN_KEY, Source
from neurocli.systems.fmri.targets import (
    Targets,
    TargetType,
    read_phenotypes,
    read_sites,
    read_targets,
    targets_of,
    told_kind,
)


def targets_from(sources: Sequence[Source], column: str, kind: TargetType | None) -> Targets:
    """Read one phenotype of all datasets; what the column is, all of them decide together.

    Args:
        sources: The datasets.
        column: Name of the column, the same in every table.
        kind: None takes what is said beside the tables, else decides by the values of all.

    Raises:
        UsageError: A table or the column is missing, or the tables do not say the same kind.
        NeuroError: A dataset shares no class with the others, or see `read_targets`.
        InputError: A table cannot be read.
    """
    if len(sources) == 1 and sources[0].name is None:
        return read_targets(sources[0].table, column, kind)
    tables = [read_phenotypes(source.table, column) for source in sources]
    told = {source.name: told_kind(source.table, column) for source in sources}
    kinds = {said for said in told.values() if said is not None}
    if kind is None and len(kinds) > 1:
        words = ", ".join(f"{name}: {said}" for name, said in told.items() if said is not None)
        raise UsageError(
            f"{column} is not the same kind of number everywhere ({words})",
            where=JOIN_KEY,
            hint="say which with --task-type",
        )
    pairs = list(zip(sources, tables, strict=True))
    whole = Table(
        ids=[joined_id(source.name, name) for source, table in pairs for name in table.ids],
        id_column=tables[0].id_column,
        columns={column: [cell for _, table in pairs for cell in table.columns[column]]},
        path=Path(JOIN_KEY),
    )
    targets = targets_of(whole, column, kind or next(iter(kinds), None))
    if targets.kind == "classification":
        _check_words([(str(s.name), set(t.columns[column]) - {None}) for s, t in pairs], column)
    return targets


def _check_words(classes: Sequence[tuple[str, set[Any]]], column: str) -> None:
    for name, own in classes:
        others: set[Any] = set().union(*(more for other, more in classes if other != name))
        if len(classes) > 1 and own and not own & others:
            raise NeuroError(
                f"{column} of {name} ({choices_text(sorted(own))}) shares no class with the other "
                f"datasets ({choices_text(sorted(others))}): a model would tell datasets apart",
                where=JOIN_KEY,
                hint="use the same words in every table",
            )


def sites_of(
    sources: Sequence[Source], column: str | None, datasets: Mapping[str, str]
) -> dict[str, str]:
    """Return where each participant was measured; a joined dataset without sites is one site.

    Args:
        sources: The datasets.
        column: Column of sites; None for none.
        datasets: Participant -> dataset, of joined ones.

    Raises:
        InputError: A table cannot be read.
    """
    found: dict[str, str] = {}
    for source in sources:
        for name, site in read_sites(source.table, column).items():
            found[joined_id(source.name, name)] = joined_id(source.name, site)
    return {**datasets, **found} if column is not None else found


def assign_sources(
    sources: Sequence[Source],
    found: Found,
    *,
    parts: Mapping[str, list[str]] | None,
    split_path: str | None,
    seed: int,
) -> Assignment:
    """Divide the people; joined datasets are divided one by one, each as when it is alone.

    Args:
        sources: The datasets.
        found: Their runs.
        parts: Participants by part, as a checkpoint holds them; wins over everything else.
        split_path: A split file that names everybody, joined ids included.
        seed: For the hash, when nothing is given.

    Raises:
        UsageError: A split file names nobody of its dataset.
        InputError: A split file cannot be read.
    """
    if parts is not None or split_path is not None or sources[0].name is None:
        table = sources[0].table if len(sources) == 1 else None
        return assign_parts(
            found.participants, parts=parts, split_path=split_path, table_path=table, seed=seed
        )
    whole: dict[str, list[str]] = {}
    said: dict[str, list[str]] = {}
    for source in sources:
        assert source.name is not None
        ours = f"{source.name}."
        own = [name.removeprefix(ours) for name in found.participants if name.startswith(ours)]
        each = assign_parts(own, split_path=source.split, table_path=source.table, seed=seed)
        for part, names in each.parts.items():
            whole.setdefault(part, []).extend(joined_id(source.name, name) for name in names)
        for note in each.notes:
            said.setdefault(note, []).append(source.name)
    notes = [f"{', '.join(names)}: {note}" for note, names in said.items()]
    return Assignment(whole, split_sha256(whole), notes)


def drawn_by_weight(
    sources: Sequence[Source], train: ClipSet | None, seed: int
) -> MixedSamples | None:
    """Return the training part as weights draw it; None where every clip comes once an epoch.

    Args:
        sources: The datasets.
        train: The training part.
        seed: Of the run.

    Raises:
        UsageError: A dataset with a weight has nobody in the training part.
    """
    weights = [source.weight for source in sources if source.weight is not None]
    if not weights or train is None:
        return None
    groups: dict[str, list[int]] = {str(source.name): [] for source in sources}
    for index in range(len(train)):
        groups[str(train.dataset(index))].append(index)
    if empty := [name for name, clips in groups.items() if not clips]:
        raise UsageError(
            f"nobody of {choices_text(empty)} is in the training part, so its weight is void",
            where=JOIN_KEY,
            hint="leave it out, or give a split that trains on some of it",
        )
    return MixedSamples(train, Mixture(list(groups.values()), weights, seed=seed))


def joined_rows(sources: Sequence[Source], parts: Mapping[str, ClipSet]) -> dict[str, Any]:
    """Return what a run keeps of joined datasets, under `datasets`; nothing for one alone.

    Args:
        sources: The datasets.
        parts: Clips by part.

    Returns:
        One row per dataset: name, weight, clips and participants by part, share of an epoch.
    """
    if sources[0].name is None:
        return {}
    rows: dict[str, dict[str, Any]] = {
        str(source.name): {"name": source.name, "weight": source.weight, "clips": {}}
        for source in sources
    }
    for part, clips in parts.items():
        for index in range(len(clips)):
            counts = rows[str(clips.dataset(index))]["clips"]
            counts[part] = counts.get(part, 0) + 1
        for name, row in rows.items():
            own = sum(person.startswith(f"{name}.") for person in clips.participants)
            row.setdefault("participants", {}).update({part: own} if own else {})
    whole = sum(row["weight"] or row["clips"].get("train", 0) for row in rows.values())
    for row in rows.values():
        row["share"] = (row["weight"] or row["clips"].get("train", 0)) / whole if whole else None
    return {"datasets": list(rows.values())}


def joined_notes(rows: Sequence[Mapping[str, Any]], like: Mapping[str, Any] | None) -> list[str]:
    """Say of each joined dataset how many people it has, and how often training sees them.

    Args:
        rows: From `joined_rows`.
        like: `RunData.info` of the data a model was trained on; None when it is to be trained.
    """
    known = [str(row["name"]) for row in (like or {}).get("datasets", ())]
    notes = []
    for row in rows:
        people = sum(row.get("participants", {}).values())
        n_train = row["clips"].get("train", 0)
        told = f"{row['name']}: {people} participants, {n_train} training clips"
        if known and row["name"] not in known:
            told += (
                f"; no dataset of the training ({choices_text(known)}), so people that it shares "
                "with one of them are not recognised"
            )
        elif like is None and row["share"] is not None:
            told += f", {100 * row['share']:.3g} % of an epoch"
        notes.append(told)
    return notes
