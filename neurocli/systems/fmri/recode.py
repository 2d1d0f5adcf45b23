"""Turn the stored numbers of a whole run into the values that are kept.

Scalings that move all values alike are one affine map: whole numbers then stay as they are and the
map goes along as attributes, without loss. Everything else waits until the run's statistics are
known. Letters: T frames, t some frames, V in-mask voxels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.frames import FLOAT16_MAX
from neurocli.core.data.nifti import as_values
from neurocli.core.data.scaling import background_value, scale
from neurocli.core.data.statistics import GlobalStats
from neurocli.core.errors import InputError
from neurocli.systems.fmri.brain import RunJob
from neurocli.systems.fmri.config import PreprocessOptions
from neurocli.systems.fmri.rows import Row, Rows, Spool
from neurocli.systems.fmri.run_writer import RunWriter, Scale
from neurocli.systems.fmri.store_base import Float32, VoxelMoments
from neurocli.systems.fmri.tally import LevelTally, ValueTally

_FINE_STEPS = 32  # a voxel that changes by fewer steps of the number format is looked at again
_GLOBAL = ("none", "znorm_minback", "znorm_zeroback", "minmax", "robust")


def stays_stored(settings: PreprocessOptions, rows: Rows) -> bool:
    """Tell whether the numbers of a run can be written as they come."""
    if settings.is_cleaned:
        return False
    if rows.are_levels:
        return settings.dtype == "auto" and settings.scaling in _GLOBAL
    return settings.dtype in ("auto", "float32") and settings.scaling == "none"


def affine_of(scaling: str, raw: Scale, stats: GlobalStats) -> Scale:
    """Return how stored numbers become scaled values.

    Args:
        scaling: One of the methods that move all values alike.
        raw: How stored numbers become raw values.
        stats: Statistics of the raw values.

    Raises:
        NeuroError: The method divides by a statistic that is zero.
    """
    if scaling == "none":
        return raw
    method = "znorm_minback" if scaling == "znorm_zeroback" else scaling
    # An affine map is known by its divisor and what it makes of 0.
    divisor = {"minmax": stats.global_max, "robust": stats.iqr}.get(method, stats.global_std)
    centre = {"minmax": 0.0, "robust": stats.median}.get(method, stats.global_mean)
    scale(np.zeros((1, 1), np.float32), method, stats=stats)  # refuses what cannot be divided by
    return Scale(raw.scale_factor / divisor, (raw.offset - centre) / divisor)


def moved_maps(maps: tuple[Float32, Float32], raw: Scale, affine: Scale) -> tuple[Float32, Float32]:
    """Return mean and spread of each voxel of values that were all moved alike.

    Args:
        maps: Mean and standard deviation of the raw values, (V,) each.
        raw: How stored numbers become raw values.
        affine: How they become the moved ones.
    """
    mean, std = maps
    if affine == raw:
        return mean.copy(), std.copy()
    factor = affine.scale_factor / raw.scale_factor
    moved = (mean - np.float64(raw.offset)) * factor + affine.offset
    return moved.astype(np.float32), (std * np.float64(abs(factor))).astype(np.float32)


def background_of(job: RunJob, stats: GlobalStats) -> float:
    """Return what a voxel outside the mask holds in the output."""
    if job.settings.scaling == "none":
        return job.series.background
    return background_value(job.settings.scaling, stats)


class Recoder:
    """Write the numbers that wait in a spool as the values that were asked for.

    Args:
        job: The run and its options.
        rows: Says how the spooled numbers become values.
        tally: What was counted of them.
        spool: Holds them all.
    """

    def __init__(
        self, job: RunJob, rows: Rows, tally: LevelTally | ValueTally, spool: Spool
    ) -> None:
        self._job, self._tally, self._spool = job, tally, spool
        is_value = spool.dtype.kind == "f"
        self._raw = Scale() if is_value else Scale(rows.slope, rows.inter)
        self._is_tabled = isinstance(tally, LevelTally) and not is_value
        self._is_tabled &= job.settings.scaling in _GLOBAL
        self.dtype = np.dtype("float16" if job.settings.dtype == "float16" else "float32")

    def raw_blocks(self) -> Iterator[Float32]:
        """Yield all unscaled values as blocks (t, V)."""
        for block in self._spool.blocks():
            yield as_values(block, self._raw.scale_factor, self._raw.offset)

    def write(
        self, writer: RunWriter, stats: GlobalStats, maps: tuple[Float32, Float32]
    ) -> tuple[Float32, Float32]:
        """Write every frame.

        Args:
            writer: Of a new file.
            stats: Statistics of the unscaled values.
            maps: Mean and standard deviation of each voxel, unscaled.

        Returns:
            Mean and standard deviation of each voxel as written, (V,) each.

        Raises:
            InputError: A value does not fit the number format.
            NeuroError: The scaling cannot be applied.
        """
        if self._is_tabled and not self._breaks_the_line():
            return self._write_moved(writer, stats, maps)
        moments = VoxelMoments()
        blocks = self._looked_up(stats) if self._is_tabled else self._scaled(stats, maps)
        for block in blocks:
            moments.add(block)
            for row in block:
                writer.add(row)
        return moments.result()

    def _breaks_the_line(self) -> bool:
        """Tell whether the scaling moves zeros otherwise than the rest, and there are some."""
        assert isinstance(self._tally, LevelTally)
        is_zero = self._tally.values == 0
        return self._job.settings.scaling == "znorm_zeroback" and bool(
            self._tally.counts[is_zero].any()
        )

    def _write_moved(
        self, writer: RunWriter, stats: GlobalStats, maps: tuple[Float32, Float32]
    ) -> tuple[Float32, Float32]:
        """Write every frame; mean and spread are moved as the values are, not taken again.

        Where a voxel changes by few steps of the number format, what rounding makes of it counts.
        """
        affine = affine_of(self._job.settings.scaling, self._raw, stats)
        mean, std = moved_maps(maps, self._raw, affine)
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused below
            step = np.spacing(np.abs(mean).astype(self.dtype)).astype(np.float32)
        rough = np.flatnonzero(std < _FINE_STEPS * step)
        moments = VoxelMoments()
        for block in self._looked_up(stats):
            if rough.size:
                moments.add(block[:, rough])
            for row in block:
                writer.add(row)
        if rough.size:
            mean[rough], std[rough] = moments.result()
        return mean, std

    def _scaled(
        self, stats: GlobalStats, maps: tuple[Float32, Float32]
    ) -> Iterator[npt.NDArray[Any]]:
        method = self._job.settings.scaling
        for block in self.raw_blocks():
            yield self._encoded(
                block
                if method == "none"
                else scale(block, method, stats=stats, voxel_mean_V=maps[0], voxel_std_V=maps[1])
            )

    def _looked_up(self, stats: GlobalStats) -> Iterator[Row]:
        """Yield blocks through a table of what each stored number becomes."""
        assert isinstance(self._tally, LevelTally)
        values = np.where(self._tally.counts > 0, self._tally.values, np.float32(0))
        table = self._encoded(scale(values[None], self._job.settings.scaling, stats=stats))[0]
        unsigned = np.dtype(f"u{self._spool.dtype.itemsize}")
        for block in self._spool.blocks():
            found = np.empty(block.shape, dtype=table.dtype)
            for row, levels in zip(found, block.view(unsigned), strict=True):
                # Other modes copy the output once more; a whole block has too many indices.
                np.take(table, levels, out=row, mode="clip")
            yield found

    def _encoded(self, values: Float32) -> npt.NDArray[Any]:
        if self.dtype == np.float16:
            largest = float(np.abs(values).max(initial=0.0))
            if not largest <= FLOAT16_MAX:
                raise InputError(
                    self._job.series.path,
                    f"values reach {largest:g}, float16 ends at {FLOAT16_MAX:g}",
                    "scale the run, e.g. --scaling voxel-z, or store with --dtype float32",
                )
        return values.astype(self.dtype, copy=False)
