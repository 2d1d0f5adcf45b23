"""Measures of classification against scikit-learn and against definitions written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from neurocli.core.errors import NeuroError
from neurocli.core.metrics.classification import (
    accuracy,
    auroc,
    balanced_accuracy,
    confusion_matrix,
)


def labels(seed: int, n: int = 60, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, n_classes, n), rng.integers(0, n_classes, n)


@pytest.mark.parametrize("seed", range(8))
def test_label_measures_equal_scikit_learn(seed: int) -> None:
    true, guess = labels(seed)
    assert accuracy(true, guess) == pytest.approx(oracle.accuracy_score(true, guess), abs=1e-15)
    assert balanced_accuracy(true, guess) == pytest.approx(
        oracle.balanced_accuracy_score(true, guess), abs=1e-15
    )
    assert np.array_equal(confusion_matrix(true, guess), oracle.confusion_matrix(true, guess))


def test_balanced_accuracy_of_a_constant_guess_is_chance() -> None:
    true = [0] * 90 + [1] * 7 + [2] * 3
    assert balanced_accuracy(true, [0] * 100) == pytest.approx(1 / 3)
    assert accuracy(true, [0] * 100) == 0.9


def test_classes_that_only_the_guess_knows_do_not_count() -> None:
    assert balanced_accuracy([0, 0, 2, 2], [0, 5, 2, 2]) == 0.75


def test_confusion_matrix_keeps_rows_for_classes_that_do_not_occur() -> None:
    counts = confusion_matrix([0, 0, 2], [0, 2, 2], n_classes=4)
    assert counts.tolist() == [[1, 0, 1, 0], [0] * 4, [0, 0, 1, 0], [0] * 4]
    assert counts.dtype == np.int64
    assert confusion_matrix([], []).shape == (0, 0)


@pytest.mark.parametrize("seed", range(10))
def test_binary_auroc_equals_scikit_learn_with_and_without_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.r_[0, 1, rng.integers(0, 2, 50)]
    for score in (rng.normal(size=52), rng.integers(0, 4, 52).astype(float), np.zeros(52)):
        assert auroc(true, score) == pytest.approx(oracle.roc_auc_score(true, score), abs=1e-12)


def test_auroc_counts_pairs() -> None:
    # The definition: share of (positive, negative) pairs in order, a tie counting one half.
    rng = np.random.default_rng(3)
    true, score = rng.integers(0, 2, 40), rng.integers(0, 6, 40).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[true == 1] for b in score[true == 0]]
    assert auroc(true, score) == pytest.approx(sum(pairs) / len(pairs), abs=1e-15)


def test_auroc_sees_only_the_order_of_scores() -> None:
    rng = np.random.default_rng(5)
    true, score = rng.integers(0, 2, 80), rng.normal(size=80)
    area = auroc(true, score)
    assert auroc(true, np.exp(score)) == area
    assert auroc(true, -score) == pytest.approx(1 - area)
    assert auroc(true, np.column_stack([-score, score])) == area


@pytest.mark.parametrize("seed", range(5))
def test_multi_class_auroc_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = np.r_[0, 1, 2, 3, rng.integers(0, 4, 60)]
    score = rng.dirichlet(np.ones(4), 64)
    expected = oracle.roc_auc_score(true, score, multi_class="ovr", average="macro")
    assert auroc(true, score) == pytest.approx(expected, abs=1e-12)


def test_undefined_values_are_nan_not_numbers() -> None:
    assert math.isnan(auroc([1, 1], [0.2, 0.3]))
    assert math.isnan(auroc([0, 0], [0.2, 0.3]))
    assert math.isnan(auroc([0, 1, 0], np.eye(3)))  # nobody of class 2
    assert math.isnan(auroc([0, 1], [0.1, float("nan")]))
    assert math.isnan(auroc([], []))
    assert math.isnan(accuracy([], []))
    assert math.isnan(balanced_accuracy([], []))


def test_infinite_scores_are_ranked() -> None:
    assert auroc([0, 1, 1], [-np.inf, 0.0, np.inf]) == 1.0


def test_whole_floats_and_booleans_are_labels() -> None:
    assert accuracy(np.array([0.0, 1.0]), np.array([False, True])) == 1.0


@pytest.mark.parametrize(
    ("true", "guess", "words"),
    [
        ([0, 1], [0], "2 true labels but 1"),
        ([0.5, 1.0], [0, 1], "no class numbers"),
        (["a", "b"], [0, 1], "no class numbers"),
        ([-1, 1], [0, 1], "label -1"),
        ([0, 100206], [0, 1_000_206], "1000206 is no class number"),
        ([[0, 1]], [0, 1], "one axis"),
    ],
)
def test_what_is_no_label_is_named(true: list, guess: list, words: str) -> None:
    with pytest.raises(NeuroError, match=words):
        accuracy(true, guess)


def test_scores_of_the_wrong_shape_are_named() -> None:
    with pytest.raises(NeuroError, match=r"\(3,\) do not fit 2"):
        auroc([0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(NeuroError, match="label 2 has no column"):
        auroc([0, 2], np.zeros((2, 2)))
    with pytest.raises(NeuroError, match="no column"):
        auroc([0, 1], np.zeros((2, 1)))
    with pytest.raises(NeuroError, match=r"label 3 is outside 0\.\.1"):
        confusion_matrix([0, 3], [0, 1], n_classes=2)
