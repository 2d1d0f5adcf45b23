"""Statistics of a run: over all its values, and per voxel over time.

Shape letters: T frames, V in-mask voxels. "Background" is the value that marks voxels outside the
brain in raw data, 0 unless told; it never enters a statistic. Everything is accumulated in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from neurocli.core.data.quantiles import RankCounter
from neurocli.core.errors import NeuroError

Float32 = npt.NDArray[np.float32]
_BLOCK_FRAMES = 16  # frames per float64 temporary


@dataclass(frozen=True)
class GlobalStats:
    """Hold the statistics of all values of a run that are not background.

    Args:
        valid_voxels: Number of values over voxels and frames.
        global_mean: Their mean.
        global_std: Their unbiased standard deviation.
        global_max: Their maximum.
        global_min: Their minimum; NaN when unknown (older files do not store it).
        median: Their median; NaN when unknown.
        iqr: Their interquartile range; NaN when unknown.
    """

    valid_voxels: int
    global_mean: float
    global_std: float
    global_max: float
    global_min: float = math.nan
    median: float = math.nan
    iqr: float = math.nan

    def as_dict(self) -> dict[str, int | float]:
        """Return the known entries as plain numbers; unknown (NaN) ones are left out."""
        return {name: value for name, value in asdict(self).items() if not math.isnan(value)}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> GlobalStats:
        """Read the entries from any mapping; others are ignored.

        Args:
            values: Numbers, or zero-dimensional arrays or tensors, under the names of the fields.

        Returns:
            The statistics; `global_min`, `median` and `iqr` are NaN when absent.

        Raises:
            NeuroError: A required entry is missing, or one is not a finite number.
        """
        found = {
            field.name: _number(field.name, values[field.name])
            for field in fields(cls)
            if values.get(field.name) is not None
        }
        missing = [
            name
            for name in ("valid_voxels", "global_mean", "global_std", "global_max")
            if name not in found
        ]
        if missing:
            raise NeuroError(
                f"the statistics lack {', '.join(missing)}",
                hint="compute them anew by preprocessing the run again",
            )
        return cls(**{**found, "valid_voxels": int(found["valid_voxels"])})  # type: ignore[arg-type]


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise NeuroError(f"the statistic {name} is no number: {value!r:.60}") from error
    if not math.isfinite(number):
        raise NeuroError(
            f"the statistic {name} is {number}", hint="the run holds values that are not finite"
        )
    return number


class _Moments:
    """Merge count, mean, spread and range block by block (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0
        self.low = math.inf
        self.high = -math.inf

    def add(self, values: npt.NDArray[Any]) -> None:
        count = values.size
        deviations = values.astype(np.float64)
        mean = float(deviations.mean())
        if not math.isfinite(mean):
            _refuse_non_finite(values)
        deviations -= mean
        shift = mean - self.mean
        total = self.count + count
        self.squares += float(deviations @ deviations) + shift**2 * self.count * count / total
        self.mean += shift * count / total
        self.count = total
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))


def _refuse_non_finite(values: npt.NDArray[Any]) -> NoReturn:
    bad = int(np.count_nonzero(~np.isfinite(values)))
    raise NeuroError(
        f"{bad} of {values.size} values are not finite, or their sum is not",
        hint="replace NaN and Inf before statistics are taken",
    )


def global_stats(
    blocks: Callable[[], Iterable[npt.NDArray[Any]]], background: float = 0.0
) -> GlobalStats:
    """Compute the statistics of a run in two passes with memory of one block.

    Mean and spread merge in float64. Median and quartiles are exact order statistics of the values
    as float32, interpolated linearly as numpy does (so float64 input is right to 6e-8 relative).

    Args:
        blocks: Gives a fresh iterator over the run's values, any block shapes; called twice.
        background: Values equal to this one are not counted.

    Returns:
        The statistics; the spread of a single value is 0.

    Raises:
        NeuroError: No value differs from the background, a value is not finite, or the second pass
            differs from the first.
    """
    moments = _Moments()
    ranks = RankCounter()
    for block in blocks():
        values = _valid(block, background)
        if values.size:
            moments.add(values)
            ranks.add(values)
    if moments.count == 0:
        raise NeuroError(
            f"every value equals the background ({background:g})",
            hint="the image is empty or the mask misses the brain",
        )
    quartiles = ranks.quantiles((0.25, 0.5, 0.75), (_valid(b, background) for b in blocks()))
    variance = moments.squares / (moments.count - 1) if moments.count > 1 else 0.0
    return GlobalStats(
        valid_voxels=moments.count,
        global_mean=moments.mean,
        global_std=math.sqrt(variance),
        global_max=moments.high,
        global_min=moments.low,
        median=quartiles[1],
        iqr=quartiles[2] - quartiles[0],
    )


def _valid(block: npt.NDArray[Any], background: float) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = np.asarray(block).ravel(order="K")
    is_valid = values != background
    return values if is_valid.all() else values[is_valid]


def voxel_stats(values_TV: npt.NDArray[Any]) -> tuple[Float32, Float32]:
    """Return mean and unbiased standard deviation of every voxel over time.

    Args:
        values_TV: Values (T, V), T >= 1; further axes behind T are kept.

    Returns:
        (mean_V, std_V), float32, accumulated in float64 in two passes; voxels that are constant in
        float32 have a spread of exactly 0, and so has every voxel of a single frame.

    Raises:
        NeuroError: There is no frame.
    """
    n_frames = len(values_TV)
    if n_frames == 0:
        raise NeuroError("the run has no frames", hint="give a run with at least one frame")
    starts = range(0, n_frames, _BLOCK_FRAMES)
    total = np.zeros(values_TV.shape[1:], dtype=np.float64)
    for start in starts:
        total += values_TV[start : start + _BLOCK_FRAMES].sum(axis=0, dtype=np.float64)
    mean = total / n_frames
    squares = np.zeros_like(mean)
    for start in starts:
        squares += ((values_TV[start : start + _BLOCK_FRAMES] - mean) ** 2).sum(axis=0)
    std = np.sqrt(squares / max(n_frames - 1, 1))
    return mean.astype(np.float32), std.astype(np.float32)
