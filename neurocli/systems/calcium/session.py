"""One recording session in memory: traces, clock, segments of each part, labels, repairs.

A segment is a stretch of frames without a cut; windows and positive pairs never leave one. What
was dropped, filled or cut is listed, never done in silence.

Letters: T frames, N neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.mapped import release
from neurocli.core.errors import InputError

Segments = npt.NDArray[np.int64]
PARTS = ("train", "val", "test")
_MAX_GAP_S = 0.2
_BLOCK = 8192  # frames looked at together, so that a mapped recording never fills the memory


@dataclass(frozen=True)
class Table:
    """Hold the presentations of one stimulus.

    Args:
        start: First frame of each (n,).
        stop: Frame after the last of each (n,).
        values: Name -> (n,) what was shown.
    """

    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    values: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Session:
    """Hold one recording session.

    Args:
        name: Unique name.
        traces: (T, N) numbers, frames first; may be mapped from a file.
        rate_hz: Frames per second.
        start_s: Time of the first frame.
        segments: Part -> (n, 2) first frame and frame after the last, in order.
        labels: Name -> (T,) or (T, K); whole numbers are -1, others NaN where there is none.
        neurons: Names of the N neurons.
        layout: What kind of file it came from.
        split: Where the parts come from, in words.
        stimuli: Name -> presentations.
        columns: Neurons of `traces` that are used; None takes all.
        repairs: What was changed or left out.
        is_tuned: (N,) whether each neuron follows the stimuli, where it is known: of made-up
            sessions.
    """

    name: str
    traces: npt.NDArray[Any]
    rate_hz: float
    start_s: float
    segments: Mapping[str, Segments]
    labels: Mapping[str, npt.NDArray[Any]]
    neurons: tuple[str, ...]
    layout: str
    split: str
    stimuli: Mapping[str, int] = field(default_factory=dict)
    columns: npt.NDArray[np.int64] | None = None
    repairs: tuple[str, ...] = ()
    is_tuned: npt.NDArray[np.bool_] | None = None

    @property
    def n_frames(self) -> int:
        """Return T."""
        return int(self.traces.shape[0])

    @property
    def n_neurons(self) -> int:
        """Return the number of neurons that are used."""
        return len(self.neurons)

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """Return the time of every frame (T,) in seconds."""
        return self.start_s + np.arange(self.n_frames) / self.rate_hz

    @property
    def mapped_bytes(self) -> int:
        """Return how many bytes of the traces lie in a file and not in memory."""
        return self.traces.nbytes if isinstance(self.traces, np.memmap) else 0

    def release(self) -> None:
        """Give the memory of mapped traces that were read back to the system."""
        release(self.traces)

    def rows(self, frames: npt.NDArray[np.int64] | slice) -> npt.NDArray[np.float32]:
        """Return the used neurons at frames as float32; `frames` of any shape S gives (S, N)."""
        taken = self.traces[frames]
        if self.columns is not None:
            taken = taken[..., self.columns]
        found = np.ascontiguousarray(taken, dtype=np.float32)
        # A slice of a mapped file is that file; whoever gets it may keep or change it.
        return found if found.flags.writeable else found.copy()


def runs_of(mask: npt.ArrayLike) -> Segments:
    """Return the stretches of true values as (n, 2) first and after-the-last index.

    >>> runs_of([0, 1, 1, 0, 1]).tolist()
    [[1, 3], [4, 5]]
    """
    padded = np.concatenate([[False], np.asarray(mask, dtype=bool), [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return edges.reshape(-1, 2).astype(np.int64)


def mask_of(segments: Segments, n_frames: int) -> npt.NDArray[np.bool_]:
    """Return (T,) whether each frame lies in a segment."""
    steps = np.zeros(n_frames + 1, dtype=np.int64)
    for start, stop in segments:
        steps[start] += 1
        steps[stop] -= 1
    return np.cumsum(steps[:-1]) > 0


def checked_parts(
    masks: Mapping[str, npt.NDArray[np.bool_]], n_frames: int, where: Mapping[str, str]
) -> dict[str, Segments]:
    """Return segments of masks that fit the recording and do not overlap; no mask, no segment.

    Args:
        masks: Part -> (T,) whether a frame belongs to it.
        n_frames: T.
        where: Part -> file and dataset, for errors.

    Raises:
        InputError: A mask has another length, or two masks share frames.
    """
    seen: dict[str, npt.NDArray[np.bool_]] = {}
    for part, mask in masks.items():
        if mask.shape != (n_frames,):
            raise InputError(
                where[part],
                f"has {'x'.join(map(str, mask.shape))} values for {n_frames} frames",
                "one value per frame is needed; make the file again",
            )
        for other, earlier in seen.items():
            shared = int((mask & earlier).sum())
            if shared:
                raise InputError(
                    where[part],
                    f"shares {shared} frames with the part '{other}'",
                    "parts must not overlap, or held-out figures mean nothing",
                )
        seen[part] = mask
    return {part: runs_of(masks.get(part, [])) for part in PARTS}


def rate_of(times_s: npt.NDArray[Any], where: str) -> float:
    """Return the frames per second that time stamps tell.

    Args:
        times_s: Times of the frames (T,).
        where: File and dataset, for errors.

    Raises:
        InputError: They are not one finite time per frame that goes forward.
    """
    if times_s.ndim != 1 or len(times_s) < 2:
        raise InputError(where, f"has shape {times_s.shape}", "one time stamp per frame is needed")
    span = float(times_s[-1] - times_s[0])
    if not 0 < span < np.inf:
        raise InputError(where, "does not run forward in time", "check the clock of the recording")
    return (len(times_s) - 1) / span


def cleaned(session: Session, where: str) -> Session:
    """Return a session without dead neurons and NaN, with everything that was done in `repairs`.

    Neurons that are all NaN or constant are dropped. Gaps of up to 0.2 s inside a segment are
    filled linearly; longer ones cut the segment. Nothing is set to zero.

    Args:
        session: As it was read.
        where: The file, for errors.

    Raises:
        InputError: No neuron is left, or the recording is shorter than two frames.
    """
    if session.n_frames < 2:
        raise InputError(
            where, f"holds {session.n_frames} frames", "a recording over time is needed"
        )
    missing, constant, bad_rows = _scan(session.traces)
    session.release()
    repairs = list(session.repairs)
    keep = ~(missing | constant)
    if not keep.any():
        what = "NaN" if missing.all() else "constant or NaN"
        raise InputError(where, f"all {len(keep)} neurons are {what}", "check what was stored")
    for count, what in ((missing.sum(), "all-NaN"), (constant.sum(), "constant")):
        if count:
            repairs.append(f"{int(count)} {what} neurons were dropped")
    columns = None if keep.all() else np.flatnonzero(keep).astype(np.int64)
    names = tuple(name for name, kept in zip(session.neurons, keep, strict=True) if kept)
    tuned = None if session.is_tuned is None else session.is_tuned[keep]
    session = replace(session, columns=columns, neurons=names, is_tuned=tuned)
    if bad_rows.any():
        session, notes = _fill(session, bad_rows)
        repairs += notes
    return replace(session, repairs=tuple(repairs))


def _scan(
    traces: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which neurons are all NaN, which constant, and which frames hold a NaN elsewhere."""
    n_frames, n_neurons = traces.shape
    n_bad = np.zeros(n_neurons, dtype=np.int64)
    low = np.full(n_neurons, np.inf)
    high = np.full(n_neurons, -np.inf)
    for start in range(0, n_frames, _BLOCK):
        block = np.asarray(traces[start : start + _BLOCK])
        finite = np.isfinite(block)
        n_bad += (~finite).sum(0)
        low = np.minimum(low, np.where(finite, block, np.inf).min(0))
        high = np.maximum(high, np.where(finite, block, -np.inf).max(0))
    missing = n_bad == n_frames
    bad_rows = np.zeros(n_frames, dtype=bool)
    if (n_bad[~missing] > 0).any():
        for start in range(0, n_frames, _BLOCK):
            block = np.asarray(traces[start : start + _BLOCK])[:, ~missing]
            bad_rows[start : start + _BLOCK] = ~np.isfinite(block).all(1)
    return missing, (low == high) & ~missing, bad_rows


def _fill(session: Session, bad_rows: npt.NDArray[np.bool_]) -> tuple[Session, list[str]]:
    values = session.rows(slice(None)).copy()
    longest = int(_MAX_GAP_S * session.rate_hz)
    n_filled, n_cut = 0, 0
    cut = np.zeros(len(values), dtype=bool)
    for start, stop in runs_of(bad_rows):
        if stop - start > longest or start == 0 or stop == len(values):
            cut[start:stop] = True
            n_cut += int(stop - start)
            continue
        share = (np.arange(start, stop) - start + 1)[:, None] / (stop - start + 1)
        between = values[start - 1] * (1 - share) + values[stop] * share
        gap = values[start:stop]
        values[start:stop] = np.where(np.isfinite(gap), gap, between)
        n_filled += int(stop - start)
    notes = []
    if n_filled:
        notes.append(f"{n_filled} frames with NaN were filled linearly (gaps up to {_MAX_GAP_S} s)")
    if n_cut:
        values[cut] = np.nan
        notes.append(f"{n_cut} frames in longer NaN gaps were cut out of their segments")
    segments = {
        part: runs_of(mask_of(own, len(values)) & ~cut) for part, own in session.segments.items()
    }
    return replace(session, traces=values, columns=None, segments=segments), notes


def centres_of(segments: Segments, field_size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Return the frames whose whole receptive field lies in one segment.

    Args:
        segments: (n, 2).
        field_size: Frames before the centre, and from the centre on.

    Returns:
        Sorted frame numbers.
    """
    left, right = field_size
    found = [np.arange(start + left, stop - right + 1) for start, stop in segments]
    return np.concatenate(found).astype(np.int64) if found else np.zeros(0, dtype=np.int64)


def n_crossing(segments: Segments, field_size: tuple[int, int]) -> int:
    """Return how many windows of glued segments would cross a cut."""
    total = int(sum(stop - start for start, stop in segments))
    left, right = field_size
    glued = max(0, total - left - right + 1)
    return max(0, glued - len(centres_of(segments, field_size)))


def frames_in(segments: Segments) -> int:
    """Return how many frames segments hold."""
    return int(sum(stop - start for start, stop in segments))


def names_of(count: int, given: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return given names of neurons when there is one for each, else their numbers."""
    return (
        tuple(given) if given is not None and len(given) == count else tuple(map(str, range(count)))
    )
