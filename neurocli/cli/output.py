"""The one sink: results to stdout, everything else to stderr, in one of three modes.

`text` shows tables, `json` exactly one object, `quiet` just the path of the main output. Text that
came from users or files never reaches a terminal raw: control characters, bidirectional marks and
bytes that are no UTF-8 are shown escaped, and nothing is ever read as markup.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from neurocli.cli.text import Cell, cell_text, error_lines, error_values, plain_json, safe
from neurocli.core.errors import ExitCode, NeuroError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

Mode = Literal["text", "json", "quiet"]

_NAME_COLUMNS = 48  # longer first cells are folded as all others
_SHORT_COLUMNS, _LEAST_COLUMNS = 14, 12
_PIPE_COLUMNS = 1000  # a table in a pipe is never folded
_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_COLORS = {"error": "31", "warning": "33", "hint": "36", "note": "2"}


@dataclass(frozen=True)
class Flags:
    """Hold how a command answers.

    Args:
        mode: Form of the result on stdout.
        quiet: Keep notes, hints and progress from stderr; warnings and errors stay.
        verbosity: 0 usual, 1 more notes, 2 debug logs.
        color: False for none; None decides by environment and terminal.
        debug: Show tracebacks.
    """

    mode: Mode = "text"
    quiet: bool = False
    verbosity: int = 0
    color: bool | None = None
    debug: bool = False


@dataclass(frozen=True)
class Table:
    """Hold rows for a terminal; numbers stand to the right, None is a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str | None = None


def wants_color(stream: IO[str], choice: bool | None = None) -> bool:
    """Return whether a stream gets colours: the flag, then NO_COLOR, FORCE_COLOR, then terminal."""
    if choice is not None:
        return choice
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_live(stream)


def is_live(stream: IO[str] | None) -> bool:
    """Return whether a stream is a terminal that can redraw its lines; a closed one is None."""
    if stream is None or not stream.isatty():
        return False
    return os.environ.get("TERM") not in ("dumb", "unknown")


def console(stream: IO[str], choice: bool | None = None) -> Console:
    """Return a rich console on a stream that reads no markup."""
    from rich.console import Console

    live = is_live(stream)
    return Console(
        file=stream,
        color_system="standard" if wants_color(stream, choice) else None,
        force_terminal=live,
        width=None if live or os.environ.get("COLUMNS") else _PIPE_COLUMNS,
        highlight=False,
        markup=False,
        emoji=False,
    )


class Output:
    """Write one command's answer.

    Args:
        flags: How to answer.
    """

    def __init__(self, flags: Flags = Flags()) -> None:
        self.flags = flags
        # Under torchrun or mpiexec every rank runs the same command line; one of them answers.
        self.rank = next((os.environ[name] for name in _RANKS if name in os.environ), "0")
        self.is_answering = self.rank == "0"
        self.args: Sequence[str] = ()  # the command line, for a command that starts it again
        self._told: set[str] = set()

    def show(
        self,
        command: str,
        values: Mapping[str, Any],
        *,
        main: str | Path | None = None,
        view: Iterable[Table | str] = (),
    ) -> None:
        """Write the result of a command.

        Args:
            command: Its name, for the schema of the JSON object.
            values: The JSON object without its schema, keys in their order.
            main: Path (or name) of the main output, all that `-q` shows.
            view: Tables and lines of the text mode.
        """
        if not self.is_answering:
            return
        if self.flags.mode == "json":
            self._json({"schema": f"neuro/{command}/1", **values})
        elif self.flags.mode == "quiet":
            if main is not None:
                _write_exact(main)
        else:
            self._view(view)

    def note(self, message: str, level: Literal["info", "warning"] = "info") -> None:
        """Tell a sentence on stderr, once."""
        if message in self._told or (self.flags.quiet and level == "info"):
            return
        if not self.is_answering:  # rank 0 tells the same
            return
        self._told.add(message)
        self._tell("note" if level == "info" else "warning", message)

    def hint(self, message: str) -> None:
        """Say what may be done next; text mode only."""
        if self.flags.mode == "text" and self.is_answering:
            self._tell("hint", message)

    def left_out(self, items: Iterable[Sequence[str]]) -> int:
        """List what failed or was left out, one line each.

        Args:
            items: (name, reason) pairs.

        Returns:
            The exit code: PARTIAL when there is anything, else DONE.
        """
        count = 0
        for count, (name, reason) in enumerate(items, start=1):  # noqa: B007 - used after
            if self.is_answering:
                self._tell(None, f"{name}: {reason}")
        return ExitCode.PARTIAL if count else ExitCode.DONE

    def fail(self, error: NeuroError) -> int:
        """Show an expected failure and return its exit code."""
        if self.flags.mode == "json":
            if self.is_answering:
                self._json({"schema": "neuro/error/1", "error": error_values(error)})
            return int(error.code)
        if error.is_shared and not self.is_answering:
            return int(error.code)
        for line in error_lines(error):
            label, _, text = line.partition(": ")
            is_labelled = label in ("error", "hint")
            self._tell(label if is_labelled else None, text if is_labelled else line, clean=True)
        return int(error.code)

    def _json(self, values: Mapping[str, Any]) -> None:
        # ASCII escapes keep any name readable by any parser under any locale.
        sys.stdout.write(json.dumps(plain_json(values), indent=2, allow_nan=False) + "\n")

    def _view(self, view: Iterable[Table | str]) -> None:
        out = console(sys.stdout, self.flags.color)
        for index, part in enumerate(view):
            if isinstance(part, Table):
                with out.capture() as drawn:
                    out.print(_rich_table(part, out.width))
                lines = [*([""] if index else []), *self._title(part), *drawn.get().splitlines()]
            else:
                lines = [safe(line) for line in part.split("\n")]
            sys.stdout.writelines(f"{line.rstrip()}\n" for line in lines)

    def _title(self, table: Table) -> list[str]:
        if table.title is None:
            return []
        colored = wants_color(sys.stdout, self.flags.color)
        return [f"\x1b[1m{safe(table.title)}\x1b[0m" if colored else safe(table.title)]

    def _tell(self, label: str | None, message: str, *, clean: bool = False) -> None:
        text = message if clean else safe(message)
        if label is not None:
            colored = wants_color(sys.stderr, self.flags.color)
            text = f"{_paint(label, _COLORS[label]) if colored else label}: {text}"
        rank = "" if self.is_answering else f"[rank {self.rank}] "
        sys.stderr.write(f"{rank}{text}\n")
        sys.stderr.flush()


def _rich_table(table: Table, width: int = _PIPE_COLUMNS) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_header=any(table.columns),
    )
    whole = _whole_columns(table, width)
    for index, name in enumerate(table.columns):
        justify: Literal["right", "left"] = "right" if _is_numeric(table, index) else "left"
        is_whole = index in whole
        drawn.add_column(Text(safe(name)), justify=justify, overflow="fold", no_wrap=is_whole)
    for row in table.rows:
        drawn.add_row(*(Text(cell_text(cell)) for cell in row))
    return drawn


def _is_numeric(table: Table, index: int) -> bool:
    cells = [row[index] for row in table.rows if row[index] is not None]
    return bool(cells) and all(isinstance(cell, (int, float)) for cell in cells)


def _whole_columns(table: Table, width: int) -> set[int]:
    """Return the columns that are never folded: names, and what is short while there is room."""
    columns = [[name, *(cell_text(row[i]) for row in table.rows)]
               for i, name in enumerate(table.columns)]  # fmt: skip
    longest = [max(map(len, column)) for column in columns]
    # What a row is about is copied into the next command, so it stays in one piece.
    names = [len(text) for text in columns[0][1:]] if columns else [_NAME_COLUMNS + 1]
    whole = {0} if max(names, default=0) <= _NAME_COLUMNS else set()
    # A number that is cut in two reads as another number; the long columns take the folding.
    order = sorted(range(len(longest)), key=lambda i: (not _is_numeric(table, i), longest[i]))
    for index in order:
        sizes = [n if i in whole | {index} else _LEAST_COLUMNS for i, n in enumerate(longest)]
        if longest[index] <= _SHORT_COLUMNS and sum(sizes) + 2 * len(sizes) <= width:
            whole.add(index)
    return whole


def _write_exact(path: str | Path) -> None:
    # A path is for the next command, so its bytes pass unchanged, whatever they are.
    data = os.fsencode(path) + b"\n"
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:
        sys.stdout.write(data.decode("utf-8", "replace"))
    else:
        sys.stdout.flush()
        binary.write(data)
        binary.flush()


def _paint(text: str, code: str) -> str:
    return f"\x1b[1;{code}m{text}\x1b[0m"


_current: ContextVar[Output] = ContextVar("output")


def sink() -> Output:
    """Return the sink of the running command."""
    return _current.get(Output())


def use_sink(flags: Flags) -> Output:
    """Make a sink the running command's and return it."""
    fresh = Output(flags)
    fresh.args = sink().args
    _current.set(fresh)
    return fresh
