"""Paired tests between models over the same cases, corrected for their number."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import NeuroError

_FEWEST = 3
WILCOXON, MCNEMAR = "wilcoxon", "mcnemar"


@dataclass(frozen=True)
class PairedTest:
    """Hold the test of one pair.

    Args:
        first: Name of one model.
        second: Name of the other.
        test: wilcoxon (signed ranks), or mcnemar (exact) where every score is right or wrong.
        n: Cases in which both are defined.
        median_difference: Of first minus second.
        p: Two-sided, uncorrected; NaN with fewer than three cases or no difference in any.
        p_holm: Corrected for all pairs by Holm's step-down.
    """

    first: str
    second: str
    test: str
    n: int
    median_difference: float
    p: float
    p_holm: float


def paired_tests(scores: Mapping[str, npt.ArrayLike]) -> list[PairedTest]:
    """Test every pair of models over the cases.

    Scores of 0 and 1 have ties only, of which signed ranks give no exact level: there McNemar's
    test in its exact form asks whether either model is right alone more often than the other.

    Args:
        scores: Model -> (n,) values of the same cases in the same order; NaN where undefined.

    Returns:
        One test per pair, in the order of the models.

    Raises:
        NeuroError: The models have different numbers of cases.
    """
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    if len({len(values) for values in columns.values()}) > 1:
        lengths = {name: len(values) for name, values in columns.items()}
        raise NeuroError(f"models with different numbers of cases: {lengths}")
    pairs = list(itertools.combinations(columns, 2))
    found, tests = [], []
    for pair in pairs:
        both = np.stack([columns[name] for name in pair])
        both = both[:, np.isfinite(both).all(0)]
        found.append(both[0] - both[1])
        tests.append(MCNEMAR if np.isin(both, (0, 1)).all() else WILCOXON)
    raw = [_TESTS[test](each) for test, each in zip(tests, found, strict=True)]
    return [
        PairedTest(
            *pair, test, len(each), float(np.median(each)) if len(each) else np.nan, p, corrected
        )
        for pair, test, each, p, corrected in zip(pairs, tests, found, raw, holm(raw), strict=True)
    ]


def _signed_ranks(difference: npt.NDArray[np.float64]) -> float:
    if len(difference) < _FEWEST or not difference.any():
        return float("nan")
    from scipy.stats import wilcoxon

    return float(wilcoxon(difference).pvalue)


def _exact(difference: npt.NDArray[np.float64]) -> float:
    if len(difference) < _FEWEST or not difference.any():
        return float("nan")
    from scipy.stats import binomtest

    return float(binomtest(int((difference > 0).sum()), int(np.count_nonzero(difference))).pvalue)


_TESTS = {WILCOXON: _signed_ranks, MCNEMAR: _exact}


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down; undefined ones take no part.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(len(values), np.nan)
    order = [index for index in np.argsort(values) if np.isfinite(values[index])]
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * float(values[index])))
        corrected[index] = largest
    return [float(value) for value in corrected]
