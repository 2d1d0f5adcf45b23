"""The ways to scale a run, and what its background becomes.

Shape letters: T frames, V in-mask voxels. Statistics are those of the whole unscaled run; scaled
values are float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.statistics import Float32, GlobalStats, global_stats, voxel_stats
from neurocli.core.errors import NeuroError
from neurocli.core.names import lookup

__all__ = ["SCALINGS", "GlobalStats", "background_value", "global_stats", "scale", "voxel_stats"]

_CONSTANT_SHARE = 1e-6  # a spread below this share of the level is rounding of a constant


def scale(
    values_TV: npt.NDArray[Any],
    method: str,
    *,
    stats: GlobalStats | None,
    voxel_mean_V: npt.NDArray[Any] | None = None,
    voxel_std_V: npt.NDArray[Any] | None = None,
) -> Float32:
    """Scale in-mask values of a run or of a window of it.

    | method | value |
    |---|---|
    | none | x |
    | znorm_zeroback | (x - global_mean) / global_std, and 0 where x is 0 |
    | znorm_minback | (x - global_mean) / global_std |
    | minmax | x / global_max |
    | robust | (x - median) / iqr |
    | voxel-z | (x - voxel mean) / voxel std, 0 for voxels without spread |
    | psc | 100 (x - voxel mean) / voxel mean, 0 for voxels without a level |

    Args:
        values_TV: Unscaled values (T, V), any numeric dtype.
        method: One of `SCALINGS`.
        stats: Statistics of the whole run; needed by the four global methods.
        voxel_mean_V: Mean over the whole run (V,); needed by voxel-z and psc.
        voxel_std_V: Standard deviation over the whole run (V,); needed by voxel-z.

    Returns:
        A new array (T, V), float32.

    Raises:
        UsageError: The method is unknown.
        NeuroError: A statistic that the method needs is absent, or it divides by zero.
    """
    apply = lookup("scaling", method, _SCALERS)
    values = np.array(values_TV, dtype=np.float32)
    return apply(values, _Inputs(method, stats, voxel_mean_V, voxel_std_V))


def background_value(method: str, stats: GlobalStats | None) -> float:
    """Return what a voxel outside the mask holds after scaling.

    It is the image of a raw 0 under the method, and never above the lowest scaled value where the
    model recognises background as the minimum (znorm_minback).

    Args:
        method: One of `SCALINGS`.
        stats: Statistics of the run; needed by znorm_minback and robust.

    Raises:
        UsageError: The method is unknown.
        NeuroError: A statistic that the method needs is absent, or it divides by zero.
    """
    lookup("scaling", method, _SCALERS)
    if method not in ("znorm_minback", "robust"):
        return 0.0
    inputs = _Inputs(method, stats, None, None)
    if method == "robust":
        return -inputs.known("median") / inputs.divisor("iqr")
    lowest = min(0.0, stats.global_min) if stats and not math.isnan(stats.global_min) else 0.0
    return (lowest - inputs.known("global_mean")) / inputs.divisor("global_std")


@dataclass(frozen=True)
class _Inputs:
    method: str
    stats: GlobalStats | None
    voxel_mean_V: npt.NDArray[Any] | None
    voxel_std_V: npt.NDArray[Any] | None

    def known(self, name: str) -> float:
        value = math.nan if self.stats is None else float(getattr(self.stats, name))
        if math.isnan(value):
            raise NeuroError(
                f"scaling '{self.method}' needs the run's {name}, which is unknown",
                hint="preprocess the run again, or choose --scaling voxel-z",
            )
        return value

    def divisor(self, name: str) -> float:
        value = self.known(name)
        if not 0 < value < math.inf:
            raise NeuroError(
                f"scaling '{self.method}' would divide by the run's {name}, which is {value:g}",
                hint="the run is constant or of the wrong kind; look at the image, "
                "or choose --scaling none",
            )
        return value

    def per_voxel(self, name: str) -> Float32:
        values = getattr(self, name)
        if values is None:
            raise NeuroError(f"scaling '{self.method}' needs {name}, which is not given")
        return np.asarray(values, dtype=np.float32)


def _none(values: Float32, inputs: _Inputs) -> Float32:
    return values


def _znorm_minback(values: Float32, inputs: _Inputs) -> Float32:
    values -= np.float32(inputs.known("global_mean"))
    values /= np.float32(inputs.divisor("global_std"))
    return values


def _znorm_zeroback(values: Float32, inputs: _Inputs) -> Float32:
    is_background = values == 0
    _znorm_minback(values, inputs)
    values[is_background] = 0
    return values


def _minmax(values: Float32, inputs: _Inputs) -> Float32:
    values /= np.float32(inputs.divisor("global_max"))
    return values


def _robust(values: Float32, inputs: _Inputs) -> Float32:
    values -= np.float32(inputs.known("median"))
    values /= np.float32(inputs.divisor("iqr"))
    return values


def _voxel_z(values: Float32, inputs: _Inputs) -> Float32:
    mean, std = inputs.per_voxel("voxel_mean_V"), inputs.per_voxel("voxel_std_V")
    return _per_voxel(values, mean, std, std > _CONSTANT_SHARE * np.abs(mean), 1.0)


def _psc(values: Float32, inputs: _Inputs) -> Float32:
    mean = inputs.per_voxel("voxel_mean_V")
    level = np.abs(mean)
    has_level = level > _CONSTANT_SHARE * level.max(initial=0.0)
    return _per_voxel(values, mean, mean, has_level, 100.0)


def _per_voxel(
    values: Float32, mean: Float32, divisor: Float32, is_usable: npt.NDArray[np.bool_], unit: float
) -> Float32:
    factor = np.zeros_like(mean)
    np.divide(unit, divisor, out=factor, where=is_usable)
    values -= mean
    values *= factor
    return values


_SCALERS: dict[str, Callable[[Float32, _Inputs], Float32]] = {
    "none": _none,
    "znorm_zeroback": _znorm_zeroback,
    "znorm_minback": _znorm_minback,
    "minmax": _minmax,
    "robust": _robust,
    "voxel-z": _voxel_z,
    "psc": _psc,
}
SCALINGS: tuple[str, ...] = tuple(_SCALERS)
