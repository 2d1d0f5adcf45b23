"""Which labels of sessions are learned from and decoded, and how they become classes and values.

Stimuli exclude each other in time, so their labels unite: a movie is one class whose continuous
value is the frame, each grating direction is a class of its own. Other labels hold at the same
time, so classes multiply and continuous ones stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text
from neurocli.systems.calcium.session import Session
from neurocli.systems.calcium.stimuli import MOVIES

Kind = Literal["movie", "class", "number"]
Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
_SHOWN = ("direction", "static_orientation", "scene")  # of stimuli that exclude each other
_ASIDE = ("temp_freq", "running", "truth")  # read, and not learned from unless they are named
_MOVIE_HZ = 30.0
_SHIFT_S = 10.0


@dataclass(frozen=True)
class LabelSpec:
    """Describe one label.

    Args:
        name: Its name.
        kind: Frame of a movie, a class, or continuous numbers.
        period: Frames of the movie or number of classes; 0 for numbers.
        tolerance: Movie frames in one second.
    """

    name: str
    kind: Kind
    period: int = 0
    tolerance: int = 0

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def find_specs(
    sessions: Sequence[Session], target: str | None
) -> tuple[list[LabelSpec], list[str]]:
    """Return the labels to use, and what the user should know of others.

    Args:
        sessions: All sessions of the run.
        target: Names with commas between; None takes all but nuisances.

    Raises:
        UsageError: A named label is not in every session.
    """
    shared = [name for name in sessions[0].labels if all(name in s.labels for s in sessions)]
    if target is not None:
        names = [name.strip() for name in target.split(",") if name.strip()]
        for name in names:
            if name not in shared:
                raise UsageError(
                    f"the label '{name}' is not in every session",
                    where="task.target",
                    hint=f"labels here: {choices_text(shared) if shared else 'none'}",
                )
        return [_spec(sessions, name) for name in names], []
    usual = [n for n in shared if n not in _ASIDE and not n.endswith("_repeat")]
    known = {name for session in sessions for name in session.labels}
    partial = sorted(known - set(shared) - set(_ASIDE))
    notes = (
        [f"labels that not every session has are not used: {', '.join(partial)}"] if partial else []
    )
    return [_spec(sessions, name) for name in usual], notes


def truth_spec(sessions: Sequence[Session]) -> list[LabelSpec]:
    """Return the known truth of made-up sessions as a label to decode, where there is one."""
    return [LabelSpec("truth", "number")] if all("truth" in s.labels for s in sessions) else []


def _spec(sessions: Sequence[Session], name: str) -> LabelSpec:
    values = [session.labels[name] for session in sessions]
    if values[0].dtype.kind == "f":
        return LabelSpec(name, "number")
    period = 1 + max(int(own.max(initial=0)) for own in values)
    if name in MOVIES:
        return LabelSpec(name, "movie", period, max(1, min(round(_MOVIE_HZ), period // 4)))
    return LabelSpec(name, "class", period)


def classes_and_values(session: Session, specs: Sequence[LabelSpec]) -> tuple[Int, Float]:
    """Return the class (T,), -1 for none, and the continuous value (T, K) of every frame.

    Args:
        session: The session.
        specs: Labels that positives come from.

    Raises:
        UsageError: Labels of stimuli and others are mixed.
    """
    shown = [spec for spec in specs if spec.kind == "movie" or spec.name in _SHOWN]
    if shown and len(shown) != len(specs):
        raise UsageError(
            f"{', '.join(spec.name for spec in specs)} mix stimuli with other labels",
            where="task.target",
            hint="name labels of stimuli alone, or others alone",
        )
    return _united(session, shown) if shown else _combined(session, specs)


def _united(session: Session, specs: Sequence[LabelSpec]) -> tuple[Int, Float]:
    key = np.full(session.n_frames, -1, dtype=np.int64)
    value = np.zeros((session.n_frames, 1))
    first = 0
    for spec in specs:
        own = session.labels[spec.name].astype(np.int64)
        on = (own >= 0) & (key < 0)
        if spec.kind == "movie":
            key[on], value[on, 0] = first, own[on]
            first += 1
        else:
            key[on] = first + own[on]
            first += spec.period
    return key, value


def _combined(session: Session, specs: Sequence[LabelSpec]) -> tuple[Int, Float]:
    key = np.zeros(session.n_frames, dtype=np.int64)
    missing = np.zeros(session.n_frames, dtype=bool)
    columns = []
    for spec in specs:
        own = session.labels[spec.name]
        if spec.kind == "class":
            missing |= own < 0
            key = key * spec.period + np.maximum(own, 0).astype(np.int64)
        else:
            wide = own.reshape(len(own), -1).astype(np.float64)
            missing |= ~np.isfinite(wide).all(1)
            columns.append(np.nan_to_num(wide))
    value = np.concatenate(columns, 1) if columns else np.zeros((session.n_frames, 1))
    return np.where(missing, -1, key), value


def with_null(session: Session, specs: Sequence[LabelSpec], null: str, seed: int) -> Session:
    """Return a session whose labels say nothing any more, as a control.

    `shuffle` permutes the frames of a movie (the same way in all presentations) and the classes
    and numbers among their presentations; `shift` turns each label around in time.

    Args:
        session: The session.
        specs: Labels to spoil.
        null: "shuffle", "shift" or "none".
        seed: Of the permutation.
    """
    if null == "none":
        return session
    labels: dict[str, npt.NDArray[Any]] = dict(session.labels)
    for number, spec in enumerate(specs):
        rng = np.random.default_rng([seed, 9, number])
        labels[spec.name] = _spoiled(labels[spec.name], spec, null, rng, session.rate_hz)
    return replace(session, labels=labels)


def _spoiled(
    values: npt.NDArray[Any], spec: LabelSpec, null: str, rng: np.random.Generator, rate_hz: float
) -> npt.NDArray[Any]:
    found = values.copy()
    on = (
        values >= 0
        if spec.kind != "number"
        else np.isfinite(values.reshape(len(values), -1)).all(1)
    )
    n = int(on.sum())
    if null == "shift":
        least = min(int(_SHIFT_S * rate_hz), n // 4)
        found[on] = np.roll(values[on], int(rng.integers(least, max(least + 1, n - least))), axis=0)
    elif spec.kind == "movie":
        found[on] = rng.permutation(spec.period)[values[on]].astype(values.dtype)
    elif spec.kind == "class":
        edges = np.flatnonzero(np.diff(values) != 0) + 1
        bounds = np.concatenate([[0], edges, [len(values)]])
        runs = [(a, b) for a, b in pairwise(bounds.tolist()) if values[a] >= 0]
        shown = rng.permutation([values[a] for a, _ in runs])
        for (a, b), value in zip(runs, shown, strict=True):
            found[a:b] = value
    else:
        found[on] = values[on][rng.permutation(n)]
    return found


def trials_of(values: Int, segment: Int) -> Int:
    """Return the number of the presentation that each window belongs to.

    Args:
        values: Class of each window (n,).
        segment: Its segment (n,).
    """
    change = np.flatnonzero((np.diff(values) != 0) | (np.diff(segment) != 0)) + 1
    found = np.zeros(len(values), dtype=np.int64)
    found[change] = 1
    return np.cumsum(found)
