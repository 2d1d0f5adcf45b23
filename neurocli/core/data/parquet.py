"""Read Parquet tables as text or numbers, with whichever of two optional libraries is installed."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.delimited import Rows
from neurocli.core.errors import InputError, MissingDependencyError
from neurocli.core.names import lookup

MAGIC = b"PAR1"
_MAX_EXACT = 2**53


def parse(path: Path) -> Rows:
    """Read a Parquet file into rows of text.

    Whole numbers that a writer stored as floats (because some are missing) are written without a
    fraction, so that ids and class codes keep their usual form.

    Args:
        path: A regular file that starts with `MAGIC`.

    Returns:
        Header and rows; missing values are empty text, lines count rows from 1.

    Raises:
        MissingDependencyError: Neither pyarrow nor polars is installed.
        InputError: The file is damaged or holds no rows.
    """
    try:
        columns = _columns(path)
    except (OSError, ValueError, NotImplementedError, MemoryError) as error:
        text = (str(error).splitlines() or ["out of memory"])[0]
        raise InputError(path, f"is a damaged Parquet table ({text})", "write it again") from error
    cells = [[_text(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    if not cells:
        raise InputError(path, "holds no rows", "give a table with one row per subject")
    return Rows(list(columns), cells, list(range(1, len(cells) + 1)), has_row_names=False)


def names(path: Path) -> list[str]:
    """Return the column names of a Parquet file.

    Raises:
        InputError: The file is damaged.
        MissingDependencyError: No library that reads it is installed.
    """
    found = _frame(path, None)
    return list(found)


def numbers(
    path: Path, id_column: str, columns: Sequence[str]
) -> tuple[list[Any], npt.NDArray[np.float32]]:
    """Return one column as it is and some columns as numbers.

    Args:
        path: The Parquet file.
        id_column: Kept as it is.
        columns: Read as float32; blank cells are NaN.

    Returns:
        (S,) cells, and (S, F) float32.

    Raises:
        InputError: The file is damaged, or a column holds no numbers.
        UsageError: There is no such column.
        MissingDependencyError: No library that reads it is installed.
    """
    known = dict.fromkeys(names(path))
    for name in (id_column, *columns):
        lookup("column", name, known, hint=f"in {path.name}")
    found = _frame(path, [id_column, *columns], id_column)
    values = np.empty((len(found[id_column]), len(columns)), dtype=np.float32)
    for place, name in enumerate(columns):
        try:
            values[:, place] = found[name]
        except (TypeError, ValueError) as error:
            raise InputError(path, f"column {name} holds no numbers", "repair it") from error
    return [_text(cell) for cell in found[id_column]], values


def _frame(path: Path, columns: Sequence[str] | None, ids: str = "") -> dict[str, Any]:
    """Return columns as NumPy arrays by name; without `columns` the names alone.

    The column `ids` comes as a list: NumPy has no whole numbers beside blanks, and the digits of
    long ids would be lost.
    """
    try:
        reader: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        return _frame_polars(path, columns, ids)
    try:
        if columns is None:
            return dict.fromkeys(reader.ParquetFile(path).schema_arrow.names)
        table = reader.ParquetFile(path).read(columns=list(columns))
    except (ValueError, OSError) as error:
        raise _damaged(path, error) from error
    return {n: table[n].to_pylist() if n == ids else table[n].to_numpy() for n in columns}


def _frame_polars(path: Path, columns: Sequence[str] | None, ids: str) -> dict[str, Any]:
    polars = _polars(path)
    try:
        if columns is None:
            return dict.fromkeys(polars.read_parquet_schema(path))
        frame = polars.read_parquet(path, columns=list(columns))
    except (polars.exceptions.PolarsError, OSError) as error:
        raise _damaged(path, error) from error
    return {n: frame[n].to_list() if n == ids else frame[n].to_numpy() for n in columns}


def _damaged(path: Path, error: Exception) -> InputError:
    text = str(error).splitlines()[0][:120]
    return InputError(path, f"is a damaged Parquet table ({text})", "write it again")


def _columns(path: Path) -> dict[str, list[Any]]:
    try:
        reader: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        return _columns_polars(path)
    found: dict[str, list[Any]] = reader.ParquetFile(path).read().to_pydict()
    return found


def _columns_polars(path: Path) -> dict[str, list[Any]]:
    polars = _polars(path)
    try:
        found: dict[str, list[Any]] = polars.read_parquet(path).to_dict(as_series=False)
    except polars.exceptions.PolarsError as error:
        raise ValueError(str(error)) from error
    return found


def _polars(path: Path) -> Any:
    try:
        return importlib.import_module("polars")
    except ImportError as error:
        raise MissingDependencyError(
            "reading Parquet needs polars or pyarrow",
            where=str(path),
            hint="pip install 'neurocli[fast]', or save the table as CSV",
        ) from error


def _text(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _MAX_EXACT:
        return str(int(cell))
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "backslashreplace").strip()
    return str(cell).strip()
