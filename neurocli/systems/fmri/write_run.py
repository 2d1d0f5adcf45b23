"""Pass once over a run and write it: inflated, masked, counted, written.

Numbers that can stay as they are go straight into the file. Values that depend on the whole run
(another number format, scaling per voxel, cleaning) wait in a flat file beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurocli.core.data.hdf5_stream import stream_h5
from neurocli.core.data.nifti import as_values
from neurocli.core.data.statistics import GlobalStats, global_stats
from neurocli.core.errors import InputError
from neurocli.systems.fmri.brain import Brain, RunJob
from neurocli.systems.fmri.clean import clean_columns, cleaning_of
from neurocli.systems.fmri.mask import looks_stripped
from neurocli.systems.fmri.quality import FrameTrace
from neurocli.systems.fmri.recode import Recoder, affine_of, background_of, moved_maps, stays_stored
from neurocli.systems.fmri.rows import OutsideMaskError, Row, Rows, Spool, rows_of
from neurocli.systems.fmri.run_writer import RunWriter, Scale
from neurocli.systems.fmri.series import Series
from neurocli.systems.fmri.store_base import Float32, RunInfo, VoxelMoments
from neurocli.systems.fmri.tally import LevelTally, ValueTally

_SPOOL = "rows.tmp"


class _NotAffineError(Exception):
    """Say that a scaling moves one of the values otherwise than the rest."""


@dataclass
class Pass:
    """Gather what one look at each frame tells."""

    rows: Rows
    n_frames: int
    brain: Brain
    tally: LevelTally | ValueTally
    trace: FrameTrace

    @classmethod
    def of(cls, rows: Rows, n_frames: int, brain: Brain) -> Pass:
        """Prepare to look at a run."""
        n_voxels = int(np.count_nonzero(brain.mask))
        tally: LevelTally | ValueTally = (
            LevelTally(rows.dtype, n_voxels, rows.slope, rows.inter)
            if rows.are_levels
            else ValueTally(n_voxels)
        )
        trace = FrameTrace(n_voxels, rows.slope, rows.inter)
        return cls(rows, n_frames, brain, tally, trace)

    @property
    def n_voxels(self) -> int:
        """Return V."""
        return int(np.count_nonzero(self.brain.mask))

    @property
    def holds_zero(self) -> bool:
        """Tell whether a brain voxel is exactly 0 in some frame."""
        assert isinstance(self.tally, LevelTally)
        return bool(self.tally.counts[self.tally.values == 0].any())

    def n_bytes(self, dtype: np.dtype[Any]) -> int:
        """Return what the run takes in numbers of a type."""
        return self.n_frames * self.n_voxels * dtype.itemsize

    def run(self, sink: Callable[[Row], None]) -> None:
        """Take every frame and hand it on."""
        for row in self.rows.give():
            self.tally.add(row)
            self.trace.add(row)
            sink(row)


@dataclass(frozen=True)
class WrittenRun:
    """Hold what is known once a run is written.

    Args:
        seen: What the pass over its frames told, of raw values.
        stats: Statistics of the unscaled values.
        dtype: Of the stored numbers.
    """

    seen: Pass
    stats: GlobalStats
    dtype: np.dtype[Any]


def write_run(job: RunJob, target: Path, brain: Brain, info: RunInfo) -> WrittenRun:
    """Write a run as a packed file.

    Args:
        job: The run and its options; gains notes.
        target: The file, in a private folder that may hold temporary files.
        brain: Which voxels.
        info: What the file says of the run.

    Raises:
        OutsideMaskError: The guess of the brain was wrong.
        InputError: The source is damaged, holds NaN or Inf, or nothing but one value.
        NeuroError: A scaling cannot be applied, or the disk is full.
    """
    rows = rows_of(job, brain.mask, is_guess=brain.is_guess)
    if stays_stored(job.settings, rows):
        with contextlib.suppress(_NotAffineError):
            seen = Pass.of(rows, info.shape[3], brain)
            return _write_direct(job, target, info, seen)
    seen = Pass.of(rows, info.shape[3], brain)
    spool = target.with_name(_SPOOL)
    try:
        return _write_recoded(job, target, info, seen, spool)
    finally:
        spool.unlink(missing_ok=True)


def _write_direct(job: RunJob, target: Path, info: RunInfo, seen: Pass) -> WrittenRun:
    """Write the numbers as they come; what scales them is an attribute."""
    found: list[GlobalStats] = []
    raw = Scale(seen.rows.slope, seen.rows.inter)

    def fill(file: Any) -> None:
        writer = RunWriter(file, info.shape[3], seen.brain.mask, seen.rows.dtype)
        seen.run(writer.add)
        _check(job.series, seen)
        if job.settings.scaling == "znorm_zeroback" and seen.holds_zero:
            raise _NotAffineError
        stats = _stats(job.series, seen, lambda: writer.blocks(raw))
        affine = affine_of(job.settings.scaling, raw, stats)
        maps = moved_maps(seen.tally.moments(), raw, affine)
        background = background_of(job, stats)
        writer.finish(
            _dated(info, job), stats=stats, maps=maps, scale=affine, background=background
        )
        found.append(stats)

    stream_h5(target, fill, expected_bytes=seen.n_bytes(seen.rows.dtype))
    return WrittenRun(seen, found[0], seen.rows.dtype)


def _write_recoded(job: RunJob, target: Path, info: RunInfo, seen: Pass, place: Path) -> WrittenRun:
    """Let the numbers wait until the whole run is known, then write them as values."""
    is_cleaned = job.settings.is_cleaned
    cleaning = cleaning_of(job, info.tr_s) if is_cleaned else None
    spooled = np.dtype(np.float32) if is_cleaned else seen.rows.dtype
    spool = Spool(place, spooled, seen.n_voxels)
    raw = Scale(seen.rows.slope, seen.rows.inter)
    try:
        seen.run(
            lambda row: spool.add(
                as_values(row, raw.scale_factor, raw.offset) if is_cleaned else row
            )
        )
    finally:
        spool.close()
    _check(job.series, seen)
    maps = seen.tally.moments()
    recoder = Recoder(job, seen.rows, seen.tally, spool)
    if cleaning is not None:
        clean_columns(spool.columns(), cleaning, job.series.path)
        maps = _moments(recoder.raw_blocks())
        stats = global_stats(recoder.raw_blocks, job.series.background)
    else:
        stats = _stats(job.series, seen, recoder.raw_blocks)

    def fill(file: Any) -> None:
        writer = RunWriter(file, info.shape[3], seen.brain.mask, recoder.dtype)
        stored = recoder.write(writer, stats, maps)
        background = background_of(job, stats)
        writer.finish(
            _dated(info, job), stats=stats, maps=stored, scale=Scale(), background=background
        )

    stream_h5(target, fill, expected_bytes=seen.n_bytes(recoder.dtype))
    return WrittenRun(seen, stats, recoder.dtype)


def _dated(info: RunInfo, job: RunJob) -> RunInfo:
    """Return what is said of a run with the digest of its source, which took its time."""
    digest = job.series.sha256
    return info if digest is None else replace(info, source_sha256=digest())


def _moments(blocks: Iterator[Float32]) -> tuple[Float32, Float32]:
    moments = VoxelMoments()
    for block in blocks:
        moments.add(block)
    return moments.result()


def _check(series: Series, seen: Pass) -> None:
    """Refuse a run of one value, and hold a guessed mask against the mean image."""
    low, high = seen.tally.span()
    if low == high:
        raise InputError(
            series.path, f"every value inside the mask is {low:g}", "give another file or --mask"
        )
    if seen.brain.is_guess:
        mean, _ = seen.tally.moments()
        image = np.zeros(seen.brain.mask.shape, dtype=np.float32)
        image[seen.brain.mask] = mean
        # The mean image of the whole run would have told another mask.
        if not mean.all() or not looks_stripped(image):
            raise OutsideMaskError


def _stats(series: Series, seen: Pass, blocks: Any) -> GlobalStats:
    if series.stats is not None:
        return series.stats
    if isinstance(seen.tally, LevelTally):
        stats = seen.tally.stats(series.background)
        if stats is not None:
            return stats
    return global_stats(blocks, series.background)
