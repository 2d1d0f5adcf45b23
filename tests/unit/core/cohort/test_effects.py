"""Effect sizes against scipy, to twelve digits, and against formulas by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats.contingency import association

from neurocli.core.cohort.effects import (
    benjamini_hochberg,
    compare_levels,
    compare_numbers,
    hedges_factor,
    kolmogorov_smirnov,
)

DIGITS = 1e-12


def close(value: float | None, expected: float) -> None:
    assert value == pytest.approx(expected, rel=DIGITS, abs=1e-300)


def groups(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = []
    for index in range(n):
        one = rng.normal(rng.normal(), 1 + rng.random(), int(rng.integers(3, 200)))
        other = rng.normal(0, 1, int(rng.integers(3, 200)))
        made.append((np.round(one), np.round(other)) if index % 3 == 0 else (one, other))
    return made


def test_numbers_agree_with_scipy_on_200_tables() -> None:
    for one, other in groups(200):
        row = compare_numbers(one, other)
        welch, pooled = (stats.ttest_ind(one, other, equal_var=equal) for equal in (False, True))
        close(row["welch"]["t"], welch.statistic)
        close(row["welch"]["df"], welch.df)
        close(row["welch"]["p"], welch.pvalue)
        close(row["pooled"]["t"], pooled.statistic)
        close(row["pooled"]["p"], pooled.pvalue)
        n1, n0 = len(one), len(other)
        # The identity of d and t.
        close(row["d"] * math.sqrt(n1 * n0 / (n1 + n0)), pooled.statistic)
        close(row["variance_ratio"], one.var(ddof=1) / other.var(ddof=1))
        ks = stats.ks_2samp(one, other, method="asymp")
        close(row["ks"]["d"], ks.statistic)
        close(row["ks"]["p"], ks.pvalue)


def test_the_interval_of_g_inverts_the_noncentral_t() -> None:
    for one, other in groups(40):
        row = compare_numbers(one, other)
        df = len(one) + len(other) - 2
        scale = hedges_factor(df) * math.sqrt(1 / len(one) + 1 / len(other))
        tails = [stats.nct.cdf(row["pooled"]["t"], df, bound / scale) for bound in row["g_ci95"]]
        assert tails == pytest.approx([0.975, 0.025], abs=1e-8)
        assert row["g_ci95"][0] < row["g"] < row["g_ci95"][1]


def test_the_exact_factor_of_hedges() -> None:
    # Gamma(99) / (sqrt(99) Gamma(98.5)), by the duplication-free gamma of the standard library.
    expected = math.exp(math.lgamma(99) - math.lgamma(98.5)) / math.sqrt(99)
    assert hedges_factor(198) == pytest.approx(expected)
    assert round(hedges_factor(198), 7) == 0.9962065  # the usual 1 - 3 / (4 df - 1) is ...073
    assert math.isnan(hedges_factor(1))


def test_what_is_undefined_is_none() -> None:
    single = compare_numbers(np.array([1.0]), np.array([1.0, 2.0]))
    assert (single["d"], single["welch"]) == (None, None)
    flat = compare_numbers(np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    assert (flat["d"], flat["pooled"], flat["variance_ratio"]) == (None, None, None)
    assert compare_numbers(np.array([]), np.array([1.0]))["ks"] is None
    assert compare_levels([[3, 4], [0, 0]])["chi2"] is None
    assert compare_levels([[], []])["p"] is None


def test_levels_agree_with_scipy_on_200_tables() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        table = rng.integers(1, 40, (int(rng.integers(2, 5)), int(rng.integers(2, 5))))
        row = compare_levels(table.tolist())
        plain = stats.chi2_contingency(table, correction=False)
        close(row["chi2"], plain.statistic)
        close(row["p"], plain.pvalue)
        assert row["df"] == plain.dof
        close(row["cramers_v"], association(table))
        close(row["least_expected"], plain.expected_freq.min())
        if table.shape == (2, 2):
            yates = stats.chi2_contingency(table, correction=True)
            assert row["chi2_yates"] == pytest.approx(yates.statistic, rel=DIGITS, abs=1e-12)
            odds = stats.contingency.odds_ratio(table, kind="sample").statistic
            close(row["odds_ratio"], odds)


def test_bergsmas_correction_by_hand() -> None:
    table = np.array([[30, 10], [15, 25]])
    n, chi2 = 80, stats.chi2_contingency(table, correction=False).statistic
    phi2 = chi2 / n - 1 / (n - 1)
    least = 2 - 1 / (n - 1) - 1
    close(compare_levels(table.tolist())["cramers_v_corrected"], math.sqrt(phi2 / least))
    assert compare_levels([[10, 10], [10, 10]])["cramers_v_corrected"] == 0.0


def test_empty_cells_have_an_odds_ratio() -> None:
    # (3.5 * 4.5) / (0.5 * 2.5), one half added to each cell.
    close(compare_levels([[3, 0], [2, 4]])["odds_ratio"], 3.5 * 4.5 / (0.5 * 2.5))


def test_false_discovery_rates_agree_with_scipy() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        p = rng.random(int(rng.integers(1, 30))) ** 3
        np.testing.assert_allclose(
            benjamini_hochberg(p.tolist()), stats.false_discovery_control(p), rtol=1e-14
        )
    assert benjamini_hochberg([None, None]) == [None, None]


def test_weights_count_as_repeats() -> None:
    one, other = np.array([1.0, 2.0, 5.0]), np.array([0.0, 3.0])
    weighted = kolmogorov_smirnov(one, other, (np.array([1.0, 2.0, 1.0]), np.array([3.0, 1.0])))
    repeated = kolmogorov_smirnov(np.array([1.0, 2, 2, 5]), np.array([0.0, 0, 0, 3]))
    assert weighted["d"] == pytest.approx(repeated["d"])
    assert weighted["p"] is None


def test_a_very_large_cohort_has_an_interval() -> None:
    rng = np.random.default_rng(3)
    row = compare_numbers(rng.normal(0.01, 1, 100_000), rng.normal(0, 1, 300_000))
    half = 1.96 * math.sqrt(1 / 100_000 + 1 / 300_000)  # the normal limit
    assert row["g_ci95"] == pytest.approx([row["g"] - half, row["g"] + half], abs=1e-5)
