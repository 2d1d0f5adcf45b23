"""The values that pass between a room's finder, its process function and the runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Item:
    """Name one thing to process.

    Args:
        subject: Unique id of the item and, through `safe_name`, the name of its output.
        participant: The person; splits keep a person's items together.
        sources: Files whose content decides whether the output is stale.
        details: What the process function needs besides: plain values and paths.
        digests: Returns the SHA-256 of each source, and may wait for them; None until the item is
            processed.
        is_alone: No other item is processed beside it, so it may use a second core.
    """

    subject: str
    participant: str
    sources: tuple[Path, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    digests: Callable[[], tuple[str, ...]] | None = None
    is_alone: bool = False


@dataclass(frozen=True)
class Found:
    """Hold what a room's finder found.

    Args:
        items: To be processed.
        failures: (name, reason in one line) of inputs that cannot become items.
        notes: Sentences for the user.
        participants: Phenotypes by participant, then by column; None when the source has none.
        built_in_data: Whether the data is made up by this program.
        dictionary: Column of the phenotypes -> what it means, plain values; empty when unknown.
        left_out: (row or person, reason) of phenotypes that are not used.
    """

    items: list[Item]
    failures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    participants: Mapping[str, Mapping[str, str | None]] | None = None
    built_in_data: bool = False
    dictionary: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class OutputSpec:
    """Say what an output folder is; a folder of another specification is never mixed with it.

    Args:
        room: Room that writes it.
        kind: "preprocessed", "hdf5" ...
        dataset: Name of the dataset card.
        version: Format of the items; another one makes them stale.
        is_flat: Whether an item's files lie directly in the folder instead of in one of their own.
    """

    room: str
    kind: str
    dataset: str
    version: str
    is_flat: bool = False


@dataclass(frozen=True)
class PrepareResult:
    """Tell what a preparation did.

    Args:
        out: The output folder.
        done: Items finished now.
        failed: Inputs that failed now.
        skipped: Items finished earlier and unchanged.
        seconds: Wall time.
        failures: (name, reason in one line) of the failed.
        notes: Sentences about the inputs, for the user.
        plan: What a dry run would do, plain values; None after a real run.
    """

    out: Path
    done: int
    failed: int
    skipped: int
    seconds: float
    failures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: Mapping[str, Any] | None = None
