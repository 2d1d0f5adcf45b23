"""Numbers that show a bad run at a glance, taken from unscaled values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.geometry import voxel_size_mm

_SPIKE_SD = 5.0
_MAD_TO_SD = 1.4826  # of a normal distribution
_MM3_PER_ML = 1000.0
_AT_ONCE, _SHORT_BYTES = 1 << 15, 2  # voxels; bytes of a short number


class FrameTrace:
    """Follow a run frame by frame.

    Args:
        n_voxels: V.
        slope: Values are numbers * slope + inter.
        inter: Added after scaling.
    """

    def __init__(self, n_voxels: int, slope: float = 1.0, inter: float = 0.0) -> None:
        self._slope, self._inter = slope, inter
        self._means: list[float] = []
        self._steps: list[float] = [0.0]
        self._last = np.empty(n_voxels, dtype=np.float32)
        self._now, self._change = (np.empty(_AT_ONCE, dtype=np.float32) for _ in range(2))

    def add(self, row_V: npt.NDArray[Any]) -> None:
        """Take one frame (V,)."""
        # A piece of whole numbers of 16 bits has a sum below 2^31.
        is_short = row_V.dtype.kind in "iu" and row_V.dtype.itemsize <= _SHORT_BYTES
        total, squares = 0.0, 0.0
        # Pieces that stay in the processor's cache between the steps.
        for start in range(0, row_V.size, _AT_ONCE):
            piece = row_V[start : start + _AT_ONCE]
            last = self._last[start : start + _AT_ONCE]
            now, change = self._now[: piece.size], self._change[: piece.size]
            total += float(piece.sum(dtype=np.int32 if is_short else np.float64))
            np.copyto(now, piece, casting="unsafe")
            if self._means:
                np.subtract(now, last, out=change)
                squares += float(np.dot(change, change))
            last[:] = now
        if self._means:
            self._steps.append(math.sqrt(squares / row_V.size) * abs(self._slope))
        self._means.append(total / row_V.size * self._slope + self._inter)

    @property
    def signal_T(self) -> npt.NDArray[np.float64]:
        """Return the mean of each frame (T,)."""
        return np.array(self._means)

    @property
    def dvars_T(self) -> npt.NDArray[np.float64]:
        """Return the root mean square change from the frame before (T,), 0 for the first."""
        return np.array(self._steps)


def quality(
    trace: FrameTrace,
    maps: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    mask: npt.NDArray[np.bool_],
    affine: npt.ArrayLike,
) -> dict[str, Any]:
    """Judge a run.

    Args:
        trace: What was seen of each frame.
        maps: Mean and standard deviation of each voxel over time, (V,) each, unscaled.
        mask: Brain (X, Y, Z).
        affine: Voxel indices to millimetres, (4, 4).

    Returns:
        `n_frames`, `n_voxels_in_mask`, `mask_share` of the grid, `mask_volume_ml`, `tsnr_median`
        over voxels that change (None when none does), `dvars_median`; `n_spikes` with
        `spike_frames`, whose mean lies more than 5 robust standard deviations from the median
        frame; `n_jumps` with `jump_frames`, whose change from the frame before is that far above
        the usual one; and `global_signal` and `dvars` of every frame.
    """
    mean_V, std_V = maps
    changes = std_V > 0
    tsnr = float(np.median(mean_V[changes] / std_V[changes])) if changes.any() else None
    signal, dvars = trace.signal_T, trace.dvars_T
    spikes, jumps = spike_frames(signal), jump_frames(dvars)
    n_voxels = int(np.count_nonzero(mask))
    return {
        "n_frames": len(signal),
        "n_voxels_in_mask": n_voxels,
        "mask_share": round(float(mask.mean()), 6),
        "mask_volume_ml": round(n_voxels * float(np.prod(voxel_size_mm(affine))) / _MM3_PER_ML, 3),
        "tsnr_median": None if tsnr is None else round(tsnr, 4),
        "dvars_median": float(f"{np.median(dvars[1:]):.6g}") if len(dvars) > 1 else None,
        "n_spikes": len(spikes),
        "spike_frames": spikes,
        "n_jumps": len(jumps),
        "jump_frames": jumps,
        "global_signal": [float(f"{value:.7g}") for value in signal],
        "dvars": [float(f"{value:.6g}") for value in dvars],
    }


PER_FRAME = ("spike_frames", "jump_frames", "global_signal", "dvars")
"""Keys of `quality` that grow with the run and stay out of the manifest."""


def spike_frames(signal_T: npt.NDArray[np.float64]) -> list[int]:
    """Return the frames that leave the signal's usual range.

    The spread is 1.4826 times the median absolute deviation, so the spikes do not widen it.

    Args:
        signal_T: Global signal (T,).

    Returns:
        Indices of frames beyond 5 such spreads from the median.

    >>> spike_frames(np.array([1.0, 2.0, 1.0, 2.0, 1.0, 90.0]))
    [5]
    """
    distance = signal_T - np.median(signal_T)
    return [int(index) for index in np.flatnonzero(np.abs(distance) > _limit(distance))]


def jump_frames(dvars_T: npt.NDArray[np.float64]) -> list[int]:
    """Return the frames that differ far more from the one before than frames usually do.

    Args:
        dvars_T: Root mean square change (T,); that of the first frame does not count.

    Returns:
        Indices of frames beyond 5 robust spreads above the median change.

    >>> jump_frames(np.array([0.0, 1.0, 1.1, 0.9, 8.0, 1.0]))
    [4]
    """
    if len(dvars_T) < 2:
        return []
    distance = dvars_T[1:] - np.median(dvars_T[1:])
    return [int(index) + 1 for index in np.flatnonzero(distance > _limit(distance))]


def _limit(distance: npt.NDArray[np.float64]) -> float:
    return _SPIKE_SD * _MAD_TO_SD * float(np.median(np.abs(distance)))
