"""Live bars on a terminal: what is done, how fast, how long it still takes, how good it is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
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
from rich.table import Table
from rich.text import Text

from neurocli.cli.output import Output, console
from neurocli.cli.progress import Board, Work
from neurocli.cli.text import cell_text, safe
from neurocli.core import events

_LATEST, _MOST_METRICS = 6, 6


class RateColumn(ProgressColumn):
    """Show units per second."""

    def render(self, task: Task) -> Text:
        """Return the rate of a bar, or its unit before there is one."""
        unit = task.fields["unit"]
        return Text(f"{cell_text(task.speed)} {unit}/s" if task.speed else unit)


class Display(Progress):
    """Show bars under a table of the latest judgements, both redrawn in place."""

    def __init__(self, *columns: ProgressColumn, **options: Any) -> None:
        self.judged: list[tuple[str, str, Mapping[str, float]]] = []
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the table, when anything was judged, and the bars."""
        if self.judged:
            yield self._table()
        yield from super().get_renderables()

    def _table(self) -> Table:
        shown = self.judged[-_LATEST:]
        names = list(dict.fromkeys(name for _, _, metrics in shown for name in metrics))
        names = names[:_MOST_METRICS]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("epoch", "part", *names):
            table.add_column(Text(safe(name)), justify="left" if name == "part" else "right")
        for epoch, part, metrics in shown:
            cells = [cell_text(metrics.get(name)) for name in names]
            table.add_row(*(Text(safe(cell)) for cell in (epoch, part, *cells)))
        return table


class Bars(Board):
    """Show work as live bars.

    Args:
        output: Sink of notes.
        drawn: A running display.
    """

    def __init__(self, output: Output, drawn: Display) -> None:
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

    def _eval_done(self, event: events.EvalDone) -> None:
        self._drawn.judged.append((str(event.epoch), str(event.part), dict(event.metrics)))
        super()._eval_done(event)

    def ended(self, work: Work) -> None:
        """Take the bar away."""
        self._drawn.remove_task(self._tasks.pop(id(work)))


def display(output: Output) -> Display:
    """Return the display of all bars, on stderr; it vanishes when the work ends."""
    return Display(
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
