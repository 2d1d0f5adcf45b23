"""The propensity score against scikit-learn, a direct maximiser, and recorded coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from neurocli.core.cohort.propensity import UNITS, propensity
from neurocli.core.errors import UsageError


def cohort(n: int = 800, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(n, 4)) * [1, 100, 0.01, 5] + [0, 5000, 3, -8]
    wish = design @ [0.5, 0.004, 30, -0.1] - 111
    return design, rng.random(n) < 1 / (1 + np.exp(-wish))


def test_the_fit_is_the_unpenalised_one() -> None:
    design, treated = cohort()
    score = propensity(design, treated)
    # scikit-learn on standardised columns, turned back into the columns' units.
    mean, sd = design.mean(axis=0), design.std(axis=0)
    peer = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    peer.fit((design - mean) / sd, treated)
    expected = peer.coef_[0] / sd
    assert score.coefficients[1:] == pytest.approx(expected, rel=1e-6)
    logit = peer.decision_function((design - mean) / sd)
    np.testing.assert_allclose(score.logit_S, logit, atol=1e-6)
    assert score.position_S.dtype == np.int64
    assert not score.is_penalised
    assert score.dropped == []


def test_units_and_order_of_columns_do_not_matter() -> None:
    design, treated = cohort()
    plain = propensity(design, treated).logit_S
    changed = propensity(design[:, ::-1] * [1e-3, 7, 1e4, 2] + 5, treated).logit_S
    np.testing.assert_allclose(plain, changed, atol=1e-6)


def test_last_bits_of_the_data_order_decide_nothing() -> None:
    design, treated = cohort(5000)
    order = np.random.default_rng(1).permutation(len(treated))
    shuffled = propensity(design[order], treated[order]).position_S
    assert (shuffled == propensity(design, treated).position_S[order]).all()


def test_columns_that_say_nothing_are_dropped_by_name() -> None:
    design, treated = cohort()
    wide = np.column_stack([design, np.ones(len(design)), design[:, 0] + design[:, 1]])
    score = propensity(wide, treated)
    assert score.dropped == [4, 5]
    assert [score.coefficients[1 + index] for index in score.dropped] == [0.0, 0.0]
    np.testing.assert_allclose(score.logit_S, propensity(design, treated).logit_S, atol=1e-6)


def test_separated_classes_take_firths_fit() -> None:
    rng = np.random.default_rng(2)
    design = rng.normal(size=(60, 2))
    treated = design[:, 0] > 0
    score = propensity(design, treated)
    assert score.is_penalised

    def loss(beta: np.ndarray) -> float:
        # Firth 1993: log likelihood plus half the log determinant of the information.
        x = np.column_stack([np.ones(60), design])
        eta = x @ beta
        p = 1 / (1 + np.exp(-eta))
        likelihood = (treated * eta - np.logaddexp(0, eta)).sum()
        return -(likelihood + 0.5 * np.linalg.slogdet(x.T @ (x * (p * (1 - p))[:, None]))[1])

    strict = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 10_000}
    best = minimize(loss, np.zeros(3), method="Nelder-Mead", options=strict)
    assert score.coefficients == pytest.approx(best.x, rel=1e-4)


def test_positions_are_logits_in_fixed_units() -> None:
    design, treated = cohort()
    score = propensity(design, treated)
    np.testing.assert_allclose(score.position_S / UNITS, score.logit_S)
    np.testing.assert_allclose(score.probability_S.mean(), treated.mean(), atol=1e-6)


@pytest.mark.parametrize("treated", [np.zeros(9, bool), np.ones(9, bool)])
def test_one_class_is_refused(treated: np.ndarray) -> None:
    with pytest.raises(UsageError, match="nobody to compare with"):
        propensity(np.arange(9.0)[:, None], treated)


def test_no_variation_is_refused() -> None:
    with pytest.raises(UsageError, match="no covariate varies"):
        propensity(np.ones((4, 1)), np.array([True, False, True, False]))
