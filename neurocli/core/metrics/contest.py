"""Models against each other on the same cases: differences, paired tests, and whether one is best.

A difference carries its interval over people and the p value of a paired test, corrected for the
number of pairs. Which model is best is only said where its own interval parts from that of every
other, by the one rule of `measures.compare`; a large table of models always has a largest mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocli.core.metrics.bootstrap import Columns, Metric, bootstrap_ci
from neurocli.core.metrics.measures import Interval, compare, measure
from neurocli.core.metrics.paired import PairedTest, paired_tests


@dataclass(frozen=True)
class Difference:
    """Hold one model minus another.

    Args:
        test: The paired test; it names both.
        mean: Mean difference over the cases in which both are defined; NaN without any.
        ci95: Its interval over people; None with fewer than three.
    """

    test: PairedTest
    mean: float
    ci95: Interval | None


@dataclass(frozen=True)
class Contest:
    """Hold how models compare in one metric.

    Args:
        metric: Its name.
        means: Model -> mean over its cases; NaN where none is defined.
        ci95: Model -> interval over people; absent where undefined.
        differences: One per pair, in the order of the models.
        best: The model whose interval parts from all others'; None when none does.
    """

    metric: str
    means: Mapping[str, float]
    ci95: Mapping[str, Interval]
    differences: Sequence[Difference]
    best: str | None


def hold_contest(
    metric: str, scores: Mapping[str, npt.ArrayLike], participants: Sequence[str]
) -> Contest:
    """Compare models in one metric over the same cases.

    Args:
        metric: Its name, which tells its good direction.
        scores: Model -> (n,) values of the same cases in the same order; NaN where undefined.
        participants: Whose each case is; intervals are over people.

    Returns:
        Means, differences, and the best where the data carry it.

    Raises:
        NeuroError: The models have different numbers of cases.
    """
    tests = paired_tests(scores)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    functions = {f"model {name}": _mean_of(name) for name in columns}
    functions |= {f"pair {i}": _mean_of(test.first, test.second) for i, test in enumerate(tests)}
    # The same draws of people for models and differences.
    found = bootstrap_ci(columns, functions, participants=participants)
    intervals = {name: found[f"model {name}"] for name in columns if f"model {name}" in found}
    differences = [
        Difference(
            test, _mean_of(test.first, test.second)(columns), found.get(f"pair {number}")
        )
        for number, test in enumerate(tests)
    ]  # fmt: skip
    means = {name: _mean_of(name)(columns) for name in columns}
    return Contest(metric, means, intervals, differences, _best(metric, means, intervals))


def _mean_of(first: str, second: str | None = None) -> Metric:
    """Return what gives the mean of a column, or of the difference of two, where defined."""

    def metric(columns: Columns) -> float:
        values = np.asarray(columns[first], dtype=np.float64)
        if second is not None:
            values = values - np.asarray(columns[second], dtype=np.float64)
        defined = values[np.isfinite(values)]
        return float(defined.mean()) if defined.size else float("nan")

    return metric


def _best(metric: str, means: Mapping[str, float], intervals: Mapping[str, Interval]) -> str | None:
    better = measure(metric).better
    if better is None or len(means) < 2 or len(intervals) < len(means):
        return None
    choose = max if better == "higher" else min
    first = choose(means, key=lambda name: means[name])
    others = [intervals[name] for name in means if name != first]
    parts = all(compare(metric, intervals[first], other) == "better" for other in others)
    return first if parts else None
