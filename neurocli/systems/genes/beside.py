"""The same people scored by two methods: how much one finds more than the other, person by person.

Intervals of two methods on the same people overlap long after their difference is sure, since most
of what varies is who the people are. The difference of each person is what is resampled here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.metrics.bootstrap import Columns, bootstrap_ci
from neurocli.core.metrics.measures import compare
from neurocli.core.metrics.retrieval import rank_own_keys
from neurocli.systems.genes.judging import Pairs

COMPARED = ("r_at_1", "mrr", "percentile")


def by_person(pairs: Pairs) -> dict[str, npt.NDArray[np.float64]]:
    """Return what is compared, one value per person: the mean of both directions."""
    both = [rank_own_keys(scorer).columns() for scorer in pairs.scorers()]
    return {name: np.asarray((both[0][name] + both[1][name]) / 2) for name in COMPARED}


def differences(pairs: Pairs, others: Mapping[str, Pairs]) -> dict[str, dict[str, Any]]:
    """Return other method -> measure -> how much more is found than by it.

    Args:
        pairs: Of the method.
        others: Of other methods; those of other people are left out.

    Returns:
        For each measure `mean`, `low` and `high` (95 %, families resampled) and `verdict`.
    """
    own = by_person(pairs)
    found: dict[str, dict[str, Any]] = {}
    for name, other in others.items():
        if other.people != pairs.people:
            continue
        theirs = by_person(other)
        gains = {measure: own[measure] - theirs[measure] for measure in COMPARED}
        means = {measure: _mean_of(measure) for measure in COMPARED}
        limits = bootstrap_ci(gains, means, participants=pairs.families)
        found[name] = {
            measure: {
                "mean": float(gain.mean()),
                "low": limits.get(measure, (None, None))[0],
                "high": limits.get(measure, (None, None))[1],
                "verdict": compare(measure, limits.get(measure), 0.0),
            }
            for measure, gain in gains.items()
        }
    return found


def _mean_of(name: str) -> Callable[[Columns], float]:
    return lambda columns: float(np.mean(np.asarray(columns[name], dtype=np.float64)))
