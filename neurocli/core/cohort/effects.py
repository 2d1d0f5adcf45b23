"""Say how far two groups of people are apart: effect sizes with tests and intervals.

Means: Cohen's d divides by the pooled standard deviation, Hedges' g takes its bias away with the
exact gamma factor, and the interval of g inverts the noncentral t distribution. Counts: chi-square
without continuity correction, Cramer's V, and V with Bergsma's (2013) bias correction.
Probabilities come from scipy; nothing is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Row = dict[str, Any]
_LEVEL = 0.95


def compare_numbers(one: Floats, other: Floats) -> Row:
    """Compare two groups of numbers.

    Args:
        one: Values of the first group, none missing.
        other: Values of the second.

    Returns:
        `d` and `g` (first minus second), `g_ci95`, `welch` and `pooled` (t, df, p),
        `variance_ratio`, `ks` (d, p). What is undefined, such as the spread of one value, is None.
    """
    n1, n0 = len(one), len(other)
    row: Row = dict.fromkeys(("d", "g", "g_ci95", "welch", "pooled", "variance_ratio", "ks"))
    if min(n1, n0) < 1:
        return row
    row["ks"] = kolmogorov_smirnov(one, other)
    if min(n1, n0) < 2:
        return row
    difference = float(one.mean() - other.mean())
    v1, v0 = float(one.var(ddof=1)), float(other.var(ddof=1))
    df = n1 + n0 - 2
    pooled = ((n1 - 1) * v1 + (n0 - 1) * v0) / df
    row["variance_ratio"] = v1 / v0 if v0 > 0 else None
    if pooled <= 0:
        return row
    t = difference / math.sqrt(pooled * (1 / n1 + 1 / n0))
    row["pooled"] = _t_test(t, df)
    e1, e0 = v1 / n1, v0 / n0
    parts = e1**2 / (n1 - 1) + e0**2 / (n0 - 1)
    row["welch"] = _t_test(difference / math.sqrt(e1 + e0), (e1 + e0) ** 2 / parts)
    d = difference / math.sqrt(pooled)
    factor = hedges_factor(df)
    row["d"], row["g"] = d, factor * d
    scale = math.sqrt(1 / n1 + 1 / n0)
    row["g_ci95"] = [factor * scale * bound for bound in _noncentrality(t, df)]
    return row


def hedges_factor(df: int) -> float:
    """Return what turns d into the unbiased g: Gamma(df/2) / (sqrt(df/2) Gamma((df-1)/2)).

    >>> round(hedges_factor(198), 7)
    0.9962065

    Args:
        df: Degrees of freedom of the pooled variance; below 2 there is no such factor.
    """
    if df < 2:
        return math.nan
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def _t_test(t: float, df: float) -> Row:
    from scipy.special import stdtr

    return {"t": t, "df": df, "p": float(2 * stdtr(df, -abs(t)))}


def _noncentrality(t: float, df: int) -> list[float]:
    """Return the noncentralities under which t is just in the upper and in the lower tail."""
    from scipy.optimize import brentq
    from scipy.special import nctdtr

    tail = (1 - _LEVEL) / 2
    # The spread of t around its noncentrality is about sqrt(1 + t^2 / 2 df).
    reach = 6 * math.sqrt(1 + t * t / (2 * df)) + 1

    def bound(p: float) -> float:
        def gap(nc: float) -> float:
            # Mirrored where t is negative: the library is exact for positive values only.
            value = nctdtr(df, nc, t) if t >= 0 else 1 - nctdtr(df, -nc, -t)
            return float(value) - p

        return float(brentq(gap, t - reach, t + reach, xtol=1e-12))

    try:
        return [bound(1 - tail), bound(tail)]
    except ValueError:  # beyond the library's range, where the normal limit is exact to its digits
        half = 1.959963984540054 * math.sqrt(1 + t * t / (2 * df))
        return [t - half, t + half]


def kolmogorov_smirnov(
    one: Floats, other: Floats, weights: tuple[Floats, Floats] | None = None
) -> Row:
    """Return the largest distance between two distribution functions, and its p value.

    Args:
        one: Values of the first group.
        other: Values of the second.
        weights: Weight of each value; None weighs all alike. There is no p value with weights.
    """
    from scipy.stats import kstwo

    places = np.unique(np.concatenate([one, other]))
    curves = []
    for index, values in enumerate((one, other)):
        order = np.argsort(values, kind="stable")
        weight = np.ones(len(values)) if weights is None else weights[index]
        summed = np.concatenate([[0.0], np.cumsum(weight[order])])
        curves.append(summed[np.searchsorted(values[order], places, side="right")] / summed[-1])
    d = float(np.abs(curves[0] - curves[1]).max())
    if weights is not None:
        return {"d": d, "p": None}
    effective = len(one) * len(other) / (len(one) + len(other))
    return {"d": d, "p": float(np.clip(kstwo.sf(d, np.round(effective)), 0, 1))}


def compare_levels(counts: Sequence[Sequence[int]]) -> Row:
    """Compare groups by how often each level occurs.

    Args:
        counts: One row per group, one column per level; empty rows and columns count for nothing.

    Returns:
        `chi2`, `df`, `p`, `cramers_v`, `cramers_v_corrected`, `least_expected`, and for two by two
        `chi2_yates`, `p_yates`, `odds_ratio` (with 1/2 added to each cell when one is empty).
        None where there is no table of two by two at least.
    """
    from scipy.special import chdtrc

    table = np.asarray(counts, dtype=np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0] if table.size else table
    names = ("chi2", "df", "p", "cramers_v", "cramers_v_corrected", "least_expected")
    if table.ndim != 2 or min(table.shape) < 2:
        return dict.fromkeys(names)
    n = table.sum()
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / n
    r, c = table.shape
    df = (r - 1) * (c - 1)
    chi2 = float(((table - expected) ** 2 / expected).sum())
    row: Row = {"chi2": chi2, "df": df, "p": float(chdtrc(df, chi2))}
    row["cramers_v"] = math.sqrt(chi2 / (n * (min(r, c) - 1)))
    row["cramers_v_corrected"] = _bergsma(chi2, float(n), r, c)
    row["least_expected"] = float(expected.min())
    if df == 1:
        gap = np.maximum(np.abs(table - expected) - np.minimum(0.5, np.abs(table - expected)), 0)
        yates = float((gap**2 / expected).sum())
        cells = table + 0.5 if (table == 0).any() else table
        row |= {"chi2_yates": yates, "p_yates": float(chdtrc(1, yates))}
        row["odds_ratio"] = float(cells[0, 0] * cells[1, 1] / (cells[0, 1] * cells[1, 0]))
    return row


def _bergsma(chi2: float, n: float, r: int, c: int) -> float | None:
    if n <= 1:
        return None
    phi2 = max(0.0, chi2 / n - (r - 1) * (c - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    least = min(rows, columns) - 1
    return math.sqrt(phi2 / least) if least > 0 else None


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the false-discovery rates at which each p value would be called.

    Args:
        p_values: None where there was no test; such entries count for nothing.

    >>> benjamini_hochberg([0.01, None, 0.04, 0.03])
    [0.03, None, 0.04, 0.04]
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    least = 1.0
    for rank in range(len(known), 0, -1):
        p, index = known[rank - 1]
        least = min(least, p * len(known) / rank)
        found[index] = least
    return found
