"""From tables of what was shown to one label per frame, and to parts when a file names none.

Labels are named after stimulus and column: `movie_one` is the frame of natural movie one,
`direction` and `temp_freq` are those of drifting gratings. A frame without the stimulus is -1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neurocli.core.data.loader import epoch_order
from neurocli.systems.calcium.session import Segments, Table, mask_of, runs_of

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
# Canonical column -> spellings that files use, the first found is taken.
_ALIASES = {
    "frame": ("frame_number", "frame"),
    "repeat": ("repeat", "repeat_num"),
    "direction": ("orientation_id", "orientation", "drifting_class"),
    "temp_freq": ("temporal_frequency_id", "temp_freq", "temporal_frequency", "drifting_temp_freq"),
    "orientation": ("orientation_id", "orientation"),
    "spatial_frequency": ("spatial_frequency_id", "spatial_frequency"),
    "phase": ("phase_id", "phase"),
}
# Stimulus -> column -> label.
_LABELS = {
    "drifting_gratings": {"direction": "direction", "temp_freq": "temp_freq"},
    "static_gratings": {"orientation": "static_orientation"},
    "natural_scenes": {"frame": "scene"},
    **{
        f"natural_movie_{word}": {"frame": f"movie_{word}", "repeat": f"movie_{word}_repeat"}
        for word in ("one", "two", "three")
    },
}
STIMULI = tuple(_LABELS)
MOVIES = ("movie_one", "movie_two", "movie_three")
_ANGLE = 45.0
_FREQUENCIES = (1.0, 2.0, 4.0, 8.0, 15.0)
_TRIAL_SHARES, _TRIAL_SEED = (0.7, 0.1, 0.2), 42
_REPEAT_SHARES = (0.8, 0.1)
_BLOCK_SHARES = (0.7, 0.8)
_EPS = 1e-6


def column(values: Mapping[str, npt.NDArray[np.generic]], name: str) -> tuple[str, Float] | None:
    """Return a canonical column of a stimulus table and the name it has there, else None.

    Args:
        values: Columns of the table.
        name: frame, repeat, direction, temp_freq, orientation, spatial_frequency or phase.
    """
    for spelling in _ALIASES[name]:
        if spelling in values:
            found = np.asarray(values[spelling], dtype=np.float64)
            return spelling, found if found.ndim == 1 else found.reshape(len(found), -1)[:, 0]
    return None


def frames_of(start_s: Float, stop_s: Float, clock: tuple[float, float]) -> tuple[Int, Int]:
    """Return first frame and frame after the last of intervals, start <= t < stop.

    An interval without a start or an end holds no frame.

    Args:
        start_s: Starts (n,).
        stop_s: Ends (n,).
        clock: Time of the first frame and frames per second.
    """
    first, rate = clock
    known = np.isfinite(start_s) & np.isfinite(stop_s)
    edges = [
        np.ceil((np.where(known, s, first) - first) * rate - _EPS).astype(np.int64)
        for s in (start_s, stop_s)
    ]
    return np.maximum(edges[0], 0), np.maximum(edges[1], 0)


def coded(name: str, values: Float, spelling: str = "") -> Int:
    """Return whole numbers for what was shown: directions 0..7, frequencies 0..4, else as it is.

    Args:
        name: Canonical column.
        values: As the file has them: codes, degrees or Hz.
        spelling: Name of the column in the file; `temporal_frequency` is in Hz, whatever its range.

    >>> coded("direction", np.array([45.0, 315.0, np.nan])).tolist()
    [1, 7, -1]
    >>> coded("direction", np.array([0.0, 3.0, 7.0])).tolist()
    [0, 3, 7]
    """
    finite = np.isfinite(values)
    safe = np.where(finite, values, -1.0)
    top = safe.max(initial=-1.0)
    if name == "direction" and top > 7:
        safe = np.where(finite, np.round(safe / _ANGLE) % 8, -1)
    if name == "orientation" and top > 7:
        safe = np.where(finite, np.round(safe / 30.0) % 6, -1)
    if name == "temp_freq" and (top > 4 or spelling == "temporal_frequency"):
        nearest = np.abs(safe[:, None] - np.array(_FREQUENCIES)).argmin(1)
        safe = np.where(finite, nearest, -1)
    return np.round(safe).astype(np.int64)


def with_repeats(frame: Int) -> Int:
    """Return which presentation of the movie each row belongs to: how often its frame came before.

    >>> with_repeats(np.array([0, 1, 2, 0, 1, 2])).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    order = np.argsort(frame, kind="stable")
    ordered = frame[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    within = np.arange(len(frame)) - np.repeat(starts, np.diff(np.r_[starts, len(frame)]))
    found = np.empty(len(frame), dtype=np.int64)
    found[order] = within
    return found


def canonical(stimulus: str, table: Table) -> Table:
    """Return a table with coded columns under canonical names, sorted, without empty rows.

    Args:
        stimulus: One of `STIMULI`.
        table: As the file has it.
    """
    keep = table.stop > table.start
    order = np.flatnonzero(keep)[np.argsort(table.start[keep], kind="stable")]
    values: dict[str, npt.NDArray[np.int64]] = {}
    for name in _LABELS[stimulus]:
        found = column(table.values, name)
        if found is not None:
            values[name] = coded(name, found[1][order], found[0])
    if "frame" in values and "movie" in stimulus and "repeat" not in values:
        values["repeat"] = with_repeats(values["frame"])
    return Table(table.start[order], table.stop[order], values)


def frame_labels(stimuli: Mapping[str, Table], n_frames: int) -> dict[str, npt.NDArray[np.int32]]:
    """Return one whole number per frame for every label that the tables give, -1 for none.

    Args:
        stimuli: Canonical tables by stimulus.
        n_frames: T.
    """
    labels: dict[str, npt.NDArray[np.int32]] = {}
    for stimulus, table in stimuli.items():
        lengths = np.minimum(table.stop, n_frames) - np.minimum(table.start, n_frames)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = table.start[rows] + within
        for name, values in table.values.items():
            label = labels.setdefault(
                _LABELS[stimulus][name], np.full(n_frames, -1, dtype=np.int32)
            )
            label[places] = values[rows]
    return labels


def derived_parts(
    stimuli: Mapping[str, Table], n_frames: int, rate_hz: float
) -> tuple[dict[str, Segments], str]:
    """Return parts for a recording whose file names none, and in words how they were made.

    Trials are shuffled 70/10/20; movie presentations go 80/10/10 in their order; without stimuli
    the recording is cut 70/10/20 in time with one second left out between the parts.

    Args:
        stimuli: Canonical tables.
        n_frames: T.
        rate_hz: Frames per second.
    """
    masks = {part: np.zeros(n_frames, dtype=bool) for part in ("train", "val", "test")}
    for table in stimuli.values():
        for part, chosen in _assigned(table).items():
            rows = np.stack([table.start[chosen], table.stop[chosen]], 1)
            masks[part] |= mask_of(np.minimum(rows, n_frames), n_frames)
    if any(mask.any() for mask in masks.values()):
        # Where two presentations touch, the frame they share stays with the first part.
        masks["val"] &= ~masks["train"]
        masks["test"] &= ~(masks["train"] | masks["val"])
        text = "derived: trials 70/10/20 shuffled, movie presentations 80/10/10 in order"
        return {part: runs_of(mask) for part, mask in masks.items()}, text
    gap = round(rate_hz)
    cuts = [int(share * n_frames) for share in _BLOCK_SHARES]
    bounds = {
        "train": (0, cuts[0]),
        "val": (cuts[0] + gap, cuts[1]),
        "test": (cuts[1] + gap, n_frames),
    }
    blocks = {
        part: np.array([[a, b]] if b > a else [], dtype=np.int64).reshape(-1, 2)
        for part, (a, b) in bounds.items()
    }
    return blocks, "derived: blocks of time 70/10/20, one second between them left out"


def _assigned(table: Table) -> dict[str, npt.NDArray[np.bool_]]:
    """Return part -> (n,) which rows of a table belong to it."""
    n = len(table.start)
    if "repeat" in table.values:
        repeat = table.values["repeat"]
        count = int(repeat.max(initial=-1)) + 1
        place = repeat
        first = round(_REPEAT_SHARES[0] * count)
        second = max(first + round(_REPEAT_SHARES[1] * count), min(first + 1, count))
    else:
        place = np.empty(n, dtype=np.int64)
        place[epoch_order(n, seed=_TRIAL_SEED, epoch=0, shuffle=True)] = np.arange(n)
        first = round(_TRIAL_SHARES[0] * n)
        second = first + round(_TRIAL_SHARES[1] * n)
    return {
        "train": place < first,
        "val": (place >= first) & (place < second),
        "test": place >= second,
    }
