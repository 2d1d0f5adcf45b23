"""Whether sessions agree: one session's embedding predicts another's at the same movie frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.systems.calcium.decoding import r2_of, ridge

Float = npt.NDArray[np.float64]
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
    for a, b in permutations(range(len(tables)), 2):
        waves = _waves(tables[a], tables[b])
        if waves is not None:
            held_out[a, b], in_sample[a, b] = (r2_of(wave) for _, wave in waves)
    return held_out, in_sample


def consistency_interval(
    tables: Sequence[npt.NDArray[np.float32]], block: int, n: int
) -> tuple[float, float] | None:
    """Return the 95 % interval of the held-out figure; None where there is none.

    Blocks of neighbouring values are drawn with replacement, the same in all pairs of sessions,
    since they saw the same; the maps are not fitted again.

    Args:
        tables: As of `consistency`.
        block: Values of a block.
        n: Resamples.
    """
    waves = [_waves(one, other) for one, other in permutations(tables, 2)]
    held_out = [pair[0] for pair in waves if pair is not None]
    if not held_out:
        return None
    columns = {
        "row": np.concatenate([np.arange(len(at)) for at, _ in held_out]),
        "pair": np.concatenate([np.full(len(at), i) for i, (at, _) in enumerate(held_out)]),
    }
    blocks = [f"{value // block:09d}" for at, _ in held_out for value in at]

    # Sessions may differ in width, so rows are looked up and not stacked.
    def mean_r2(drawn: Mapping[str, npt.NDArray[Any]]) -> float:
        scores = [
            r2_of(wave[drawn["row"][drawn["pair"] == i]]) for i, (_, wave) in enumerate(held_out)
        ]
        return float(np.mean(scores))

    return bootstrap_ci(columns, {"r2": mean_r2}, participants=blocks, n=n).get("r2")


def _waves(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> list[tuple[npt.NDArray[np.int64], Float]] | None:
    """Return values, and targets beside predictions there: held out, and in sample."""
    at = np.flatnonzero(np.isfinite(one).all(1) & np.isfinite(other).all(1))
    even, odd = at[at % 2 == 0], at[at % 2 == 1]
    if min(len(even), len(odd)) < _LEAST:
        return None
    target = other.astype(np.float64)
    return [
        (
            places,
            np.concatenate(
                [target[places], ridge(one[even], target[even], one[places], _PENALTY)], axis=1
            ),
        )
        for places in (odd, even)
    ]
