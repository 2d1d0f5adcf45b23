"""Read Parquet tables as text, with whichever of two optional libraries is installed."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from neurocli.core.data.delimited import Rows
from neurocli.core.errors import InputError, MissingDependencyError

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


def _columns(path: Path) -> dict[str, list[Any]]:
    try:
        reader: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        return _columns_polars(path)
    found: dict[str, list[Any]] = reader.ParquetFile(path).read().to_pydict()
    return found


def _columns_polars(path: Path) -> dict[str, list[Any]]:
    try:
        polars: Any = importlib.import_module("polars")
    except ImportError as error:
        raise MissingDependencyError(
            "reading Parquet needs polars or pyarrow",
            where=str(path),
            hint="pip install 'neurocli[fast]', or save the table as CSV",
        ) from error
    try:
        found: dict[str, list[Any]] = polars.read_parquet(path).to_dict(as_series=False)
    except polars.exceptions.PolarsError as error:
        raise ValueError(str(error)) from error
    return found


def _text(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _MAX_EXACT:
        return str(int(cell))
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "backslashreplace").strip()
    return str(cell).strip()
