"""Numbers that show a bad run at a glance, taken from unscaled values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_SPIKE_SD = 5.0
_MAD_TO_SD = 1.4826  # of a normal distribution


def quality(
    values_TV: npt.NDArray[np.float32],
    mean_V: npt.NDArray[np.float32],
    std_V: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
) -> dict[str, Any]:
    """Judge a run.

    Args:
        values_TV: Unscaled in-mask values (T, V).
        mean_V: Their mean over time.
        std_V: Their standard deviation over time.
        mask: Brain (X, Y, Z).

    Returns:
        `n_frames`, `n_voxels_in_mask`, `mask_share` of the grid, `tsnr_median` over voxels that
        change (None when none does), and `n_spikes` with `spike_frames`: frames whose mean lies
        more than 5 robust standard deviations from the median frame.
    """
    changes = std_V > 0
    tsnr = float(np.median(mean_V[changes] / std_V[changes])) if changes.any() else None
    spikes = spike_frames(values_TV.mean(axis=1, dtype=np.float64))
    return {
        "n_frames": len(values_TV),
        "n_voxels_in_mask": int(values_TV.shape[1]),
        "mask_share": round(float(mask.mean()), 6),
        "tsnr_median": None if tsnr is None else round(tsnr, 4),
        "n_spikes": len(spikes),
        "spike_frames": spikes,
    }


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
    distance = np.abs(signal_T - np.median(signal_T))
    limit = _SPIKE_SD * _MAD_TO_SD * float(np.median(distance))
    return [int(index) for index in np.flatnonzero(distance > limit)]
