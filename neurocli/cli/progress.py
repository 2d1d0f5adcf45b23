"""What long work shows while it runs: bars on a terminal, a line now and then elsewhere.

Both listen to the events of the core and never change the work. A line appears for every tenth of
the work or after half a minute, whichever comes first.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from neurocli.cli.output import Output, is_live, sink
from neurocli.cli.text import cell_text, safe
from neurocli.core import events

_LINE_SECONDS = 30.0
_LINE_SHARE = 0.1
_MAX_METRICS = 3


@dataclass
class Work:
    """Hold the state of one countable work.

    Args:
        label: What is done.
        total: How many units there are.
        unit: Plural noun.
        done: Units done, those of an earlier process among them.
        first: Units that were done when this process began.
        began: Clock at the beginning, in seconds.
        failed: Units that failed.
        news: Latest numbers worth showing.
    """

    label: str
    total: int
    unit: str
    done: int = 0
    first: int = 0
    began: float = 0.0
    failed: int = 0
    news: dict[str, float] = field(default_factory=dict)

    def rate(self, now: float) -> float | None:
        """Return units per second of this process, or None before the first."""
        seconds = now - self.began
        here = self.done - self.first
        return here / seconds if seconds > 0 and here > 0 else None

    def seconds_left(self, now: float) -> float | None:
        """Return the time to the end at the rate so far, or None while it is unknown."""
        rate = self.rate(now)
        return (self.total - self.done) / rate if rate else None

    def figures(self) -> str:
        """Return the latest numbers and the count of failures as one short text."""
        parts = [f"{name} {cell_text(value)}" for name, value in self.news.items()][:_MAX_METRICS]
        return ", ".join([*parts, f"{self.failed} failed"] if self.failed else parts)

    def line(self, now: float) -> str:
        """Return one line about the work."""
        percent = 100 * self.done // max(self.total, 1)
        text = f"{self.label}: {percent} % ({self.done} of {self.total} {self.unit}"
        rate, left = self.rate(now), self.seconds_left(now)
        text += f", {cell_text(rate)}/s" if rate else ""
        text += f", {clock_text(left)} left)" if left else ")"
        return f"{text} {self.figures()}".rstrip()


def clock_text(seconds: float) -> str:
    """Return a duration as `m:ss` or `h:mm:ss`.

    >>> clock_text(75), clock_text(3723)
    ('1:15', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Board:
    """Follow events and keep the works that are under way, the latest on top.

    Args:
        output: Sink of notes.
        clock: Seconds that only grow.
    """

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self.output = output
        self.clock = clock
        self.works: list[Work] = []

    def __call__(self, event: events.Event) -> None:
        """Take one event."""
        match event:
            case events.Note():
                self.output.note(event.message, event.level)
            case events.WorkStarted():
                self._push(Work(event.label, event.total, event.unit))
            case events.ItemDone():
                self._item(event)
            case events.WorkFinished():
                self._pop()
            case events.RunStarted():
                self._run_started(event)
            case events.StepDone() if self.works:
                self._numbers(event.logs)
                self._advance(event.step)
            case events.EvalDone():
                self._eval_done(event)
            case events.CheckpointSaved():
                self._detail(f"saved {event.path}{' (best so far)' if event.is_best else ''}")
            case events.RunFinished():
                self._pop()
                if event.reason == "early_stop":
                    self.output.note(f"stopped early in epoch {event.epoch}: no more progress")

    def started(self, work: Work) -> None:
        """Show that a work began."""

    def moved(self, work: Work) -> None:
        """Show how far a work is."""

    def ended(self, work: Work) -> None:
        """Show that a work ended."""

    def _push(self, work: Work) -> None:
        work.began = self.clock()
        self.works.append(work)
        self.started(work)

    def _pop(self) -> None:
        if self.works:
            self.ended(self.works.pop())

    def _advance(self, done: int) -> None:
        work = self.works[-1]
        work.done = done
        self.moved(work)

    def _item(self, event: events.ItemDone) -> None:
        if event.status != "done":
            self._detail(f"{event.name}: {event.status} {event.detail}".rstrip())
        if self.works:
            work = self.works[-1]
            work.failed += event.status == "failed"
            work.first += event.status == "skipped"  # else finished work would promise a short wait
            self._advance(work.done + 1)

    def _run_started(self, event: events.RunStarted) -> None:
        self.output.note(
            f"{event.model}: {event.n_parameters:,} parameters, {event.total_steps:,} steps, "
            f"run folder {event.run_dir}"
        )
        start = event.start_step
        self._push(Work(f"train {event.model}", event.total_steps, "steps", start, start))

    def _eval_done(self, event: events.EvalDone) -> None:
        numbers = {f"{event.part} {name}": value for name, value in event.metrics.items()}
        text = ", ".join(f"{name} {cell_text(value)}" for name, value in numbers.items())
        self._detail(f"epoch {event.epoch}: {text}")
        if self.works:
            self._numbers(numbers)
            self.moved(self.works[-1])

    def _numbers(self, numbers: Mapping[str, float]) -> None:
        self.works[-1].news.update(
            {name: value for name, value in numbers.items() if name not in ("lr", "grad_norm")}
        )

    def _detail(self, text: str) -> None:
        if self.output.flags.verbosity:
            self.output.note(text)


class Lines(Board):
    """Show work as plain lines on stderr."""

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(output, clock)
        self._shown: dict[int, tuple[float, float]] = {}

    def started(self, work: Work) -> None:
        """Say what begins."""
        if len(self.works) == 1:
            self._say(work, f"{work.label}: {work.done:,} of {work.total:,} {work.unit}")
        else:
            self._shown[id(work)] = (work.began, 0.0)

    def moved(self, work: Work) -> None:
        """Say how far it is, when a tenth or half a minute went by."""
        now = self.clock()
        seconds, share = self._shown.get(id(work), (now, 0.0))
        gained = work.done / max(work.total, 1) - share
        is_due = gained >= _LINE_SHARE - 1e-9 or (work.done == work.total and gained > 0)
        # Work inside other work, such as a validation, speaks only when it takes long.
        if (is_due and len(self.works) == 1) or now - seconds >= _LINE_SECONDS:
            self._say(work, work.line(now))

    def ended(self, work: Work) -> None:
        """Forget the work."""
        self._shown.pop(id(work), None)

    def _say(self, work: Work, text: str) -> None:
        self._shown[id(work)] = (self.clock(), work.done / max(work.total, 1))
        sys.stderr.write(f"{safe(text)}\n")
        sys.stderr.flush()


@contextmanager
def progress() -> Iterator[events.Listener]:
    """Yield the listener that suits the running command's stderr."""
    output = sink()
    if output.flags.quiet or not output.is_answering:
        yield Board(output)
    elif is_live(sys.stderr):
        from neurocli.cli.bars import Bars, display  # rich is wanted on a terminal only

        with display(output) as drawn:
            yield Bars(output, drawn)
    else:
        yield Lines(output)
