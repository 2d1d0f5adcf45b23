"""Measures of classification as pure functions over arrays.

Labels are integers 0..K-1. A value that the data cannot define (no rows, one class present for a
ranking) is NaN, never 0 or 1: an average or a table must show that nothing was measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurocli.core.errors import NeuroError

_MAX_CLASSES = 1_000_000  # an id given as a label would allocate a count for every number below it


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the share of labels that were predicted right.

    Args:
        truth: (n,) integer labels.
        predicted: (n,) integer labels.

    Returns:
        Share in [0, 1]; NaN without rows.

    Raises:
        NeuroError: The arrays are not labels of one length.

    >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
    0.75
    """
    true, guess = _label_pair(truth, predicted)
    return float(np.mean(true == guess)) if true.size else float("nan")


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean recall over the classes that occur in the truth.

    Guessing the commonest class scores 1/K, whatever the shares of the classes.

    Args:
        truth: (n,) integer labels.
        predicted: (n,) integer labels.

    Returns:
        Mean recall in [0, 1]; NaN without rows.

    Raises:
        NeuroError: The arrays are not labels of one length.

    >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
    0.5
    """
    true, guess = _label_pair(truth, predicted)
    if not true.size:
        return float("nan")
    n_true = np.bincount(true)
    n_right = np.bincount(true[true == guess], minlength=n_true.size)
    present = n_true > 0
    return float(np.mean(n_right[present] / n_true[present]))


def confusion_matrix(
    truth: ArrayLike, predicted: ArrayLike, *, n_classes: int | None = None
) -> NDArray[np.int64]:
    """Count rows by true and predicted class.

    Args:
        truth: (n,) integer labels.
        predicted: (n,) integer labels.
        n_classes: K; None takes the largest label that occurs, plus one.

    Returns:
        (K, K) int64, the true class along rows, the predicted class along columns.

    Raises:
        NeuroError: The arrays are not labels of one length, or a label is K or more.

    >>> confusion_matrix([0, 1, 1], [0, 1, 0]).tolist()
    [[1, 0], [1, 1]]
    """
    true, guess = _label_pair(truth, predicted)
    largest = int(max(true.max(initial=-1), guess.max(initial=-1)))
    n = largest + 1 if n_classes is None else n_classes
    if largest >= n:
        raise NeuroError(f"label {largest} is outside 0..{n - 1}", where="confusion matrix")
    return np.bincount(true * n + guess, minlength=n * n).reshape(n, n).astype(np.int64)


def auroc(truth: ArrayLike, score: ArrayLike) -> float:
    """Return the area under the ROC curve.

    It is the chance that a positive outranks a negative, ties counting one half (the Mann-Whitney
    U over n1 n0), hence exact for tied scores. For K > 2 classes: the plain mean over classes of
    one class against the rest.

    Args:
        truth: (n,) integer labels.
        score: (n,) score of class 1, or (n, K) score of every class; larger is more likely. Any
            increasing scale will do.

    Returns:
        Area in [0, 1]; NaN when a class has no positives or no negatives among the rows, or when
        a score is NaN.

    Raises:
        NeuroError: The shapes do not fit, or a label has no column of scores.

    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    true = _labels(truth, "truth")
    scores = np.asarray(score, dtype=np.float64)
    if scores.ndim not in (1, 2) or scores.shape[0] != true.size:
        raise NeuroError(
            f"scores of shape {scores.shape} do not fit {true.size} labels",
            where="auroc",
            hint="give (n,) scores of class 1 or (n, K) scores of all classes",
        )
    n_classes = scores.shape[1] if scores.ndim == 2 else 2
    if n_classes < 2 or true.max(initial=0) >= n_classes:
        raise NeuroError(
            f"label {true.max(initial=0)} has no column among {n_classes} scores", where="auroc"
        )
    if n_classes == 2:
        return _rank_area(true == 1, scores if scores.ndim == 1 else scores[:, 1])
    return float(np.mean([_rank_area(true == k, scores[:, k]) for k in range(n_classes)]))


def _rank_area(positive: NDArray[np.bool_], score: NDArray[np.float64]) -> float:
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if not n_positive or not n_negative or np.isnan(score).any():
        return float("nan")
    _, level, count = np.unique(score, return_inverse=True, return_counts=True)
    # Twice the mid-rank is an integer, so the sum of ranks is exact.
    twice_midrank = 2 * np.cumsum(count) - count + 1
    twice_u = int(twice_midrank[level[positive]].sum()) - n_positive * (n_positive + 1)
    return twice_u / (2 * n_positive * n_negative)


def _labels(values: ArrayLike, name: str) -> NDArray[np.int64]:
    labels = np.asarray(values)
    if labels.ndim != 1:
        raise NeuroError(f"labels must have one axis, not shape {labels.shape}", where=name)
    if not labels.size:
        return np.zeros(0, np.int64)
    whole = labels.astype(np.int64) if labels.dtype.kind in "iub" else _whole(labels, name)
    wrong = [int(label) for label in (whole.min(), whole.max()) if not 0 <= label < _MAX_CLASSES]
    if wrong:
        raise NeuroError(
            f"label {wrong[0]} is no class number", where=name, hint="labels are 0..K-1"
        )
    return whole


def _whole(labels: NDArray[np.generic], name: str) -> NDArray[np.int64]:
    if labels.dtype.kind != "f" or not np.all(labels == np.floor(labels)):
        raise NeuroError(
            f"labels of type {labels.dtype} are no class numbers",
            where=name,
            hint="give whole numbers 0..K-1",
        )
    return labels.astype(np.int64)


def _label_pair(
    truth: ArrayLike, predicted: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    true, guess = _labels(truth, "truth"), _labels(predicted, "predicted")
    if true.size != guess.size:
        raise NeuroError(f"{true.size} true labels but {guess.size} predicted ones", where="labels")
    return true, guess
