"""Join a cohort's tables by id and say in plain words what every cell means.

Nothing is joined by row position. What cannot be used (rows without an id, contradicting rows,
blank cells, codes without a meaning) is left out, counted, and listed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocli.core.data.tables import parse_number, read_records
from neurocli.core.errors import InputError
from neurocli.core.names import choices_text
from neurocli.systems.fmri.cohorts import Cohort, MetadataTable, Target

SITE, FAMILY = "site", "family"
_METADATA = "metadata"
_WHOLE = re.compile(r"(\d+)(?:\.0*)?", re.ASCII)
Row = dict[str, str | None]


@dataclass
class Phenotypes:
    """Hold what the tables tell.

    Args:
        people: Person -> column -> text, None where unknown.
        dictionary: Column -> what it is.
        left_out: (row or person, reason) of everything that is not used.
        notes: Sentences for the user.
    """

    people: dict[str, Row] = field(default_factory=dict)
    dictionary: dict[str, Any] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def person_of(cohort: Cohort, text: str) -> str | None:
    """Return the one spelling of an id, or None where a text is none.

    >>> from neurocli.systems.fmri.cohorts import ABIDE, ADNI
    >>> person_of(ABIDE, "0050003"), person_of(ADNI, "sub-ADNI002S0295"), person_of(ABIDE, "x")
    ('50003', '002S0295', None)
    """
    if cohort.id_kind == "number":
        match = _WHOLE.fullmatch(text.strip())
        return None if match is None else str(int(match[1]))
    match = re.fullmatch(cohort.frames, text.strip())
    return None if match is None else re.sub(r"[^A-Z0-9]", "", match["id"].upper())


def find_tables(
    cohort: Cohort, sources: Iterable[Path], given: Path | None
) -> list[tuple[MetadataTable, Path]]:
    """Return the tables that are there, in the order in which they are joined.

    Args:
        cohort: The row.
        sources: Folders of runs: their own files, their `metadata` and that of the folders above
            them (up to two) are searched.
        given: A folder or one table, instead of that.

    Raises:
        InputError: The given path holds no table of this cohort.
    """
    if given is not None and given.is_file():
        return [(_kind_of(cohort, given), given)]
    homes = [given] if given is not None else _homes(sources)
    found = []
    for kind in cohort.tables:
        paths = [p for home in homes for name in kind.names for p in sorted(home.glob(name))]
        found += [(kind, path) for path in dict.fromkeys(paths)]
    if given is not None and not found:
        names = choices_text(name for kind in cohort.tables for name in kind.names)
        raise InputError(given, f"holds no table of {cohort.name}", f"known are {names}")
    return found


def _kind_of(cohort: Cohort, path: Path) -> MetadataTable:
    matching = [k for k in cohort.tables if any(path.match(name) for name in k.names)]
    ids = tuple(dict.fromkeys(name for kind in cohort.tables for name in kind.ids))
    return matching[0] if matching else MetadataTable((path.name,), ids)


def _homes(sources: Iterable[Path]) -> list[Path]:
    homes: dict[Path, None] = {}
    for source in sources:
        folder = source.resolve()
        homes[folder] = None
        for level in (folder, *list(folder.parents)[:2]):
            homes[level / _METADATA] = None
    return [home for home in homes if home.is_dir()]


def read_phenotypes(
    cohort: Cohort, tables: Sequence[tuple[MetadataTable, Path]], people: Iterable[str]
) -> Phenotypes:
    """Join the tables of a cohort.

    Args:
        cohort: The row.
        tables: From `find_tables`.
        people: Who has a run.

    Returns:
        What is known of these people, one column per target.

    Raises:
        InputError: A table cannot be read or has no column of ids.
    """
    told = Phenotypes()
    wanted = dict.fromkeys(people)
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    strangers: dict[str, None] = {}
    for kind, path in tables:
        for person, row in _rows_by_person(cohort, kind, path, told):
            if person in wanted:
                rows[person].append(row)
            else:
                strangers[person] = None
                told.left_out.append((person, f"{path.name}: has no run here"))
    columns = {name for group in rows.values() for row in group for name in row}
    targets = {n: t for n, t in cohort.targets.items() if columns.intersection(t.columns)}
    told.people = {
        person: _cells(cohort, rows.get(person, []), targets, told, person) for person in wanted
    }
    for person in wanted:
        if tables and person not in rows:
            told.left_out.append((person, "has runs and no row in the tables"))
    told.dictionary = {name: _entry(target) for name, target in targets.items()}
    told.notes += _notes(cohort, told, tables, (len(wanted), len(rows), len(strangers)), targets)
    return told


def _rows_by_person(
    cohort: Cohort, kind: MetadataTable, path: Path, told: Phenotypes
) -> Iterable[tuple[str, Row]]:
    records = _records(cohort, path)
    names = list(records[0][1])
    column = next((name for name in kind.ids if name in names), None)
    if column is None:
        wanted = choices_text(kind.ids)
        raise InputError(path, f"has no column of ids ({wanted})", f"it has {choices_text(names)}")
    by_person: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    for line, row in records:
        text = row[column] or ""
        person = person_of(cohort, text)
        if person is None:
            told.left_out.append((f"{path.name}:{line}", f"'{text:.40}' is no id of {cohort.name}"))
        else:
            by_person[person].append((line, row))
    for person, group in by_person.items():
        yield person, _one_row(cohort, path, person, group, told)


def _records(cohort: Cohort, path: Path) -> list[tuple[int, Row]]:
    *others, last = cohort.encodings
    for encoding in others:
        try:
            return read_records(path, encoding=encoding)
        except InputError as error:
            if "text (byte" not in error.message:
                raise
    return read_records(path, encoding=last)


def _one_row(
    cohort: Cohort, path: Path, person: str, group: list[tuple[int, Row]], told: Phenotypes
) -> Row:
    """Return a person's row; where two rows contradict, only what they agree on."""
    *others, (_, last) = group
    if not others:
        return last
    lines = ", ".join(str(line) for line, _ in group)
    if cohort.repeats == "last":
        told.left_out.append((person, f"{path.name}: lines {lines} name it; the last was taken"))
        return last
    used = {name for target in cohort.targets.values() for name in target.columns}
    used |= {*cohort.sites, *cohort.families}
    differing = sorted({k for _, row in others for k in used & set(row) if row[k] != last[k]})
    if differing:
        told.left_out.append(
            (person, f"{path.name}: lines {lines} differ in {choices_text(differing)}")
        )
    return {name: None if name in differing else cell for name, cell in last.items()}


def _cells(
    cohort: Cohort, rows: list[Row], targets: Mapping[str, Target], told: Phenotypes, person: str
) -> Row:
    joined: Row = {}
    for row in rows:
        joined |= {name: cell for name, cell in row.items() if cell is not None}
    cells: Row = {}
    for name, target in targets.items():
        text = _first(joined, target.columns)
        text = None if text in cohort.missing else text
        cells[name] = None if text is None else _meaning(target, text)
        if text is None and rows:
            told.left_out.append((person, f"{name}: blank"))
        elif text is not None and cells[name] is None:
            told.left_out.append((person, f"{name}: '{text:.40}' has no meaning here"))
    for name, columns in ((SITE, cohort.sites), (FAMILY, cohort.families)):
        text = _first(joined, columns)
        if text is not None:
            cells[name] = text
    return cells


def _first(row: Row, columns: Iterable[str]) -> str | None:
    return next((row[name] for name in columns if row.get(name) is not None), None)


def _meaning(target: Target, text: str) -> str | None:
    number = parse_number(text)
    if target.kind == "regression":
        return None if number is None else text
    # "1.0" is the code 1: tools that know no missing whole numbers write it so.
    code = str(int(number)) if number is not None and number == int(number) else text
    return target.values.get(text, target.values.get(code))


def _entry(target: Target) -> dict[str, Any]:
    entry: dict[str, Any] = {"Kind": target.kind, "SourceColumns": list(target.columns)}
    if target.values:
        entry["Levels"] = {name: name for name in sorted({*target.values.values()})}
        entry["SourceValues"] = dict(target.values)
    return entry


def _notes(
    cohort: Cohort,
    told: Phenotypes,
    tables: Sequence[tuple[MetadataTable, Path]],
    counts: tuple[int, int, int],
    targets: Mapping[str, Target],
) -> list[str]:
    n_people, n_known, n_strangers = counts
    if not tables:
        names = choices_text(name for kind in cohort.tables for name in kind.names)
        return [f"no table of {cohort.name} was found ({names}); give --metadata PATH for --task"]
    notes = [f"{n_known} of {n_people} people have a row in {len(tables)} tables of {cohort.name}"]
    if n_strangers:
        notes.append(f"{n_strangers} people of the tables have no run here")
    absent = [name for name in cohort.targets if name not in targets]
    if absent:
        notes.append(f"the tables have no column for {choices_text(absent)}")
    reasons = Counter(reason for _, reason in told.left_out if "no run here" not in reason)
    for reason, count in sorted(reasons.items())[:8]:
        first = next(who for who, why in told.left_out if why == reason)
        notes.append(f"left out: {reason}: {count} (such as {first})")
    if told.left_out:
        notes.append(
            f"{len(told.left_out)} rows or cells are left out; left_out.tsv lists them all"
        )
    return notes
