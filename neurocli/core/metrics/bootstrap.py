"""Percentile intervals by resampling people, since people and not rows are independent.

All rows of a person are drawn together. The random words come straight from the PCG64 bit stream,
which numpy keeps fixed (its higher draws it does not), and people are sorted first: the same rows
in any order give the same interval on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurocli.core.errors import NeuroError

Columns = Mapping[str, NDArray[np.generic]]
Metric = Callable[[Columns], float]

MIN_PARTICIPANTS = 3
_MIN_DEFINED = 0.5  # share of resamples in which a metric must be defined
_PERCENTILES = (2.5, 97.5)


def bootstrap_ci(
    rows: Mapping[str, ArrayLike],
    metrics: Mapping[str, Metric],
    *,
    participants: Sequence[str] | None = None,
    n: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return 95 % percentile intervals of metrics by resampling participants with replacement.

    Args:
        rows: Columns by name, each with n_rows along its first axis.
        metrics: Functions by name; each takes the resampled columns and returns one number.
        participants: Owner of each row; None when every row is one participant.
        n: Number of resamples.
        seed: Seed of the draws, at least 0.

    Returns:
        name -> (low, high). A metric is absent with fewer than three participants, when it is
        undefined (NaN) on the rows themselves, or in more than half of the resamples; otherwise
        undefined resamples are left out.

    Raises:
        NeuroError: The columns differ in length, or `n` or `seed` is out of range.

    >>> import numpy as np
    >>> rows = {"error": np.arange(5.0)}
    >>> low, high = bootstrap_ci(rows, {"mean": lambda r: r["error"].mean()})["mean"]
    >>> bool(0 <= low < 2 < high <= 4)
    True
    """
    if n < 1 or seed < 0:
        raise NeuroError(f"n={n} and seed={seed}: n must be 1 or more, seed 0 or more")
    columns = {name: np.asarray(values) for name, values in rows.items()}
    owned = _rows_by_participant(columns, participants)
    if len(owned) < MIN_PARTICIPANTS:
        return {}
    ordered = {name: values[np.concatenate(owned)] for name, values in columns.items()}
    defined = {name: metric for name, metric in metrics.items() if np.isfinite(metric(ordered))}
    lengths = np.array([len(indices) for indices in owned])
    draws = _evaluate(ordered, lengths, defined, n=n, seed=seed)
    return {name: limits for name, values in draws.items() if (limits := _limits(values))}


def _rows_by_participant(
    columns: Columns, participants: Sequence[str] | None
) -> list[NDArray[np.intp]]:
    lengths = {name: len(values) for name, values in columns.items()}
    if participants is not None:
        lengths["participants"] = len(participants)
    if len(set(lengths.values())) > 1:
        raise NeuroError(f"columns of different lengths: {lengths}", where="bootstrap")
    n_rows = next(iter(lengths.values()), 0)
    if participants is None:
        return list(np.arange(n_rows)[:, None])
    owned: dict[str, list[int]] = {}
    for index, owner in enumerate(participants):
        owned.setdefault(owner, []).append(index)
    return [np.array(owned[owner], dtype=np.intp) for owner in sorted(owned)]


def _evaluate(
    columns: Columns,
    lengths: NDArray[np.int64],
    metrics: Mapping[str, Metric],
    *,
    n: int,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return metric name -> (n,) values over resamples."""
    starts = np.cumsum(lengths) - lengths
    stream = np.random.PCG64(seed)
    values = {name: np.empty(n) for name in metrics}
    for draw in range(n):
        people = (stream.random_raw(lengths.size) % lengths.size).astype(np.intp)
        taken = _ranges(starts[people], lengths[people])
        sample = {name: column[taken] for name, column in columns.items()}
        for name, metric in metrics.items():
            values[name][draw] = metric(sample)
    return values


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the runs start..start+length-1, one after another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _limits(values: NDArray[np.float64]) -> tuple[float, float] | None:
    finite = values[np.isfinite(values)]
    if finite.size < max(1.0, _MIN_DEFINED * values.size):
        return None
    low, high = np.percentile(finite, _PERCENTILES)
    return float(low), float(high)
