"""Turn values into stored numbers and back.

float16 and float32 hold values as they are. int16 holds whole numbers in its reach without loss;
other values become steps: of one size for a whole file, or, where each voxel is stored by itself,
of a size for every voxel around its mean, because a dim voxel changes less than a bright one.

Letters: T frames, V voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.halves import as_float32
from neurocli.core.errors import NeuroError

Blocks = Callable[[], Iterable[npt.NDArray[Any]]]
Float32 = npt.NDArray[np.float32]
_INT16_MAX = 32767


class Encoder:
    """Turn values into stored numbers; the background is always hit exactly.

    Args:
        dtype: float16, int16 or float32.
        blocks: Gives all values as blocks (t, V); gone through once for int16.
        background: Value outside the mask.
        per_voxel: Let int16 take a mean and a step for every voxel where it must round.

    Attributes:
        scale_factor: value = stored * scale_factor + offset, 1 and 0 for floats.
        offset: See above.
        residual: Mean and step of each voxel, (V,) float32 each, in place of these; or None.
    """

    def __init__(
        self, dtype: str, blocks: Blocks, background: float, *, per_voxel: bool = False
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.scale_factor = 1.0
        self.offset = 0.0
        self.residual: tuple[Float32, Float32] | None = None
        if dtype == "int16":
            self._choose_steps(blocks, background, per_voxel)

    def _choose_steps(self, blocks: Blocks, background: float, per_voxel: bool) -> None:
        found = _Range()
        for block in blocks():
            found.add(block, background)
        self.offset = background
        if found.is_whole and found.largest <= _INT16_MAX:
            return
        if per_voxel:
            self.residual = found.steps()
        else:
            self.scale_factor = found.largest / _INT16_MAX or 1.0

    def encode(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values (..., V) as stored numbers.

        Raises:
            NeuroError: A value does not fit float16.
        """
        if self.residual is not None:
            mean, step = (part.astype(np.float64) for part in self.residual)
            steps = np.zeros(values.shape)
            np.divide(values - mean, step, out=steps, where=step > 0)
            return np.clip(np.rint(steps), -_INT16_MAX, _INT16_MAX).astype(self.dtype)
        if self.dtype.kind == "i":
            steps = (values.astype(np.float64) - self.offset) / self.scale_factor
            return np.rint(steps).astype(self.dtype)
        with np.errstate(over="ignore"):
            stored = values.astype(self.dtype)
        if self.dtype == np.float16 and not np.isfinite(stored).all():
            raise NeuroError(
                f"values reach {float(np.abs(values).max()):g}, float16 ends at 65504",
                hint="store with --dtype float32 or --dtype int16",
            )
        return stored

    def decode(self, stored: npt.NDArray[Any]) -> Float32:
        """Return stored numbers (..., V) as values."""
        if self.residual is not None:
            return decode_residual(stored, *self.residual)
        return decode(stored, self.scale_factor, self.offset)


class _Range:
    """Gather what int16 steps are chosen by."""

    def __init__(self) -> None:
        self.largest = 0.0
        self.is_whole = True
        self.count = 0
        self._sum: Any = 0.0
        self._low: Any = np.inf
        self._high: Any = -np.inf

    def add(self, block: npt.NDArray[Any], background: float) -> None:
        """Take a block (t, V)."""
        values = block.astype(np.float64)
        distance = np.abs(values - background)
        self.largest = max(self.largest, float(distance.max()))
        self.is_whole = self.is_whole and bool((distance == np.rint(distance)).all())
        self.count += len(values)
        self._sum = self._sum + values.sum(axis=0)
        self._low = np.minimum(self._low, values.min(axis=0))
        self._high = np.maximum(self._high, values.max(axis=0))

    def steps(self) -> tuple[Float32, Float32]:
        """Return mean and step of each voxel."""
        mean = (self._sum / self.count).astype(np.float32)
        reach = np.maximum(self._high - mean, mean - self._low)
        return mean, (reach / _INT16_MAX).astype(np.float32)


def decode(stored: npt.NDArray[Any], scale_factor: float, offset: float) -> Float32:
    """Return stored numbers as values.

    Args:
        stored: Any shape and dtype.
        scale_factor: 1 and `offset` 0 where the file names none.
        offset: Is added after scaling.

    Returns:
        float32 of the same shape.
    """
    if scale_factor == 1.0 and offset == 0.0:
        return as_float32(stored)
    return np.asarray(stored * np.float64(scale_factor) + offset, dtype=np.float32)


def decode_residual(stored: npt.NDArray[Any], mean: Float32, step: Float32) -> Float32:
    """Return residuals (..., V) as values.

    Args:
        stored: Whole numbers of steps.
        mean: Of each voxel, (V,).
        step: Of each voxel, (V,).
    """
    values: Float32 = np.multiply(stored, step, dtype=np.float32)
    values += mean
    return values
