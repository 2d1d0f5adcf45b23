"""Measures of regression against scikit-learn, scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from neurocli.core.errors import NeuroError
from neurocli.core.metrics.regression import mae, mse, pearson, r2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_equal_to_scikit_learn_and_scipy(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(size=50) + offset
    guess = true + rng.normal(size=50)
    assert mse(true, guess) == pytest.approx(oracle.mean_squared_error(true, guess), rel=1e-12)
    assert mae(true, guess) == pytest.approx(oracle.mean_absolute_error(true, guess), rel=1e-12)
    assert r2(true, guess) == pytest.approx(oracle.r2_score(true, guess), rel=1e-9)
    assert pearson(true, guess) == pytest.approx(stats.pearsonr(true, guess)[0], rel=1e-9)


def test_predicting_the_mean_explains_nothing() -> None:
    true = np.array([1.0, 2.0, 6.0])
    assert r2(true, np.full(3, 3.0)) == 0.0
    assert r2(true, true) == 1.0
    assert r2(true, -true) < 0


def test_pearson_is_free_of_unit_and_bounded() -> None:
    true = np.linspace(0, 1, 30)
    assert pearson(true, -3 * true + 7) == pytest.approx(-1.0)
    assert pearson(true, 1e200 * true) == pytest.approx(1.0)
    assert pearson(true, 1e-200 * true) == pytest.approx(1.0)
    assert -1.0 <= pearson(true, true * (1 + 1e-16)) <= 1.0


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9 + 0.1])
def test_constant_values_have_no_share_of_variance(constant: float) -> None:
    # Three times 0.1 has a mean that differs from 0.1, so a tested variance would not be zero.
    flat, varied = np.full(3, constant), np.array([1.0, 2.0, 3.0])
    assert math.isnan(r2(flat, varied))
    assert math.isnan(pearson(flat, varied))
    assert math.isnan(pearson(varied, flat))
    assert r2(varied, flat) < 0 or constant == 2.0


def test_too_few_rows_are_nan() -> None:
    assert all(math.isnan(measure([], [])) for measure in (mse, mae, r2, pearson))
    assert mse([1.0], [3.0]) == 4.0
    assert math.isnan(r2([1.0], [3.0]))
    assert math.isnan(pearson([1.0], [3.0]))


def test_nan_is_handed_on() -> None:
    assert math.isnan(mse([1.0, math.nan], [1.0, 2.0]))
    assert math.isnan(r2([1.0, math.nan], [1.0, 2.0]))


def test_float32_input_is_summed_in_float64() -> None:
    true = np.full(100_000, 0.1, np.float32)
    expected = (float(np.float32(0.1)) - 1.0) ** 2
    assert mse(true, np.ones(100_000, np.float32)) == pytest.approx(expected, rel=1e-12)


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(NeuroError, match=r"\(2,\), prediction \(2, 1\)"):
        mse([1.0, 2.0], [[1.0], [2.0]])
    with pytest.raises(NeuroError, match="truth has shape"):
        pearson([1.0], [1.0, 2.0])
