"""From rows of clips to measures of units: one mean per person, or per labelled window.

Letters: U units, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.engine.task import Rows
from neurocli.core.metrics.bootstrap import MIN_PARTICIPANTS, bootstrap_ci
from neurocli.core.metrics.classification import accuracy, auroc, balanced_accuracy
from neurocli.core.metrics.regression import mae, mse, pearson, r2

Columns = Mapping[str, Any]
Float = npt.NDArray[np.float64]
_FLOOR = 1e-7  # a probability of 0 would make the log loss of one person infinite


@dataclass(frozen=True)
class Judged:
    """Hold units and what is known of them.

    Args:
        units: Names, sorted.
        owners: Participant of each.
        n_clips: Clips of each.
        columns: Name -> (U,) or (U, K), what metrics are made of.
    """

    units: list[str]
    owners: list[str]
    n_clips: list[int]
    columns: Columns

    @property
    def are_windows(self) -> bool:
        """Return whether units are windows and not people."""
        return self.units != self.owners

    def with_columns(self, **columns: npt.NDArray[Any]) -> Judged:
        """Return the same units with some columns replaced."""
        return replace(self, columns={**self.columns, **columns})

    def names(self, index: int) -> dict[str, Any]:
        """Return the first cells of a unit's row in the table of units."""
        unit = {"unit": self.units[index]} if self.are_windows else {}
        return {**unit, "participant": self.owners[index], "n_clips": self.n_clips[index]}

    def measure(self, metrics: Mapping[str, Callable[[Columns], float]]) -> dict[str, float]:
        """Return metric -> value over all units."""
        return {name: metric(self.columns) for name, metric in metrics.items()}

    def intervals(
        self, metrics: Mapping[str, Callable[[Columns], float]]
    ) -> dict[str, tuple[float, float]]:
        """Return metric -> 95 % interval; the same units give the same resamples."""
        return bootstrap_ci(self.columns, metrics, participants=self._resampled)

    @property
    def _resampled(self) -> list[str]:
        return self.units if self.resamples_windows else self.owners

    @property
    def resamples_windows(self) -> bool:
        """Return whether too few people leave only windows to be resampled."""
        return self.are_windows and len(set(self.owners)) < MIN_PARTICIPANTS


def per_unit(rows: Rows, keys: Sequence[str]) -> tuple[Judged, Float]:
    """Average columns of rows over the clips of each unit.

    Args:
        rows: Rows with `unit`, `participant` and the columns.
        keys: Names of the columns.

    Returns:
        The units without columns yet, and the means (U, len(keys)).
    """
    grouped: dict[str, Rows] = {}
    for row in rows:
        grouped.setdefault(row["unit"], []).append(row)
    units = sorted(grouped)
    means = [np.mean([[row[key] for key in keys] for row in grouped[u]], axis=0) for u in units]
    owners = [grouped[unit][0]["participant"] for unit in units]
    judged = Judged(units, owners, [len(grouped[unit]) for unit in units], {})
    return judged, np.array(means, dtype=np.float64).reshape(len(units), len(keys))


def choose_threshold(target: npt.NDArray[np.int64], score: Float) -> float:
    """Return the threshold on the second class's probability with the best balanced accuracy.

    It is also the best by Youden's J, which is twice that measure minus one.

    Args:
        target: (U,) labels 0 and 1.
        score: (U,) probability of label 1; above the threshold it is predicted.

    Returns:
        Halfway between two scores; of equally good ones the nearest to one half.

    >>> choose_threshold(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4]))
    0.25
    """
    levels = np.unique(score)
    candidates: list[float] = [0.5, *((levels[1:] + levels[:-1]) / 2).tolist()]
    ranked = [(-balanced_accuracy(target, score > t), abs(t - 0.5), t) for t in candidates]
    return round(min(ranked)[2], 12)


def _accuracy(columns: Columns) -> float:
    return accuracy(columns["target"], columns["predicted"])


def _balanced_accuracy(columns: Columns) -> float:
    return balanced_accuracy(columns["target"], columns["predicted"])


def _auroc(columns: Columns) -> float:
    score = columns["score"]
    return auroc(columns["target"], score[:, 1] if score.shape[1] == 2 else score)


def _log_loss(columns: Columns) -> float:
    score, target = columns["score"], columns["target"]
    return float(-np.log(np.maximum(score[np.arange(len(target)), target], _FLOOR)).mean())


def _mse(columns: Columns) -> float:
    return mse(columns["target"], columns["predicted"])


def _mae(columns: Columns) -> float:
    return mae(columns["target"], columns["predicted"])


def _r2(columns: Columns) -> float:
    return r2(columns["target"], columns["predicted"])


def _pearson(columns: Columns) -> float:
    return pearson(columns["target"], columns["predicted"])


CLASS_METRICS = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "auroc": _auroc,
    "log_loss": _log_loss,
}
NUMBER_METRICS = {"mse": _mse, "mae": _mae, "r2": _r2, "pearson": _pearson}
