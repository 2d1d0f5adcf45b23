"""How several sessions become what one model sees, and the slow drift that may be taken off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.systems.calcium.session import PARTS, Session


def apply_mode(sessions: Sequence[Session], mode: str) -> tuple[list[Session], list[str]]:
    """Return the sessions as a mode combines them, and what the user should know.

    Args:
        sessions: All usable sessions.
        mode: shared, separate, pad or first-only.
    """
    if mode == "first-only":
        left = len(sessions) - 1
        return list(sessions[:1]), [f"{left} further sessions are not used"] if left else []
    if mode == "pad" and len(sessions) > 1:
        note = (
            "padded neurons tell sessions apart, so a network may learn the session instead of the "
            "signal; data.mode=shared has no such hint"
        )
        return [padded(sessions)], [note]
    return list(sessions), []


def padded(sessions: Sequence[Session]) -> Session:
    """Return sessions end to end, with zeros for the neurons that a session lacks.

    Args:
        sessions: At least one.
    """
    width = max(session.n_neurons for session in sessions)
    rows, offset = [], 0
    segments: dict[str, list[npt.NDArray[np.int64]]] = {part: [] for part in PARTS}
    for session in sessions:
        own = session.rows(slice(None))
        rows.append(np.pad(own, ((0, 0), (0, width - own.shape[1]))))
        for part in PARTS:
            segments[part].append(session.segments[part] + offset)
        offset += session.n_frames
    names = [name for name in sessions[0].labels if all(name in s.labels for s in sessions)]
    first = sessions[0]
    return Session(
        name="+".join(session.name for session in sessions),
        traces=np.concatenate(rows),
        rate_hz=first.rate_hz,
        start_s=first.start_s,
        segments={part: np.concatenate(own) for part, own in segments.items()},
        labels={name: np.concatenate([s.labels[name] for s in sessions]) for name in names},
        neurons=tuple(map(str, range(width))),
        layout="padded",
        split=first.split,
        repairs=tuple(f"{s.name}: {repair}" for s in sessions for repair in s.repairs),
    )


def highpassed(session: Session, cutoff_hz: float) -> Session:
    """Return a session without what is slower than a cutoff.

    A centred moving average of 1 / cutoff seconds is taken off over the whole recording; it sees
    no label, but it does look half its length across the borders of parts.

    Args:
        session: The session.
        cutoff_hz: Inverse length of the average.
    """
    from scipy.ndimage import uniform_filter1d

    values = session.rows(slice(None)).astype(np.float64)
    length = max(3, round(session.rate_hz / cutoff_hz))
    slow: npt.NDArray[Any] = uniform_filter1d(values, length, axis=0, mode="nearest")
    repairs = (*session.repairs, f"a moving average of {length} frames was taken off")
    return replace(
        session, traces=(values - slow).astype(np.float32), columns=None, repairs=repairs
    )
