"""Read wide tables of numbers fast: one column of ids as text, hundreds of float32 columns.

The fastest reader that is installed does the parsing; a file that it refuses is read again, cell
by cell, only to say which line is wrong.
"""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data import parquet
from neurocli.core.data.source import foreign_content, open_regular
from neurocli.core.data.tables import numeric_column, read_table
from neurocli.core.errors import InputError

Float32 = npt.NDArray[np.float32]
_MAX_BYTES = 1 << 33
_MAX_UNPACKED = 1 << 32
_HEAD = 1 << 20
_GZIP = b"\x1f\x8b"
_BLANK = frozenset({"", "NA", "NaN", "nan", "n/a"})


@dataclass(frozen=True)
class NumberTable:
    """Hold ids as they are written (S,) and values (S, F) float32, NaN where a cell is blank."""

    ids: list[str]
    values: Float32
    path: Path


@dataclass(frozen=True)
class _Source:
    """Hold what of a table a reader needs: the path or unpacked bytes, and its delimiter."""

    path: Path
    content: bytes | None
    delimiter: str | None

    @property
    def readable(self) -> Any:
        return self.path if self.content is None else io.BytesIO(self.content)


def column_names(path: Path) -> list[str]:
    """Return the column names of a table of numbers.

    Args:
        path: CSV, TSV, either gzip-compressed, or Parquet; content decides.

    Raises:
        InputError: The file is no table.
        MissingDependencyError: Parquet without a library that reads it.
    """
    source, head = _open(path)
    if source.delimiter is None:
        return parquet.names(path)
    return _split(path, head, source.delimiter)


def read_numbers(path: Path, *, id_column: str, columns: Sequence[str]) -> NumberTable:
    """Read ids and some columns of numbers.

    Args:
        path: As for `column_names`.
        id_column: Column with the ids, kept as text.
        columns: Columns of numbers, in the order wanted.

    Raises:
        InputError: A cell is no number, or a row is ragged; the line is named.
        MissingDependencyError: Parquet without a library that reads it.
    """
    source, _ = _open(path)
    if source.delimiter is None:
        ids, values = parquet.numbers(path, id_column, columns)
    else:
        ids, values = _read_text(source, id_column, columns)
    return NumberTable(["" if name is None else str(name).strip() for name in ids], values, path)


def _open(path: Path) -> tuple[_Source, bytes]:
    """Return a table's source and its first bytes; Parquet has no delimiter."""
    with open_regular(path, max_bytes=_MAX_BYTES) as handle:
        head = handle.read(_HEAD)
        content = None
        if head.startswith(_GZIP):
            handle.seek(0)
            content = _unpacked(path, handle)
            head = content[:_HEAD]
    if head.startswith(parquet.MAGIC):
        return _Source(path, None, None), head
    foreign = foreign_content(head, is_text_wanted=True)
    if foreign or b"\0" in head:
        problem, fix = foreign or ("holds NUL bytes, so it is no text", "save it as CSV")
        raise InputError(path, problem, fix)
    line = head.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    if not line.strip():
        raise InputError(path, "begins with a blank line", "put the column names first")
    delimiter = max("\t,;", key=lambda sign: line.count(sign.encode()))
    return _Source(path, content, delimiter), head


def _unpacked(path: Path, handle: Any) -> bytes:
    try:
        with gzip.GzipFile(fileobj=handle) as stream:
            content = stream.read(_MAX_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(path, f"is damaged ({error})", "copy or download it again") from error
    if len(content) > _MAX_UNPACKED:
        raise InputError(path, "unpacks to more than 4 GB", "unpack it, or save it as Parquet")
    return content


def _split(path: Path, head: bytes, delimiter: str) -> list[str]:
    try:
        line = head.decode("utf-8-sig", "strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError as error:
        raise InputError(path, "is no UTF-8 text", "save it as UTF-8") from error
    names = line.split("\n", 1)[0].rstrip("\r").split(delimiter)
    return [name.strip().strip('"') for name in names]


def _read_text(
    source: _Source, id_column: str, columns: Sequence[str]
) -> tuple[list[Any], Float32]:
    try:
        polars: Any = importlib.import_module("polars")
    except ImportError:
        return _with_pandas(source, id_column, columns)
    kinds = {id_column: polars.String, **dict.fromkeys(columns, polars.Float32)}
    wanted: dict[str, Any] = {"separator": source.delimiter, "columns": [id_column, *columns]}
    wanted |= {"schema_overrides": kinds, "infer_schema_length": 0}
    try:
        try:
            frame = polars.read_csv(source.readable, **wanted)
        except polars.exceptions.ComputeError:
            # Looking for words takes as long as reading, so only where there are some.
            frame = polars.read_csv(source.readable, **wanted, null_values=list(_BLANK))
    except (polars.exceptions.PolarsError, OSError) as error:
        raise _explained(source.path, id_column, columns, error) from error
    ids = [None if name in _BLANK else name for name in frame[id_column].to_list()]
    # Turned by NumPy, which takes half as long at it as a frame does.
    return ids, np.ascontiguousarray(frame.select(columns).to_numpy(), dtype=np.float32)


def _with_pandas(
    source: _Source, id_column: str, columns: Sequence[str]
) -> tuple[list[Any], Float32]:
    import pandas as pd

    kinds = {id_column: "str", **dict.fromkeys(columns, "float32")}
    try:
        frame = pd.read_csv(
            source.readable, sep=source.delimiter, usecols=[id_column, *columns], dtype=kinds
        )
    except (ValueError, OverflowError) as error:
        raise _explained(source.path, id_column, columns, error) from error
    ids = frame[id_column].astype(object).where(frame[id_column].notna(), None)
    return ids.tolist(), frame[list(columns)].to_numpy(dtype=np.float32)


def _explained(path: Path, id_column: str, columns: Sequence[str], error: Exception) -> InputError:
    """Return the error that names the cell, found with the slow reader of tables."""
    try:
        table = read_table(path, id_column=id_column)
    except InputError as known:
        return known
    for name in columns:
        _, bad = numeric_column(table, name)
        if bad:
            return InputError(path, f"column {name} holds no number for {bad[0]}", "repair it")
    text = str(error).splitlines()[0][:120]
    return InputError(path, f"cannot be read as a table of numbers ({text})", "save it again")
