"""What happens during long work, told as values; nobody below the command line prints.

A function that takes long accepts a `Listener` and calls it with frozen events. The command line
turns them into bars and lines, the sinks of the engine into files. A listener never changes the
work and never raises to steer it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["info", "warning"]


@dataclass(frozen=True)
class Event:
    """Stand for anything worth telling."""


@dataclass(frozen=True)
class Note(Event):
    """Tell the user one sentence, such as a replacement by something lesser."""

    message: str
    level: Level = "info"


@dataclass(frozen=True)
class WorkStarted(Event):
    """Announce countable work; `unit` is a plural noun."""

    label: str
    total: int
    unit: str


@dataclass(frozen=True)
class ItemDone(Event):
    """Report one finished item of countable work."""

    name: str
    status: Literal["done", "failed", "skipped"]
    detail: str = ""


@dataclass(frozen=True)
class WorkFinished(Event):
    """Close the latest countable work."""

    label: str


@dataclass(frozen=True)
class RunStarted(Event):
    """Open a training run; `total_steps` counts optimiser steps."""

    run_dir: str
    model: str
    n_parameters: int
    total_steps: int
    start_step: int = 0
    context: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class StepDone(Event):
    """Report one optimiser step; `logs` holds scalars such as loss and lr."""

    step: int
    epoch: int
    logs: Mapping[str, float]


@dataclass(frozen=True)
class EvalDone(Event):
    """Report metrics of one part ("val", "test", "train") after an epoch."""

    step: int
    epoch: int
    part: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """Report a checkpoint that is complete on disk."""

    path: str
    step: int
    is_best: bool


@dataclass(frozen=True)
class RunFinished(Event):
    """Close a training run; `reason` says why it ended."""

    step: int
    epoch: int
    reason: Literal["completed", "early_stop", "stopped"]
    seconds: float


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Take an event and do nothing, for callers who do not listen."""


def fan_out(*listeners: Listener) -> Listener:
    """Return one listener that hands each event to all of `listeners` in order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell
