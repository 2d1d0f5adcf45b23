"""Which part each participant of an opened dataset belongs to.

A part list comes from a checkpoint, a split file, or a hash of seed and id, in that order. People
are divided, never samples; people whom a list does not name form the part "rest".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurocli.core.cohort.files import read_split, split_sha256
from neurocli.core.cohort.splits import random_split
from neurocli.core.data.tables import read_table
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text

_FAMILY = "family"  # the column of the standard table that names people who must stay together


@dataclass(frozen=True)
class Assignment:
    """Hold participants by part, the hash of that, and what the user should know."""

    parts: Mapping[str, list[str]]
    sha256: str
    notes: list[str] = field(default_factory=list)


def assign_parts(
    participants: Sequence[str],
    *,
    parts: Mapping[str, list[str]] | None = None,
    split_path: str | Path | None = None,
    table_path: Path | None = None,
    seed: int = 0,
) -> Assignment:
    """Assign every participant of a dataset to a part.

    Args:
        participants: Ids in the dataset.
        parts: Ids by part from a checkpoint; wins over everything else.
        split_path: A split file.
        table_path: Phenotypes; its column `family` keeps relatives together when nothing is given.
        seed: For the hash, when nothing is given.

    Returns:
        Parts that hold only ids of the dataset.

    Raises:
        UsageError: The split file names nobody of the dataset.
        InputError: The split file cannot be read.
    """
    notes: list[str] = []
    if parts is None and split_path is None:
        parts, notes = _by_hash(participants, table_path, seed)
    elif parts is None:
        parts = read_split(Path(str(split_path))).parts
        if not set(participants) & {name for names in parts.values() for name in names}:
            raise UsageError(
                "the split names nobody of this dataset",
                where=str(split_path),
                hint=f"the dataset holds {choices_text(sorted(participants))}",
            )
    known = set(participants)
    named = {name for names in parts.values() for name in names}
    kept = {part: [name for name in names if name in known] for part, names in parts.items()}
    for part in ("train", "val", "test"):
        kept.setdefault(part, [])
    rest = sorted(known - named)
    if rest:
        kept["rest"] = rest
        notes.append(f"{len(rest)} participants are in no part of the split: {choices_text(rest)}")
    absent = len(named - known)
    if absent:
        notes.append(f"{absent} participants of the split are not in this data")
    return Assignment(kept, split_sha256(kept), notes)


def _by_hash(
    participants: Sequence[str], table_path: Path | None, seed: int
) -> tuple[Mapping[str, list[str]], list[str]]:
    ids = sorted(participants)
    sizes = "people are divided 70/15/15 by a hash of seed and id; see `neuro split`"
    if table_path is not None and table_path.is_file():
        table = read_table(table_path)
        column = dict(zip(table.ids, table.columns.get(_FAMILY, []), strict=False))
        families = [column.get(name) for name in ids]
        if any(family is not None for family in families):
            parts = random_split(ids, seed=seed, groups={_FAMILY: families})
            return parts, [f"no --split: {sizes}; members of a {_FAMILY} stay together"]
    parts = random_split(ids, seed=seed)
    if len(ids) < 3:
        return parts, [f"no --split and {len(ids)} participants: no part is left for a test"]
    return parts, [f"no --split: {sizes}"]
