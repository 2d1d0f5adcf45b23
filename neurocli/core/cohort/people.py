"""Find the people to divide: a phenotype table, or the participants of a dataset folder.

People come back sorted by id, so that the order of rows ends here.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from neurocli.core.data.manifest import Manifest
from neurocli.core.data.tables import Table, read_table
from neurocli.core.errors import ExitCode, InputError, UsageError
from neurocli.core.names import choices_text

PARTICIPANTS_FILE = "participants.tsv"
MANIFEST_FILE = "manifest.jsonl"
_FAMILY_WORDS = frozenset(
    {
        "famid",
        "family",
        "familyid",
        "father",
        "fatherid",
        "fid",
        "household",
        "householdid",
        "kinship",
        "mother",
        "motherid",
        "pairid",
        "relfamilyid",
        "sibling",
        "siblingid",
        "siblings",
        "twin",
        "twinid",
        "twinpair",
    }
)
_ID_PROBLEMS = ("ids in column", "the row has no id")
_NO_ID = re.compile(r"[\x00-\x1f\x7f/\\]|^\.\.?$")


def read_people(source: Path, *, id_column: str | None = None) -> tuple[Table, list[str]]:
    """Read the participants of a table or a dataset folder.

    A folder gives its `participants.tsv`, narrowed to participants with at least one finished
    item when there is a manifest; without the table the manifest alone.

    Args:
        source: Table file, or folder.
        id_column: Column with the ids; None lets the table's reader choose.

    Returns:
        The table, sorted by id, and notes about people who were left out or lack a row.

    Raises:
        InputError: The source is missing, empty, no table, or no dataset folder.
        UsageError: There is no such id column, or an id cannot name a person.
    """
    try:
        if source.is_dir():
            table, notes = _people_of_folder(source, id_column)
        else:
            table, notes = read_table(source, id_column=id_column), []
    except InputError as error:
        # A list of participants that names someone twice or nobody is wrong usage, not damage.
        if error.message.startswith(_ID_PROBLEMS):
            error.code = ExitCode.USAGE
        raise
    if not table.ids:
        raise InputError(source, "lists nobody", "check that the table has rows under its header")
    wrong = [name for name in table.ids if _NO_ID.search(name)]
    if wrong:
        raise UsageError(
            f"{len(wrong)} ids hold a slash or a control character: {choices_text(wrong[:3])!r}",
            where=f"{source}, column {table.id_column}",
            hint="ids become file names; replace these characters",
        )
    return _picked(table, sorted(table.ids)), notes


def without(table: Table, ids: Collection[str]) -> Table:
    """Return a table without some of its people."""
    dropped = set(ids)
    return _picked(table, [name for name in table.ids if name not in dropped])


def only(table: Table, ids: Collection[str]) -> Table:
    """Return a table of some of its people, sorted by id."""
    return _picked(table, sorted(ids))


def family_columns(table: Table) -> list[str]:
    """Return columns that are named like a family and tie at least two people.

    >>> family_columns(Table(["a", "b"], "id", {"Mother_ID": ["7", "7"]}, Path("t.csv")))
    ['Mother_ID']
    """
    return [
        name
        for name, values in table.columns.items()
        if re.sub(r"[^a-z]", "", name.lower()) in _FAMILY_WORDS
        and len(known := [value for value in values if value is not None]) > len(set(known))
    ]


def _people_of_folder(folder: Path, id_column: str | None) -> tuple[Table, list[str]]:
    table_path, manifest_path = folder / PARTICIPANTS_FILE, folder / MANIFEST_FILE
    table = read_table(table_path, id_column=id_column) if table_path.is_file() else None
    if not manifest_path.is_file():
        if table is None:
            raise InputError(
                folder,
                f"holds neither {PARTICIPANTS_FILE} nor {MANIFEST_FILE}",
                "give a phenotype table, a BIDS folder or the output of neuro preprocess",
            )
        return table, []
    records = Manifest(manifest_path).records().values()
    done = {str(r.get("participant", r["subject"])) for r in records if r.get("status") == "done"}
    if not done:
        raise InputError(manifest_path, "lists no finished participant", "run neuro preprocess")
    if table is None:
        return Table(sorted(done), "participant", {}, manifest_path), []
    notes = []
    if unprocessed := sorted(set(table.ids) - done):
        notes.append(f"left out, no processed data: {_counted(unprocessed)}")
    if unlisted := sorted(done - set(table.ids)):
        notes.append(f"no row in {PARTICIPANTS_FILE}, all values missing: {_counted(unlisted)}")
    return _picked(table, sorted(done)), notes


def _picked(table: Table, ids: list[str]) -> Table:
    """Return the rows of some ids in their order; an id without a row misses every value."""
    if ids == table.ids:
        return table
    position: Mapping[str, int] = {name: index for index, name in enumerate(table.ids)}
    rows = [position.get(name) for name in ids]
    if rows and None not in rows:
        # Two indices more, so that what is picked is a tuple for any number of rows.
        picked = operator.itemgetter(0, 0, *rows)
        columns = {name: list(picked(values)[2:]) for name, values in table.columns.items()}
        return Table(ids, table.id_column, columns, table.path)
    columns = {
        name: [None if row is None else values[row] for row in rows]
        for name, values in table.columns.items()
    }
    return Table(ids, table.id_column, columns, table.path)


def _counted(names: list[str]) -> str:
    return f"{len(names)} ({choices_text(names[:3])}{', ...' if len(names) > 3 else ''})"
