"""How several sessions become what one model sees, and the slow drift that may be taken off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.systems.calcium.session import PARTS, Session, n_crossing


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


def glued(session: Session, field: tuple[int, int]) -> Session:
    """Return a session whose parts are one segment each, their stretches joined end to end.

    Windows then cross cuts, as those of the described system do; how many do is told.

    Args:
        session: The session.
        field: Frames before the centre of a window, and from the centre on.
    """
    frames, segments, offset, crossing = [], {}, 0, 0
    for part in PARTS:
        own = [np.arange(start, stop) for start, stop in session.segments[part]]
        length = sum(map(len, own))
        ends = [[offset, offset + length]] if length else []
        segments[part] = np.array(ends, dtype=np.int64).reshape(-1, 2)
        crossing += n_crossing(session.segments[part], field)
        frames += own
        offset += length
    order = np.concatenate(frames) if frames else np.zeros(0, dtype=np.int64)
    told = (
        f"parts were glued: {crossing} windows cross a cut; {session.n_frames - offset} frames "
        "of no part were left out, and times count from the first frame that was kept"
    )
    return replace(
        session,
        traces=session.rows(order),
        columns=None,
        segments=segments,
        labels={name: values[order] for name, values in session.labels.items()},
        repairs=(*session.repairs, told),
    )


def highpassed(session: Session, cutoff_hz: float) -> Session:
    """Return a session without what is slower than a cutoff.

    A centred moving average of 1 / cutoff seconds is taken off over the whole recording; it sees
    no label, but it does look half its length across the borders of parts. At the ends the
    recording goes on as in a mirror: one noisy frame repeated would shift all that is near it.
    NaN counts for nothing.

    Args:
        session: The session.
        cutoff_hz: Inverse length of the average.
    """
    from scipy.ndimage import uniform_filter1d

    values = session.rows(slice(None)).astype(np.float64)
    length = max(3, round(session.rate_hz / cutoff_hz))
    known = np.isfinite(values)
    slow: npt.NDArray[Any] = uniform_filter1d(
        np.where(known, values, 0.0), length, axis=0, mode="reflect"
    )
    if not known.all():
        share = uniform_filter1d(known.astype(np.float64), length, axis=0, mode="reflect")
        slow /= np.where(known, share, 1.0)
    repairs = (*session.repairs, f"a moving average of {length} frames was taken off")
    return replace(
        session, traces=(values - slow).astype(np.float32), columns=None, repairs=repairs
    )
