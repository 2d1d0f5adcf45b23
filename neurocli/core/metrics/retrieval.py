"""Retrieval over a whole cohort: where each query's own key stands among all keys.

Keys that are equal are ties by construction, and are never told apart by the order in which they
happen to lie: they are scored once, and a tie counts as what random order would give on average.
So a perfect predictor of a gene with six distinct vectors reaches R@1 = 6/N and no more.

Letters: N queries and keys, C classes of equal keys, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, ndtr

from neurocli.core.errors import NeuroError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
TOP = (1, 5, 10)
CHUNK = 4096
_DRAWN = 50  # random pairings at a time


@dataclass(frozen=True)
class Scorer:
    """Score queries against keys by inner products in float64.

    Args:
        queries: (N, F).
        keys: (N, F); key i belongs to query i.
        classes: (N,) equal keys have equal numbers; None finds equal rows.
    """

    queries: Float64
    keys: Float64
    classes: npt.NDArray[np.integer[Any]] | None = None

    def grouped(self) -> tuple[Float64, Int64, Int64]:
        """Return keys (C, F) of the classes, the class of each query, and the classes' sizes."""
        labels = equal_rows(self.keys) if self.classes is None else self.classes
        _, first, own, counts = np.unique(
            labels, return_index=True, return_inverse=True, return_counts=True
        )
        return self.keys[first], own.reshape(-1), counts


def equal_rows(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return (N,) numbers that are equal where rows are, bit by bit: a 64-bit hash of each.

    Args:
        rows: (N, ...) of any type.
    """
    raw = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    raw = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 8)))
    words = raw.view(np.uint64)
    odd = np.random.PCG64(words.shape[1]).random_raw(words.shape[1]) | np.uint64(1)
    mixed = (words ^ (words >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray(((mixed ^ (mixed >> np.uint64(32))) * odd).sum(1, dtype=np.uint64))


@dataclass(frozen=True)
class Ranks:
    """Hold where own keys stand.

    Args:
        above: (N,) keys that score higher.
        ties: (N,) other keys that score the same.
        n_keys: N.
        n_classes: Distinct keys.
    """

    above: Int64
    ties: Int64
    n_keys: int
    n_classes: int

    @property
    def mid(self) -> Float64:
        """Return (N,) ranks from 1, ties at their middle."""
        return self.above + 1 + self.ties / 2

    def columns(self) -> dict[str, Float64]:
        """Return what the metrics are means of, one value per query."""
        reciprocal = digamma(self.above + self.ties + 2.0) - digamma(self.above + 1.0)
        found = {f"r_at_{k}": np.clip((k - self.above) / (self.ties + 1.0), 0.0, 1.0) for k in TOP}
        percentile = 1 - (self.mid - 1) / max(self.n_keys - 1, 1)
        return {
            **found,
            "rank": self.mid,
            "mrr": reciprocal / (self.ties + 1.0),
            "percentile": percentile,
        }

    @property
    def ceiling_r_at_1(self) -> float:
        """Return the highest R@1 that ties allow: distinct keys over all keys."""
        return self.n_classes / self.n_keys


def rank_own_keys(
    scorer: Scorer,
    *,
    chunk: int = CHUNK,
    allowed: npt.NDArray[np.integer[Any]] | None = None,
) -> Ranks:
    """Return where each query's own key stands among all keys.

    Memory is O(chunk N), and the result does not depend on the chunk.

    Args:
        scorer: Queries and keys.
        chunk: Queries scored at once.
        allowed: (N,) strata; a query is compared with keys of its own stratum only. None compares
            with all.

    Returns:
        Ranks; with strata, `n_keys` still counts all keys.

    Raises:
        NeuroError: Queries and keys differ in number, or a score is not finite.
    """
    n = len(scorer.queries)
    if n != len(scorer.keys) or n == 0:
        raise NeuroError(f"{n} queries and {len(scorer.keys)} keys make no pairs", where="ranks")
    keys, own, counts = scorer.grouped()
    above, ties = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    weights = counts.astype(np.float64)
    table = None
    if allowed is not None:
        strata, place = np.unique(allowed, return_inverse=True)
        table = np.zeros((len(strata), len(keys)))
        np.add.at(table, (place.reshape(-1), own), 1.0)
    for first in range(0, n, chunk):
        rows = slice(first, min(first + chunk, n))
        scores = scorer.queries[rows] @ keys.T
        if not np.isfinite(scores).all():
            raise NeuroError("a similarity is not finite", where="ranks")
        mine = np.take_along_axis(scores, own[rows, None], axis=1)
        if table is None:
            above[rows] = (scores > mine) @ weights
            ties[rows] = (scores == mine) @ weights - 1
        else:
            within = table[place.reshape(-1)[rows]]
            above[rows] = ((scores > mine) * within).sum(1)
            ties[rows] = ((scores == mine) * within).sum(1) - 1
    return Ranks(above, ties, n, len(keys))


def retrieval_metrics(columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Return the metrics of columns that `Ranks.columns` gave, also resampled ones.

    Args:
        columns: One value per query by name.
    """
    found = {f"r_at_{k}": float(columns[f"r_at_{k}"].mean()) for k in TOP}
    return {
        **found,
        "median_rank": float(np.median(columns["rank"])),
        "mean_rank": float(columns["rank"].mean()),
        "mrr": float(columns["mrr"].mean()),
        "percentile": float(columns["percentile"].mean()),
    }


def random_order_metrics(n: int) -> dict[str, float]:
    """Return what random order gives on average among n keys.

    >>> random_order_metrics(4)["mrr"]
    0.5208333333333334
    """
    return {
        **{f"r_at_{k}": min(k / n, 1.0) for k in TOP},
        "median_rank": (n + 1) / 2,
        "mean_rank": (n + 1) / 2,
        "mrr": float(np.mean(1 / np.arange(1, n + 1))),
        "percentile": 0.5,
    }


@dataclass(frozen=True)
class NullTest:
    """Hold how far the mean rank of own keys lies from that of random pairings.

    Args:
        z: Distance in standard deviations; positive is better than chance.
        p_value: One-sided; the null's mean and variance are exact (Hoeffding 1951), its tail
            is taken as normal.
        p_permutation: (1 + pairings as good) / (1 + pairings drawn); NaN when none were drawn.
        n: People compared.
    """

    z: float
    p_value: float
    p_permutation: float
    n: int


def null_test(
    forward: Scorer, backward: Scorer, *, n_permutations: int = 0, seed: int = 0
) -> NullTest:
    """Test whether own pairs stand closer than random pairings do, both ways at once.

    The statistic is the mean over pairs of the mean of both ranks; under the null every pairing
    is as likely. With d the twice centred matrix of ranks, its variance is
    sum d^2 / (N^2 (N-1)).

    Args:
        forward: First kind as queries.
        backward: Second kind as queries.
        n_permutations: Random pairings to draw besides.
        seed: Of these.

    Returns:
        The test; p = 1 where all ranks are equal.
    """
    ranks = _rank_table(forward)
    ranks += _rank_table(backward).T
    ranks /= 2
    n = len(ranks)
    statistic = float(np.trace(ranks)) / n
    mean = float(ranks.mean())
    centred = ranks - ranks.mean(0) - ranks.mean(1, keepdims=True) + mean
    spread = float(np.sqrt((centred**2).sum() / (n - 1)) / n) if n > 1 else 0.0
    z = (mean - statistic) / spread if spread > 0 else 0.0
    p_permutation = float("nan")
    if n_permutations:
        hits = sum(_pairings_as_good(ranks, statistic, n_permutations, seed))
        p_permutation = (1 + int(hits)) / (1 + n_permutations)
    return NullTest(z, float(ndtr(-z)) if spread > 0 else 1.0, p_permutation, n)


def _pairings_as_good(ranks: Float64, statistic: float, n_drawn: int, seed: int) -> Iterator[int]:
    """Yield how many random pairings, of some at a time, reach the statistic."""
    rng, n = np.random.PCG64(seed), len(ranks)
    rows = np.arange(n)
    for first in range(0, n_drawn, _DRAWN):
        size = min(_DRAWN, n_drawn - first)
        pairings = np.argsort(rng.random_raw(size * n).reshape(size, n), axis=1)
        yield int((ranks[rows, pairings].mean(1) <= statistic).sum())


def _rank_table(scorer: Scorer) -> Float64:
    """Return (N, N) ranks of all keys for every query, 1 is best, ties at their middle."""
    keys, own, _ = scorer.grouped()
    lost = -(scorer.queries @ keys.T)[:, own]
    order = np.argsort(lost, axis=1)
    ordered = np.take_along_axis(lost, order, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        from scipy.stats import rankdata  # a second's import, for tables with ties alone

        return np.asarray(rankdata(lost, axis=1), dtype=np.float64)
    # Without ties, which is the common case, places are ranks, at a third of the time.
    ranks = np.empty_like(lost)
    np.put_along_axis(ranks, order, np.arange(1.0, lost.shape[1] + 1)[None, :], axis=1)
    return ranks


def benjamini_hochberg(p_values: Sequence[float] | Float64) -> Float64:
    """Return the false discovery rate at which each test would count as found.

    Args:
        p_values: (K,).

    Returns:
        (K,) q values, monotone in p, at most 1.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    found = np.empty_like(p)
    found[order] = q
    return found
