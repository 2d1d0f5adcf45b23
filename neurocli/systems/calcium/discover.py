"""Find the sessions that a user means, and say what is in each before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.data.items import Found, Item
from neurocli.core.data.workers import reason_text
from neurocli.core.errors import InputError
from neurocli.systems.calcium.config import FIELDS
from neurocli.systems.calcium.read import find_sources, is_suite2p, open_sessions
from neurocli.systems.calcium.session import PARTS, Session, centres_of, frames_in, n_crossing

_FIELD = "offset10"  # the window that the risks are told for


def find_allen(sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List sessions of files and folders of any known layout.

    Args:
        sources: Files and folders.
        options: Values of `SessionOptions`.

    Raises:
        InputError: A source is missing or holds nothing of the kind, or no file can be used.
    """
    paths = [path for source in sources for path in find_sources(source)]
    return _listed(paths, float(options["rate_hz"]))


def find_suite2p(sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List suite2p planes.

    Args:
        sources: Folders with `F.npy`, or folders that hold such.
        options: Values of `SessionOptions`.

    Raises:
        InputError: A source is missing or holds nothing of the kind, or no plane can be used.
    """
    paths = [path for source in sources for path in find_sources(source) if is_suite2p(path)]
    if not paths:
        raise InputError(sources[0], "holds no suite2p plane", "give a folder with F.npy")
    return _listed(paths, float(options["rate_hz"]))


def _listed(paths: Sequence[Path], rate_hz: float) -> Found:
    items: list[Item] = []
    failures: list[tuple[str, str]] = []
    notes: list[str] = []
    first: InputError | None = None
    for path in paths:
        try:
            sessions = open_sessions(path, rate_hz)
        except InputError as error:
            first = first or error
            failures.append((path.name, reason_text(error)))
            continue
        for number, session in enumerate(sessions):
            files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
            details = {"path": str(path), "number": number}
            items.append(Item(session.name, session.name, tuple(files), details))
            notes.append(describe(session))
    if first is not None and not items:
        raise first
    return Found(items, failures, notes)


def describe(session: Session) -> str:
    """Return one line on a session: size, clock, parts, stimuli, risks and repairs.

    Args:
        session: Opened and cleaned.
    """
    texts = [
        f"{session.n_neurons} neurons, {session.n_frames} frames at {session.rate_hz:.2f} Hz "
        f"({session.layout})"
    ]
    parts = [
        f"{part} {frames_in(own)} frames in {len(own)} segments"
        for part in PARTS
        if len(own := session.segments[part])
    ]
    texts.append(f"parts: {', '.join(parts)} ({session.split})")
    if session.stimuli:
        shown = ", ".join(f"{name} {count}" for name, count in session.stimuli.items())
        texts.append(f"stimuli: {shown}")
    if session.labels:
        texts.append(f"labels: {', '.join(session.labels)}")
    texts += _risks(session)
    texts += session.repairs
    return f"{session.name}: " + "; ".join(texts)


def _risks(session: Session) -> list[str]:
    field = FIELDS[_FIELD]
    own = session.segments["train"]
    usable = len(centres_of(own, field))
    crossing = n_crossing(own, field)
    if not usable:
        return [f"risk: no training segment is as long as the {sum(field)} frames of {_FIELD}"]
    if not crossing:
        return []
    share = 100 * crossing / (usable + crossing)
    return [
        f"risk: {share:.1f} % of {_FIELD} windows over glued parts would cross a cut; none will"
    ]
