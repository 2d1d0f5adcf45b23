"""Decode movie frames by templates: what a window looks like at every frame, smoothed along it.

The template of a frame is the mean of the fitted windows around it, weighted by a Gaussian. A
window is taken for the frame whose template is nearest, in units of how windows scatter about
theirs (linear discriminants). Where few presentations teach many neurons this asks for far less
than neighbours do, and plain features profit most: a comparison must grant it to them.

Letters: n windows, D features, F frames of the movie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
WIDTHS_S = (0.15, 0.4, 2 / 3, 1.0)
SHRINKAGE = (0.1, 0.3, 1.0)
_MOST_JOINT = 256  # features whose covariance is worth its time
_FLOOR = 1e-6  # of the mean variance


def template_frames(
    fit: tuple[npt.NDArray[np.float32], npt.NDArray[Any]],
    asked: Sequence[npt.NDArray[np.float32]],
    period: int,
    settings: Sequence[tuple[float, float]],
) -> Iterator[list[Float]]:
    """Yield the frames (m,) that each set of windows is taken for, once per setting.

    Args:
        fit: Windows (n, D) and the frame of each (n,).
        asked: Sets of windows (m, D).
        period: F; the movie is taken as a circle.
        settings: Width of the Gaussian in frames, and the share of the covariance between features
            that is left out: 1 keeps their variances alone.
    """
    x, frame = fit[0].astype(np.float64), fit[1].astype(np.int64)
    known: dict[float, tuple[Float, Float]] = {}
    for width, shrinkage in settings:
        if width not in known:
            mean = templates(x, frame, period, width)
            known[width] = mean, _scatter(x - mean[frame])
        mean, scatter = known[width]
        variance = scatter if scatter.ndim == 1 else np.diag(scatter)
        floor = _FLOOR * variance.mean() + np.finfo(np.float64).tiny
        if scatter.ndim == 1 or shrinkage == 1:
            axes: Float = 1 / np.sqrt(variance + floor)
            yield [_nearest(mean * axes, own * axes) for own in asked]
            continue
        mixed = (1 - shrinkage) * scatter
        np.fill_diagonal(mixed, variance + floor)
        axes = np.linalg.inv(np.linalg.cholesky(mixed)).T
        yield [_nearest(mean @ axes, own @ axes) for own in asked]


def templates(x: Float, frame: npt.NDArray[np.int64], period: int, width: float) -> Float:
    """Return the template of every frame (F, D); NaN where no window is near.

    Args:
        x: Windows (n, D).
        frame: Of each (n,).
        period: F.
        width: Standard deviation of the Gaussian, in frames.
    """
    from scipy.ndimage import gaussian_filter1d

    total = np.zeros((period, x.shape[1]))
    np.add.at(total, frame, x)
    count = np.bincount(frame, minlength=period).astype(np.float64)
    near = gaussian_filter1d(count, width, mode="wrap")
    mean: Float = gaussian_filter1d(total, width, axis=0, mode="wrap")
    mean /= np.where(near > 0, near, np.nan)[:, None]
    return mean


def _scatter(rest: Float) -> Float:
    """Return the covariance (D, D) of what templates leave, or the variances (D,) of many."""
    if rest.shape[1] > _MOST_JOINT:
        alone: Float = np.square(rest).mean(0)
        return alone
    found: Float = rest.T @ rest / len(rest)
    return found


def _nearest(mean: Float, x: Float) -> Float:
    length = np.square(mean).sum(1)
    score = 2 * x @ np.nan_to_num(mean).T - np.where(np.isfinite(length), length, np.inf)
    found: Float = score.argmax(1).astype(np.float64)
    return found
