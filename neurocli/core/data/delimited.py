"""Cut delimited text into a header and rows of text, keeping the line each row came from.

The delimiter is the one that the header line has most of, outside quotes. Where a header is one
field shorter than every row, the first field of a row is its name (the form R writes).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neurocli.core.errors import InputError

ROW_NAMES = "row_names"
_DELIMITERS = "\t,;"
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_TOKEN = re.compile(r'"((?:[^"\\]|\\.|"")*)"(?=\s|$)|([^\s"]\S*)')
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_MAX_FIELD = 1 << 20
_HEAD = 1 << 16


@dataclass(frozen=True)
class Rows:
    """Hold a parsed table.

    Args:
        header: One name per column, stripped; not yet checked for repeats.
        cells: Fields of each row, stripped, as many as the header has.
        lines: Line of the file on which each row starts, from 1.
        has_row_names: Whether the first column holds names that the header does not mention.
    """

    header: list[str]
    cells: list[list[str]]
    lines: list[int]
    has_row_names: bool


def decode(path: Path, data: bytes, encoding: str | None = None) -> str:
    """Return the text of a table.

    Args:
        path: Named in errors.
        data: Content of the file.
        encoding: Its encoding; None for UTF-8, or what a byte-order mark says.

    Returns:
        The text without a byte-order mark.

    Raises:
        InputError: The bytes are no text in that encoding.
    """
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    name = encoding or ("utf-16" if is_utf16 else "utf-8")
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}",
            f"is no {name} text (byte 0x{data[error.start]:02x})",
            "save the table as UTF-8, e.g. iconv -f WINDOWS-1252 -t UTF-8 IN > OUT",
        ) from error
    except LookupError as error:
        raise InputError(path, f"unknown encoding '{name}'", "give a name such as utf-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}:{line}", "holds NUL characters", "save the table as plain text")
    return text.removeprefix("\ufeff")


def parse(path: Path, text: str) -> Rows:
    """Cut the text of a table into rows.

    Args:
        path: Named in errors.
        text: From `decode`.

    Returns:
        Header and rows; blank rows and blank trailing columns are left out.

    Raises:
        InputError: There are no rows, a row has another number of fields than the header, or a
            quote does not end; names the line.
    """
    cells, lines = [], []
    for line, row in _split(path, text):
        if any(row):
            cells.append(row)
            lines.append(line)
    if len(cells) < 2:
        problem = "has a header but no rows" if cells else "is blank"
        raise InputError(path, problem, "give a table with one row per subject")
    header, _ = cells.pop(0), lines.pop(0)
    has_row_names = False
    if all(len(row) == len(header) + 1 for row in cells):
        has_row_names = any(row[-1] for row in cells)
        header = [ROW_NAMES, *header] if has_row_names else [*header, ""]
    for line, row in zip(lines, cells, strict=True):
        if len(row) != len(header):
            raise InputError(
                f"{path}:{line}",
                f"has {len(row)} fields, the header has {len(header)}",
                "quote fields that hold the delimiter, and give every row all its fields",
            )
    while len(header) > 1 and not header[-1] and not any(row[-1] for row in cells):
        header, cells = header[:-1], [row[:-1] for row in cells]
    return Rows(header, cells, lines, has_row_names)


def _split(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    first = _first_line(text)
    bare = _QUOTED.sub("", first)
    delimiter = max(_DELIMITERS, key=bare.count)
    if bare.count(delimiter):
        yield from _split_csv(path, text, delimiter)
    elif _is_blank_separated(lines := text.splitlines()):
        for number, line in enumerate(lines, start=1):
            yield number, _tokens(path, number, line)
    else:
        yield from _split_csv(path, text, "\t")


def _first_line(text: str) -> str:
    """Return the first line that is not blank, without cutting a long text into all its lines."""
    head = text[:_HEAD].splitlines()
    whole = head[:-1] if len(text) > _HEAD else head  # the last may go on
    found = next((line for line in whole if line.strip()), None)
    if found is None:
        found = next((line for line in text.splitlines() if line.strip()), "")
    return found


def _split_csv(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    usual = csv.field_size_limit(_MAX_FIELD)
    # Lines are cut one at a time: a StringIO would hold the text again at four bytes a letter.
    lines = (found[0] for found in _LINE.finditer(text))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            yield line, [cell.strip() for cell in row]
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}:{line}", f"cannot be read: {error}", "close every quote that is opened"
        ) from error
    finally:
        # The limit belongs to the process; other readers of CSV keep theirs.
        csv.field_size_limit(usual)


def _is_blank_separated(lines: list[str]) -> bool:
    filled = [line for line in lines if line.strip()][:2]
    if len(filled) < 2:
        return False
    names, fields = (len(_TOKEN.findall(line)) for line in filled)
    return (names > 1 and fields in (names, names + 1)) or (names, fields) == (1, 2)


def _tokens(path: Path, number: int, line: str) -> list[str]:
    rest = _TOKEN.sub("", line)
    if rest.strip():
        raise InputError(
            f"{path}:{number}", f"has an open quote near {rest.strip()[:20]!r}", "close the quote"
        )
    return [
        re.sub(r'\\(.)|"(")', r"\1\2", quoted).strip() if quoted else plain
        for quoted, plain in _TOKEN.findall(line)
    ]
