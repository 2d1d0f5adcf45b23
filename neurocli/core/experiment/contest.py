"""Comparing judged models case by case: gathered scores, `comparison.csv` and `comparison.json`.

A model may have been judged several times on a case (seeds): its score of the case is the mean of
them, so that cases stay what is independent. In a cross-validation each case is judged by the fold
that did not learn from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurocli.core.engine.judgement import table_text
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.contest import Contest, Difference, hold_contest
from neurocli.core.metrics.measures import measure
from neurocli.core.paths import durable_json, durable_write

TABLE = "comparison.csv"
RECORD = "comparison.json"
_NAMES = ("participant", "subject")
Case = tuple[str, str]


@dataclass(frozen=True)
class Judged:
    """Hold one judgement of one model.

    Args:
        model: What it is called in the comparison.
        metrics: Names of its metrics.
        per_case: Its rows by case: `participant`, `subject` and scores, as numbers or texts.
    """

    model: str
    metrics: Iterable[str]
    per_case: Sequence[Mapping[str, Any]]


def contests_of(judged: Sequence[Judged]) -> list[Contest]:
    """Compare models in every metric that each of them has for each case.

    Args:
        judged: Judgements; those of one model are joined.

    Returns:
        One per metric with a good direction; none with fewer than two models, or where no metric
        is told case by case.

    Raises:
        NeuroError: Two models share no case.
    """
    models = list(dict.fromkeys(each.model for each in judged))
    if len(models) < 2:
        return []
    found = []
    for metric in _common_metrics(judged):
        scores = {model: _by_case(judged, model, metric) for model in models}
        shared = set.intersection(*(set(own) for own in scores.values()))
        if not shared:
            raise NeuroError(
                f"{' and '.join(models)} were judged on no common case",
                hint="judge them on the same people: --data and --part, or --split",
            )
        cases = sorted(shared)
        columns = {name: np.array([own[case] for case in cases]) for name, own in scores.items()}
        found.append(hold_contest(metric, columns, [participant for participant, _ in cases]))
    return found


def _common_metrics(judged: Sequence[Judged]) -> list[str]:
    first = [name for name in judged[0].metrics if measure(name).better is not None]
    return [
        name
        for name in first
        if all(
            name in each.metrics and any(name in row for row in each.per_case) for each in judged
        )
    ]


def _by_case(judged: Sequence[Judged], model: str, metric: str) -> dict[Case, float]:
    values: dict[Case, list[float]] = {}
    for each in judged:
        for row in each.per_case if each.model == model else ():
            case = (str(row.get(_NAMES[0])), str(row.get(_NAMES[1])))
            values.setdefault(case, []).append(_number(row.get(metric)))
    return {case: float(np.mean(all_)) for case, all_ in values.items()}


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan  # a blank cell is a score that is not defined


def difference_rows(contests: Iterable[Contest]) -> list[dict[str, Any]]:
    """Return one row per metric and pair of models."""
    return [_row(contest, each) for contest in contests for each in contest.differences]


def _row(contest: Contest, each: Difference) -> dict[str, Any]:
    low, high = each.ci95 or (None, None)
    test = asdict(each.test)
    return {
        "metric": contest.metric,
        **{name: test[name] for name in ("first", "second", "n")},
        "mean_difference": each.mean,
        "low": low,
        "high": high,
        **{name: test[name] for name in ("median_difference", "test", "p", "p_holm")},
    }


def comparison_values(contests: Iterable[Contest]) -> dict[str, Any]:
    """Return comparisons as plain values: metric -> models, best, pairs; None where undefined."""
    return {
        contest.metric: {
            "models": {
                name: {"mean": _plain(mean), "ci95": _plain(contest.ci95.get(name))}
                for name, mean in contest.means.items()
            },
            "best": contest.best,
            "pairs": [
                {key: _plain(cell) for key, cell in _row(contest, each).items() if key != "metric"}
                for each in contest.differences
            ],
        }
        for contest in contests
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_comparison(out: Path, contests: Sequence[Contest]) -> None:
    """Write `comparison.csv` and `comparison.json`, or remove those of an earlier comparison.

    Args:
        out: The folder.
        contests: From `contests_of`.

    Raises:
        NeuroError: They cannot be written.
    """
    if not contests:
        for name in (TABLE, RECORD):
            (out / name).unlink(missing_ok=True)
        return
    durable_write(out / TABLE, table_text(difference_rows(contests)))
    about = {
        "schema": "neuro/comparison/1",
        "test": "Wilcoxon's signed ranks over cases, McNemar's exact test of scores 0 and 1; "
        "Holm's correction over pairs of a metric",
        "intervals": "95 % percentiles of 1000 resamples of people",
        "best": "named only where its interval parts from every other model's",
    }
    durable_json(out / RECORD, {**about, "metrics": comparison_values(contests)})
