"""Read tables of people as they come, every cell as text, and write them safely.

CSV, TSV, semicolons, R's write.table form, Parquet; byte-order marks, quotes, any line ends.
Guessing types loses leading zeros and turns an id such as "NA" into a missing value, so numbers are
made only from the columns that are asked for.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from neurocli.core.data import delimited, parquet
from neurocli.core.data.delimited import ROW_NAMES, Rows
from neurocli.core.data.source import foreign_content, open_regular
from neurocli.core.errors import InputError, NeuroError
from neurocli.core.names import lookup
from neurocli.core.paths import durable_write

MISSING = frozenset({"", "n/a", "N/A", "NA", "NaN", "nan", "null", "None"})
ID_COLUMNS = (
    "participant_id", "subject", "subject_id", "subjectkey", "src_subject_id",
    "sub_id", "subid", "eid", "iid", "id",
)  # fmt: skip
_MAX_BYTES = 1 << 30
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
# What whole numbers look like in a column of floats; leading zeros are part of a name.
_FLOAT_ID = re.compile(r"(?:0|[1-9]\d*)\.0+|[1-9](?:\.\d+)?[eE]\+?\d+", re.ASCII)
_MAX_ID_DIGITS = 30
_NUMERIC = re.compile(r"[0-9.eE+-]*", re.ASCII)
_FORMULA = ("=", "+", "-", "@")
_GUARD = "'"
_FEW = 1000


@dataclass(frozen=True)
class Table:
    """Hold a table with one row per subject.

    Args:
        ids: Text of the id column, in row order, unique and never blank.
        id_column: Its name; `row_names` where the header does not name it.
        columns: The other columns in file order; a missing cell is None, all others are text.
        path: Where the table came from.
        read: What was already made of single columns, so that it is made once.
    """

    ids: list[str]
    id_column: str
    columns: dict[str, list[str | None]]
    path: Path
    read: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


def read_table(path: Path, *, id_column: str | None = None, encoding: str | None = None) -> Table:
    """Read a table of subjects.

    Args:
        path: CSV, TSV, semicolon or blank separated text, or Parquet; content decides.
        id_column: Column with the ids; None takes row names that the header does not mention, else
            the first of `ID_COLUMNS` that is there in any case, else the first column.
        encoding: Encoding of a text; None for UTF-8, or what a byte-order mark says.

    Returns:
        The table. Blanks around cells are dropped.

    Raises:
        InputError: The file is no table, or a row is ragged, or ids or column names repeat; the
            lines are named.
        UsageError: `id_column` is no column of the table.
        MissingDependencyError: A Parquet table without a library that reads it.
    """
    rows = _read_rows(path, encoding)
    names = _names(path, rows.header)
    position = _id_position(names, rows, id_column, path)
    ids = _whole([_unguarded(row[position]) for row in rows.cells])
    _check_ids(path, names[position], ids, rows.lines)
    columns = {
        name: _cells([row[index] for row in rows.cells])
        for index, name in enumerate(names)
        if index != position
    }
    return Table(ids, names[position], columns, path)


def read_records(
    path: Path, *, encoding: str | None = None
) -> list[tuple[int, dict[str, str | None]]]:
    """Read a table whose rows need no id, such as the events of a run.

    Args:
        path: As for `read_table`.
        encoding: As for `read_table`.

    Returns:
        (line of the file, column -> text or None where missing) of each row, in file order.

    Raises:
        InputError: The file is no table, or a row is ragged, or column names repeat.
        MissingDependencyError: A Parquet table without a library that reads it.
    """
    rows = _read_rows(path, encoding)
    names = _names(path, rows.header)
    return [
        (line, {name: _cell(cell) for name, cell in zip(names, cells, strict=True)})
        for line, cells in zip(rows.lines, rows.cells, strict=True)
    ]


def _read_rows(path: Path, encoding: str | None) -> Rows:
    with open_regular(path, max_bytes=_MAX_BYTES) as handle:
        data = handle.read()
    if data.startswith(parquet.MAGIC):
        return parquet.parse(path)
    foreign = foreign_content(data, is_text_wanted=True)
    if foreign:
        raise InputError(path, foreign[0], f"{foreign[1]}; a CSV or TSV table is needed")
    text = delimited.decode(path, data, encoding)
    del data  # else a large table is held twice while it is cut
    return delimited.parse(path, text)


def _names(path: Path, header: list[str]) -> list[str]:
    names = [name or f"column_{index}" for index, name in enumerate(header, start=1)]
    if not header[0]:
        names[0] = ROW_NAMES
    for index, name in enumerate(names):
        first = names.index(name)
        if first != index:
            raise InputError(
                path,
                f"column '{name}' stands twice (columns {first + 1} and {index + 1})",
                "rename or remove one of them",
            )
    return names


def _id_position(names: list[str], rows: Rows, wanted: str | None, path: Path) -> int:
    positions = {name: index for index, name in enumerate(names)}
    if wanted is not None:
        return lookup("column", wanted, positions, hint=f"in {path.name}")
    folded = {name.lower(): index for name, index in reversed(positions.items())}
    known = [folded[name] for name in ID_COLUMNS if name in folded]
    return known[0] if known and not rows.has_row_names else 0


def _check_ids(path: Path, column: str, ids: list[str], lines: list[int]) -> None:
    first_line: dict[str, int] = {}
    repeats: list[tuple[str, int, int]] = []
    for identifier, line in zip(ids, lines, strict=True):
        if not identifier:
            raise InputError(f"{path}:{line}", f"the row has no id in column '{column}'", "add it")
        if identifier in first_line:
            repeats.append((identifier, first_line[identifier], line))
        first_line.setdefault(identifier, line)
    if repeats:
        shown = "; ".join(f"'{name}' on lines {a} and {b}" for name, a, b in repeats[:3])
        more = f"; {len(repeats) - 3} more" if len(repeats) > 3 else ""
        raise InputError(
            path,
            f"ids in column '{column}' repeat: {shown}{more}",
            "keep one row per subject, or choose another column with --id-column",
        )


def plain_id(text: str) -> str:
    """Return an id without the fraction that a column of floats gives it.

    >>> plain_id("1001.0"), plain_id("1.001e+03"), plain_id("007"), plain_id("1.5")
    ('1001', '1001', '007', '1.5')
    """
    if not _FLOAT_ID.fullmatch(text):
        return text
    number = Decimal(text)  # never a float: ids above 2^53 would lose digits
    is_whole = number == number.to_integral_value() and number.adjusted() < _MAX_ID_DIGITS
    return str(int(number)) if is_whole else text


def _whole(ids: list[str]) -> list[str]:
    """Undo a column of whole ids that was saved as floats; any other column stays as it is."""
    if not all(_FLOAT_ID.fullmatch(text) or text.isdecimal() for text in ids):
        return ids
    plain = [plain_id(text) for text in ids]
    return plain if all(text.isdecimal() for text in plain) else ids


def _unguarded(text: str) -> str:
    return text[1:] if text[:1] == _GUARD and text[1:2] in _FORMULA else text


def _cell(text: str) -> str | None:
    return None if text in MISSING else _unguarded(text)


def _cells(texts: list[str]) -> list[str | None]:
    """Return `_cell` of each text; equal texts of a column with few become one object."""
    known = set(texts)
    if len(known) <= _FEW:
        made = {text: _cell(text) for text in known}
        return list(map(made.__getitem__, texts))
    if known.isdisjoint(MISSING) and not any(text.startswith(_GUARD) for text in known):
        return cast(list[str | None], texts)
    return [_cell(text) for text in texts]


def numeric_column(table: Table, name: str) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return one column as numbers.

    Args:
        table: The table.
        name: One of its columns.

    Returns:
        Values (rows,) float64, NaN where the cell is missing or no finite number; and one
        "id: text" for each cell of the second kind, in row order.

    Raises:
        UsageError: There is no such column.
    """
    cells = lookup("column", name, table.columns, hint=f"in {table.path.name}")
    plain = _plain_numbers(cells)
    if plain is not None:
        return plain, []
    values = np.full(len(cells), np.nan)
    bad = []
    for index, cell in enumerate(cells):
        if cell is None:
            continue
        number = parse_number(cell)
        if number is not None:
            values[index] = number
        else:
            bad.append(f"{table.ids[index]}: {cell}")
    return values, bad


def _plain_numbers(cells: Sequence[str | None]) -> npt.NDArray[np.float64] | None:
    """Return a column of nothing but plain numbers and gaps at once, or None for any other."""
    # Of texts in these characters float() accepts numbers only: no words, no underscores.
    if not _NUMERIC.fullmatch("".join(cell for cell in cells if cell is not None)):
        return None
    known = cells if None not in cells else ["nan" if cell is None else cell for cell in cells]
    try:
        values = np.fromiter(map(float, known), np.float64, len(known))  # type: ignore[arg-type]
    except ValueError:
        return None
    return None if np.isinf(values).any() else values.reshape(len(cells))


def parse_number(text: str) -> float | None:
    """Return a decimal number, or None where a text is no finite one.

    >>> parse_number("-1.5e3"), parse_number("1_000"), parse_number("inf")
    (-1500.0, None, None)
    """
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None


def write_tsv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a tab separated table whole or not at all.

    Texts that a spreadsheet would run as a formula get a leading apostrophe, which `read_table`
    takes away again; numbers stay numbers. None, NaN and empty texts become n/a.

    Args:
        path: The final name.
        header: Column names.
        rows: Cells of each row, as many as names.

    Raises:
        NeuroError: A row has another number of cells, or the disk is full.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow([safe_cell(name) for name in header])
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise NeuroError(
                f"row {number} has {len(row)} cells, the header has {len(header)}", where=str(path)
            )
        writer.writerow([safe_cell(cell) or "n/a" for cell in row])
    durable_write(path, buffer.getvalue())


def safe_cell(cell: Any) -> str:
    """Return a cell as text that no spreadsheet runs as a formula.

    Args:
        cell: Text or a number; None and NaN become blank.

    Returns:
        One line of valid Unicode; an apostrophe stands before a formula sign unless the whole is a
        number.

    >>> safe_cell("=1+1"), safe_cell(-2.5)
    ("'=1+1", '-2.5')
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    # Bytes of a name that are no UTF-8 are spelled out, so that the table stays a valid text.
    text = str(cell).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = " ".join(text.replace("\0", " ").split())
    is_formula = text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return _GUARD + text if is_formula else text
