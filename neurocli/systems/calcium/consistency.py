"""Whether sessions agree: one session's embedding predicts another's at the same movie frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from neurocli.systems.calcium.decoding import r2_of, ridge

_PENALTY = 1.0
_LEAST = 8


def by_value(
    x: npt.NDArray[np.float32], value: npt.NDArray[np.int64], period: int
) -> npt.NDArray[np.float32]:
    """Return the mean embedding at each value (period, D); NaN where there is none.

    Args:
        x: Embeddings (n, D).
        value: Movie frame of each, -1 for none.
        period: Frames of the movie.
    """
    on = value >= 0
    total = np.zeros((period, x.shape[1]))
    np.add.at(total, value[on], x[on])
    count = np.bincount(value[on], minlength=period)[:, None].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / count).astype(np.float32)


def consistency(tables: Sequence[npt.NDArray[np.float32]]) -> tuple[float, float]:
    """Return how well linear maps between sessions predict, held out and in sample.

    Args:
        tables: (F, D) per session, NaN where a value is missing.

    Returns:
        Means of `pairwise`; NaN without two sessions or enough values.
    """
    held_out, in_sample = pairwise(tables)
    return mean_of(held_out), mean_of(in_sample)


def mean_of(scores: npt.NDArray[np.float64]) -> float:
    """Return the mean of what is defined, NaN where nothing is."""
    defined = scores[np.isfinite(scores)]
    return float(defined.mean()) if defined.size else float("nan")


def pairwise(
    tables: Sequence[npt.NDArray[np.float32]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return how well each session's embedding predicts each other's.

    A map is fitted on even values and scored (R2) on odd ones, for every ordered pair; in sample
    it is scored on the even ones.

    Args:
        tables: (F, D) per session, NaN where a value is missing.

    Returns:
        (S, S) held out and in sample, from the session of the row to that of the column; NaN on
        the diagonal and where two sessions share too few values.
    """
    held_out, in_sample = (np.full((len(tables), len(tables)), np.nan) for _ in range(2))
    for a, one in enumerate(tables):
        for b, other in enumerate(tables):
            both = np.isfinite(one).all(1) & np.isfinite(other).all(1)
            at = np.flatnonzero(both)
            even, odd = at[at % 2 == 0], at[at % 2 == 1]
            if a == b or min(len(even), len(odd)) < _LEAST:
                continue
            target = other.astype(np.float64)
            for places, scores in ((odd, held_out), (even, in_sample)):
                found = ridge(one[even], target[even], one[places], _PENALTY)
                scores[a, b] = r2_of(np.concatenate([target[places], found], axis=1))
    return held_out, in_sample
