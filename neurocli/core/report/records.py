"""Reading the records of a run folder: a page is made of what is whole, and says what is not.

A run may have been killed at any moment and a folder may come from anywhere. So nothing here
raises for content: a missing file is listed in `missing`, a cut, glued or odd line is dropped and
told in `problems`. NaN and infinity are read as missing (None), never as numbers.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from neurocli.core.config.nodes import leaves, parse_yaml
from neurocli.core.data.source import open_regular
from neurocli.core.errors import ConfigError, InputError, NeuroError

MAX_JSON_BYTES = 32 << 20
MAX_YAML_BYTES = 1 << 20
MAX_TABLE_BYTES = 64 << 20
MAX_LOG_BYTES = 512 << 20


@dataclass(frozen=True)
class Table:
    """Hold a CSV file as text cells; every row has as many cells as the header."""

    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def column(self, name: str) -> list[str] | None:
        """Return the cells of a column from top to bottom, or None when it is absent."""
        if name not in self.header:
            return None
        place = self.header.index(name)
        return [row[place] for row in self.rows]


@dataclass(frozen=True)
class RecordReader:
    """Read files below one folder and remember what was missing or damaged.

    Args:
        folder: The run folder.
        missing: Relative names that were asked for and do not exist; grows.
        problems: Sentences about what was dropped, each naming its file; grows.
    """

    folder: Path
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return a JSON object, or an empty one when it cannot be read."""
        text = self._text(name, MAX_JSON_BYTES)
        if text is None:
            return {}
        value = parse_json(text)
        if not isinstance(value, dict):
            self.problems.append(f"{name}: not one whole JSON object, left out")
            return {}
        return value

    def lines(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Yield the JSON objects of a log, one per line; a damaged line is told and skipped."""
        if not self._is_there(name):
            return
        damaged: list[int] = []
        try:
            with open_regular(self.folder / name, max_bytes=MAX_LOG_BYTES) as handle:
                for number, line in enumerate(handle, start=1):
                    value = parse_json(line.decode("utf-8", errors="replace"))
                    if isinstance(value, dict):
                        yield value
                    elif not line.endswith(b"\n"):
                        self.problems.append(f"{name}: the last line is cut off, dropped")
                    elif line.strip():
                        damaged.append(number)
        except InputError as error:
            self._tell(name, error)
        self._tell_damaged(name, damaged)

    def table(self, name: str) -> Table:
        """Return a CSV file; a last line without its end of line counts as cut off."""
        text = self._text(name, MAX_TABLE_BYTES)
        if not text:
            return Table()
        # 0.5 may be the rest of 0.512: without its end of line no last value can be trusted.
        whole, newline, rest = text.rpartition("\n")
        if rest:
            self.problems.append(f"{name}: the last line is cut off, dropped")
        try:
            records = list(csv.reader(io.StringIO(whole + newline, newline="")))
        except csv.Error as error:
            self.problems.append(f"{name}: no CSV table ({error}), left out")
            return Table()
        if not records:
            return Table()
        header, *rows = records
        n_cells = len(header)
        damaged = [number for number, row in enumerate(rows, start=2) if len(row) != n_cells]
        self._tell_damaged(name, damaged)
        return Table(tuple(header), tuple(tuple(row) for row in rows if len(row) == n_cells))

    def settings(self, name: str) -> Mapping[str, Any]:
        """Return a YAML file as dotted key -> value, or nothing when it cannot be read."""
        text = self._text(name, MAX_YAML_BYTES)
        if text is None:
            return {}
        try:
            found = dict(leaves(parse_yaml(text, name)))
        except ConfigError as error:
            self._tell(name, error)
            return {}
        return {key: leaf.value for key, leaf in found.items()}

    def _text(self, name: str, max_bytes: int) -> str | None:
        if not self._is_there(name):
            return None
        try:
            with open_regular(self.folder / name, max_bytes=max_bytes) as handle:
                # A wrong byte must not hide the rest of a file.
                return handle.read().decode("utf-8-sig", errors="replace")
        except InputError as error:
            self._tell(name, error)
            return None

    def _is_there(self, name: str) -> bool:
        # A dangling link is damage, not absence.
        found = os.path.lexists(self.folder / name)
        if not found:
            self.missing.append(name)
        return found

    def _tell(self, name: str, error: NeuroError) -> None:
        problem = error.message.splitlines()[0].removeprefix(f"{name}:").strip()
        self.problems.append(f"{name}: {problem}; left out")

    def _tell_damaged(self, name: str, numbers: Sequence[int]) -> None:
        if numbers:
            lines = f"line {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} lines"
            first = "" if len(numbers) == 1 else f", the first is line {numbers[0]}"
            self.problems.append(f"{name}: {lines} damaged{first}; dropped")


def parse_json(text: str) -> Any:
    """Return a parsed JSON text, or None when it is no JSON; NaN and infinity become None.

    >>> parse_json('{"loss": NaN}'), parse_json('{"loss": 0.')
    ({'loss': None}, None)
    """
    # Deep nesting ends in RecursionError, a number of thousands of digits in ValueError.
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def as_number(value: Any) -> float | None:
    """Return a finite number, from a number or its text; None for anything else.

    >>> as_number("0.5"), as_number(True), as_number(float("nan"))
    (0.5, None, None)
    """
    # Python counts True as 1, a table must not.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` when it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def as_numbers(value: Any) -> dict[str, float | None]:
    """Return the entries of a mapping as finite numbers, None where an entry is none."""
    return {str(name): as_number(number) for name, number in as_mapping(value).items()}


def as_texts(value: Any) -> tuple[str, ...]:
    """Return the items of a list as texts, nothing for anything else."""
    return tuple(str(item) for item in value) if isinstance(value, (list, tuple)) else ()
