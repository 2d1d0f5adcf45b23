"""The brain voxels of a run, frame by frame, as they come from its file.

Whole numbers of up to 16 bits stay as they are stored (with slope and intercept), everything else
becomes float32. Letters: T frames, V in-mask voxels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from neurocli.core.data.ahead import LIVE, read_ahead
from neurocli.core.data.nifti import as_values
from neurocli.core.errors import InputError
from neurocli.systems.fmri.brain import RunJob, judge_nonfinite
from neurocli.systems.fmri.series import StoredNumbers
from neurocli.systems.fmri.store_base import Float32, Mask, block_frames
from neurocli.systems.fmri.tally import is_levels

Row = npt.NDArray[Any]


class OutsideMaskError(Exception):
    """Say that a run holds something where its first frame held nothing."""


@dataclass(frozen=True)
class Rows:
    """Give the in-mask numbers of a run.

    Args:
        give: Fresh iterator over frames (V,); the next frame overwrites the one before. Values
            that are not finite are judged when it ends.
        dtype: Type of the numbers, native byte order.
        slope: Values are numbers * slope + inter; 1 and 0 where the numbers are values.
        inter: Added after scaling.
    """

    give: Callable[[], Iterator[Row]]
    dtype: np.dtype[Any]
    slope: float = 1.0
    inter: float = 0.0

    @property
    def are_levels(self) -> bool:
        """Tell whether the numbers are stored whole numbers of up to 16 bits."""
        return is_levels(self.dtype)


def rows_of(job: RunJob, mask: Mask, *, is_guess: bool = False) -> Rows:
    """Return the brain voxels of a run, in C order of the mask's True voxels.

    Args:
        job: The run.
        mask: Brain on the grid of the output.
        is_guess: Check that every frame is zero outside the mask.

    Returns:
        Rows; iterating them raises `OutsideMaskError` where the guess was wrong, and `InputError`
        where the run is damaged or holds NaN or Inf against the options.
    """
    stored = job.series.stored
    # Of many runs each keeps to one core; more cores are what more jobs are for.
    ahead = read_ahead if job.item.is_alone else _as_they_come
    single = np.dtype(np.float32)
    if stored is None or job.grid.is_resampled:
        return Rows(lambda: ahead(_from_volumes(job, mask)), single)
    n_live = LIVE if job.item.is_alone else 1

    def frames() -> Iterator[Row]:
        # Gathered where it was inflated: a volume is far larger than its brain, and fetching it
        # out of another core's cache costs as much as gathering it.
        n_voxels = np.count_nonzero(mask)
        buffers = [np.empty(n_voxels, dtype=stored.dtype) for _ in range(n_live)]
        return ahead(_gathered(stored.give(), mask, buffers, is_guess=is_guess))

    if is_levels(stored.dtype):
        native = stored.dtype.newbyteorder("=")
        return Rows(
            lambda: (row.astype(native, copy=False) for row in frames()),
            native,
            stored.slope,
            stored.inter,
        )
    return Rows(lambda: _from_stored(job, stored, frames(), is_guess=is_guess), single)


def _as_they_come(rows: Iterator[Row]) -> Iterator[Row]:
    return rows


def _places(mask: Mask) -> npt.NDArray[np.intp]:
    """Return where the True voxels lie in a volume with the first axis fastest."""
    return np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")


def _gathered(
    volumes: Iterator[Row], mask: Mask, buffers: list[Row], *, is_guess: bool
) -> Iterator[Row]:
    places = _places(mask)
    for volume, row in zip(volumes, itertools.cycle(buffers), strict=False):
        np.take(volume, places, out=row, mode="clip")  # other modes copy the output once more
        if is_guess and np.count_nonzero(volume) != np.count_nonzero(row):
            raise OutsideMaskError
        yield row


def _from_stored(
    job: RunJob, stored: StoredNumbers, rows: Iterator[Row], *, is_guess: bool
) -> Iterator[Row]:
    n_bad = n_seen = 0
    for row in rows:
        values, bad = _finite(as_values(row, stored.slope, stored.inter))
        if bad and is_guess:
            raise OutsideMaskError  # the usual way tells of all of them
        n_bad, n_seen = n_bad + bad, n_seen + values.size
        yield values
    judge_nonfinite(job, n_bad, n_seen, is_final=True)


def _from_volumes(job: RunJob, mask: Mask) -> Iterator[Row]:
    series, grid = job.series, job.grid
    inside = np.flatnonzero(mask)
    n_bad = n_seen = 0
    for volume in series.volumes():
        # Interpolation would spread a NaN, so it must go before; otherwise only brain counts.
        raw = volume if grid.is_resampled else volume.reshape(-1)[inside]
        values, bad = _finite(raw)
        n_bad, n_seen = n_bad + bad, n_seen + raw.size
        yield grid.place(values, series.affine).reshape(-1)[inside] if grid.is_resampled else values
    judge_nonfinite(job, n_bad, n_seen, is_final=True)


def _finite(values: Float32) -> tuple[Float32, int]:
    bad = ~np.isfinite(values)
    count = int(np.count_nonzero(bad))
    return (np.where(bad, np.float32(0), values) if count else values), count


class Spool:
    """Keep rows in a flat file until they are stored for good, with memory of one block.

    Args:
        path: A new file in a private folder.
        dtype: Type of the numbers.
        n_voxels: V.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], n_voxels: int) -> None:
        self.path, self.dtype, self.n_voxels = path, dtype, n_voxels
        self.n_frames = 0
        self._file: BinaryIO = path.open("xb")

    def add(self, row_V: Row) -> None:
        """Append one frame (V,)."""
        self._file.write(np.ascontiguousarray(row_V, dtype=self.dtype).data)
        self.n_frames += 1

    def close(self) -> None:
        """End writing."""
        self._file.close()

    def blocks(self) -> Iterator[Row]:
        """Yield all frames as blocks (t, V).

        Raises:
            InputError: The file lost its end.
        """
        step = block_frames(self.n_voxels)
        with self.path.open("rb") as handle:
            for start in range(0, self.n_frames, step):
                count = min(step, self.n_frames - start)
                block = np.empty((count, self.n_voxels), dtype=self.dtype)
                if handle.readinto(block.data) != block.nbytes:
                    raise InputError(self.path, "is cut short", "run the command again")
                yield block

    def columns(self) -> npt.NDArray[Any]:
        """Return all numbers (T, V), mapped from disk; changes go to the file."""
        return np.memmap(self.path, self.dtype, "r+", shape=(self.n_frames, self.n_voxels))

    def remove(self) -> None:
        """Delete the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)
