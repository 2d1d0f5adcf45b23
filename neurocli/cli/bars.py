"""Live bars on a terminal: what is done, how fast, how long it still takes, how good it is."""

from __future__ import annotations

import sys

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from neurocli.cli.output import Output, console
from neurocli.cli.progress import Board, Work
from neurocli.cli.text import cell_text, safe


class RateColumn(ProgressColumn):
    """Show units per second."""

    def render(self, task: Task) -> Text:
        """Return the rate of a bar, or its unit before there is one."""
        unit = task.fields["unit"]
        return Text(f"{cell_text(task.speed)} {unit}/s" if task.speed else unit)


class Bars(Board):
    """Show work as live bars.

    Args:
        output: Sink of notes.
        drawn: A running display.
    """

    def __init__(self, output: Output, drawn: Progress) -> None:
        super().__init__(output)
        self._drawn = drawn
        self._tasks: dict[int, TaskID] = {}

    def started(self, work: Work) -> None:
        """Add a bar."""
        self._tasks[id(work)] = self._drawn.add_task(
            safe(work.label), total=work.total, completed=work.done, figures="", unit=work.unit
        )

    def moved(self, work: Work) -> None:
        """Move the bar."""
        task = self._tasks[id(work)]
        self._drawn.update(task, completed=work.done, figures=safe(work.figures()))

    def ended(self, work: Work) -> None:
        """Take the bar away."""
        self._drawn.remove_task(self._tasks.pop(id(work)))


def display(output: Output) -> Progress:
    """Return the display of all bars, on stderr; it vanishes when the work ends."""
    return Progress(
        # Labels hold names from files, so no column may read markup.
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[figures]}", markup=False),
        console=console(sys.stderr, output.flags.color),
        transient=True,  # what stays on the screen is the result, not the way to it
    )
