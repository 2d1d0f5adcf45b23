"""Measures of regression as pure functions over arrays, computed in float64.

A value that the data cannot define (no rows, no variance) is NaN: a constant truth has no share
of variance to explain, and saying 0 or 1 there would enter averages as if it had been measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurocli.core.errors import NeuroError

_NAN = float("nan")


def mse(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean squared error.

    Args:
        truth: (n,) values.
        predicted: (n,) values, same unit.

    Returns:
        Mean square in the squared unit; NaN without rows.

    Raises:
        NeuroError: The arrays differ in length or have more than one axis.

    >>> mse([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    true, guess = _pair(truth, predicted)
    return float(np.mean((true - guess) ** 2)) if true.size else _NAN


def mae(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean absolute error.

    Args:
        truth: (n,) values.
        predicted: (n,) values, same unit.

    Returns:
        Mean absolute difference in the unit of the values; NaN without rows.

    Raises:
        NeuroError: The arrays differ in length or have more than one axis.

    >>> mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    true, guess = _pair(truth, predicted)
    return float(np.mean(np.abs(true - guess))) if true.size else _NAN


def r2(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the coefficient of determination, 1 - SSE / SST.

    The mean of the same rows is the baseline, so the value is negative for a worse prediction.

    Args:
        truth: (n,) values.
        predicted: (n,) values, same unit.

    Returns:
        Value in (-inf, 1]; NaN for fewer than two rows or a constant truth.

    Raises:
        NeuroError: The arrays differ in length or have more than one axis.

    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    true, guess = _pair(truth, predicted)
    if not _varies(true):
        return _NAN
    return float(1.0 - np.sum((true - guess) ** 2) / np.sum((true - true.mean()) ** 2))


def pearson(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return Pearson's correlation.

    Args:
        truth: (n,) values.
        predicted: (n,) values; the unit may differ.

    Returns:
        Correlation in [-1, 1]; NaN for fewer than two rows or when either side is constant.

    Raises:
        NeuroError: The arrays differ in length or have more than one axis.

    >>> pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    1.0
    """
    true, guess = _pair(truth, predicted)
    if not _varies(true) or not _varies(guess):
        return _NAN
    x, y = true - true.mean(), guess - guess.mean()
    # Scaling by the largest deviation first keeps squares of huge or tiny values finite.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y)), -1.0, 1.0))


def _varies(values: NDArray[np.float64]) -> bool:
    # The mean of equal floats need not equal them, so a variance of rounding errors is no test.
    return values.size >= 2 and bool(values.max() > values.min())


def _pair(
    truth: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    true = np.asarray(truth, dtype=np.float64)
    guess = np.asarray(predicted, dtype=np.float64)
    if true.ndim != 1 or true.shape != guess.shape:
        raise NeuroError(
            f"truth has shape {true.shape}, prediction {guess.shape}",
            where="regression",
            hint="give two arrays of shape (n,)",
        )
    return true, guess
