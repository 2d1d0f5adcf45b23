"""What one look at each frame tells of a run: its statistics, and mean and spread of every voxel.

Letters: T frames, V in-mask voxels. Stored whole numbers of up to 16 bits ("levels") take few
distinct values, so counting them once gives every statistic exactly; other numbers need a second
look for the quantiles, which the caller arranges.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from neurocli.core.data.nifti import as_values
from neurocli.core.data.statistics import GlobalStats
from neurocli.systems.fmri.store_base import Float32, VoxelMoments

_LEVEL_BYTES = 2
_BLOCK_FRAMES = 16
_MAX_SIGNED, _MAX_UNSIGNED = (1 << 31) - 1, (1 << 32) - 1


def is_levels(dtype: np.dtype[Any]) -> bool:
    """Tell whether numbers of a type can be counted one by one."""
    return dtype.kind in "iu" and dtype.itemsize <= _LEVEL_BYTES


def all_levels(dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return every number of a type, in the order of its unsigned bit pattern."""
    unsigned = np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}")
    return unsigned.view(dtype)


class Tally(Protocol):
    """Take the frames of a run one by one."""

    def add(self, row_V: npt.NDArray[Any]) -> None:
        """Take one frame of stored numbers (V,)."""

    def span(self) -> tuple[float, float]:
        """Return the lowest and the highest value."""

    def moments(self) -> tuple[Float32, Float32]:
        """Return mean and unbiased standard deviation of each voxel, (V,) float32 each."""


class LevelTally:
    """Count levels and sum them per voxel; all sums are exact.

    Args:
        dtype: Stored type, up to 16 bits.
        n_voxels: V.
        slope: Values are level * slope + inter.
        inter: Added after scaling.
    """

    def __init__(self, dtype: np.dtype[Any], n_voxels: int, slope: float, inter: float) -> None:
        self.levels = all_levels(dtype)
        self.counts = np.zeros(len(self.levels), dtype=np.int64)
        self._slope, self._inter = slope, inter
        self._unsigned = np.dtype(f"u{dtype.itemsize}")
        # 32 bits are twice as fast as 64; what they hold moves on before they can overflow.
        self._row = np.empty(n_voxels, dtype=f"{dtype.kind}4")
        self._recent_sum = np.zeros(n_voxels, dtype=f"{dtype.kind}4")
        self._recent_squares = np.zeros(n_voxels, dtype=np.uint32)
        self._older_sum: npt.NDArray[np.int64] | None = None
        self._older_squares = np.zeros(n_voxels, dtype=np.int64)
        self._sum_bound = self._square_bound = 0
        self._n_frames = 0

    def add(self, row_V: npt.NDArray[Any]) -> None:
        """Take one frame of stored numbers (V,), native byte order."""
        found = np.bincount(row_V.view(self._unsigned))
        self.counts[: len(found)] += found
        peak = max(int(row_V.max()), -int(row_V.min()))
        self._make_room(peak)
        np.copyto(self._row, row_V)
        np.add(self._recent_sum, self._row, out=self._recent_sum)
        np.multiply(self._row, self._row, out=self._row)
        np.add(self._recent_squares, self._row.view(np.uint32), out=self._recent_squares)
        self._n_frames += 1

    def _make_room(self, peak: int) -> None:
        """Empty the sums of 32 bits where a frame of numbers up to `peak` might not fit."""
        self._square_bound += peak * peak
        if self._square_bound > _MAX_UNSIGNED:
            np.add(self._older_squares, self._recent_squares, out=self._older_squares)
            self._recent_squares.fill(0)
            self._square_bound = peak * peak
        self._sum_bound += peak
        if self._sum_bound > _MAX_SIGNED:
            self._older_sum = self._whole_sum()
            self._recent_sum.fill(0)
            self._sum_bound = peak

    def _whole_sum(self) -> npt.NDArray[np.int64]:
        recent = self._recent_sum.astype(np.int64)
        return recent if self._older_sum is None else recent + self._older_sum

    @property
    def values(self) -> Float32:
        """Return the value of each level."""
        return as_values(self.levels, self._slope, self._inter)

    def span(self) -> tuple[float, float]:
        """Return the lowest and the highest value."""
        present = self.values[self.counts > 0]
        return float(present.min()), float(present.max())

    def moments(self) -> tuple[Float32, Float32]:
        """Return mean and unbiased standard deviation of each voxel, (V,) float32 each."""
        count = self._n_frames
        total = self._whole_sum().astype(np.float64)
        mean = (total / count * self._slope + self._inter).astype(np.float32)
        # Of a constant voxel both products are the same number, so its spread is exactly 0.
        spread = (self._older_squares + self._recent_squares).astype(np.float64)
        spread *= count
        total *= total
        spread -= total
        spread /= count * max(count - 1, 1)
        std = np.sqrt(np.maximum(spread, 0, out=spread), out=spread)
        std *= abs(self._slope)
        return mean, std.astype(np.float32)

    def stats(self, background: float = 0.0) -> GlobalStats | None:
        """Return the statistics of all values but the background; None when there is no other."""
        values = self.values.astype(np.float64)
        order = np.argsort(values, kind="stable")
        order = order[(self.counts[order] > 0) & (values[order] != background)]
        if not order.size:
            return None
        values, counts = values[order], self.counts[order]
        total = int(counts.sum())
        mean = float((counts * values).sum() / total)
        squares = float((counts * (values - mean) ** 2).sum())
        quarter, half, three = (_quantile(values, counts, q) for q in (0.25, 0.5, 0.75))
        return GlobalStats(
            valid_voxels=total,
            global_mean=mean,
            global_std=math.sqrt(squares / (total - 1)) if total > 1 else 0.0,
            global_max=float(values[-1]),
            global_min=float(values[0]),
            median=half,
            iqr=three - quarter,
        )


def _quantile(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], share: float
) -> float:
    ends = np.cumsum(counts)
    position = share * (int(ends[-1]) - 1)
    lower = int(position)
    upper = min(lower + 1, int(ends[-1]) - 1)
    low, high = (float(values[np.searchsorted(ends, r, side="right")]) for r in (lower, upper))
    return low + (position - lower) * (high - low)


class ValueTally:
    """Merge mean and spread of values of any kind.

    Args:
        n_voxels: V.
    """

    def __init__(self, n_voxels: int) -> None:
        self._moments = VoxelMoments()
        self._block = np.empty((_BLOCK_FRAMES, n_voxels), dtype=np.float32)
        self._filled = 0
        self._low, self._high = math.inf, -math.inf

    def add(self, row_V: npt.NDArray[Any]) -> None:
        """Take one frame of values (V,)."""
        self._low = min(self._low, float(row_V.min()))
        self._high = max(self._high, float(row_V.max()))
        self._block[self._filled] = row_V
        self._filled += 1
        if self._filled == _BLOCK_FRAMES:
            self._merge()

    def _merge(self) -> None:
        if self._filled:
            self._moments.add(self._block[: self._filled])
            self._filled = 0

    def span(self) -> tuple[float, float]:
        """Return the lowest and the highest value."""
        return self._low, self._high

    def moments(self) -> tuple[Float32, Float32]:
        """Return mean and unbiased standard deviation of each voxel, (V,) float32 each."""
        self._merge()
        return self._moments.result()
