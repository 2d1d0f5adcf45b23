"""Tables of results in which a claim stands only where the data carries it.

What counts as better is decided by `metrics.measures.compare`; judgements of training data claim
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurocli.core.metrics.measures import Interval, compare, measure
from neurocli.core.report.collect import Run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.text import interval_text, number_text


@dataclass(frozen=True)
class ResultRow:
    """Hold one metric of one judgement as texts, and a sentence per baseline that has it."""

    metric: str
    label: str
    value: str
    interval: str
    against: tuple[str, ...]


@dataclass(frozen=True)
class ComparisonRow:
    """Hold one judgement of one run in the table over runs."""

    run: str
    model: str
    part: str
    n: str
    parameters: str
    cells: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Comparison:
    """Hold the table over runs that learned the same thing; `notes` say what disturbs ranking."""

    title: str
    metrics: tuple[str, ...]
    rows: tuple[ComparisonRow, ...]
    notes: tuple[str, ...]


def result_rows(evaluation: Evaluation) -> list[ResultRow]:
    """Return the table of one judgement, one row per metric."""
    return [_row(evaluation, name, value) for name, value in evaluation.metrics.items()]


def _row(evaluation: Evaluation, name: str, value: float | None) -> ResultRow:
    interval = evaluation.ci95.get(name)
    against = []
    for baseline, metrics in evaluation.baselines.items():
        base = metrics.get(name)
        if base is not None:
            other = evaluation.baseline_ci95.get(baseline, {}).get(name)
            said = claim(name, interval, other or base, in_sample=evaluation.in_sample)
            shown = f"{number_text(base)} {interval_text(other)}".strip()
            against.append(f"{said} {baseline} ({shown})")
    return ResultRow(
        name, measure(name).axis, number_text(value), interval_text(interval), tuple(against)
    )


def claim(
    name: str,
    interval: Interval | None,
    other: Interval | float,
    *,
    in_sample: bool = False,
) -> str:
    """Say whether a result differs from a baseline.

    Args:
        name: The measure.
        interval: 95 % interval of the result; None when there is none.
        other: The baseline's interval, or its value, on the same participants.
        in_sample: Whether training data was judged.

    Returns:
        Words that a baseline's name follows.

    >>> claim("accuracy", (0.8, 0.9), 0.5)
    'better than'
    >>> claim("accuracy", (0.8, 0.9), (0.5, 0.85))
    'not distinguishable from'
    """
    if in_sample:
        return "no claim (training data) against"
    said = compare(name, interval, other)
    if said == "no claim":
        reason = "no interval" if interval is None else "good direction unknown"
        return f"no claim ({reason}) against"
    return f"{said} {'from' if said == 'not distinguishable' else 'than'}"


def comparisons(runs: Sequence[Run]) -> list[Comparison]:
    """Return one table per objective and target, none when fewer than two runs were judged."""
    judged = [(run, evaluation) for run in runs for evaluation in run.evaluations]
    if len({run.name for run, _ in judged}) < 2:
        return []
    groups: dict[str, list[tuple[Run, Evaluation]]] = {}
    for run, evaluation in judged:
        groups.setdefault(run.learned, []).append((run, evaluation))
    return [_comparison(title, groups[title]) for title in sorted(groups)]


def _comparison(title: str, judged: Sequence[tuple[Run, Evaluation]]) -> Comparison:
    metrics = tuple(dict.fromkeys(name for _, row in judged for name in row.metrics))
    # What counts for new people comes first; the order of runs is kept within a part.
    ordered = sorted(judged, key=lambda pair: (pair[1].part != "test", pair[1].part))
    rows = tuple(_comparison_row(run, evaluation, metrics) for run, evaluation in ordered)
    notes = tuple(_cautions(judged)) if len({run.name for run, _ in judged}) > 1 else ()
    return Comparison(title, tuple(measure(name).axis for name in metrics), rows, notes)


def _comparison_row(run: Run, evaluation: Evaluation, metrics: Sequence[str]) -> ComparisonRow:
    return ComparisonRow(
        run=run.name,
        model=run.method,
        part=f"{evaluation.part} (training data)" if evaluation.in_sample else evaluation.part,
        n=number_text(evaluation.n),
        parameters=number_text(parameters(run)),
        cells=tuple(_cell(evaluation, name) for name in metrics),
        source=evaluation.source,
    )


def _cell(evaluation: Evaluation, name: str) -> str:
    if name not in evaluation.metrics:
        return ""
    interval = interval_text(evaluation.ci95.get(name))
    return f"{number_text(evaluation.metrics[name])} {interval}".strip()


def parameters(run: Run) -> float | None:
    """Return how many parameters a run's model has, or None when not recorded."""
    value = run.result.get("n_parameters")
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _cautions(judged: Sequence[tuple[Run, Evaluation]]) -> list[str]:
    notes = ["Intervals are per run: two runs whose intervals overlap may not differ at all."]
    shared: Mapping[str, str] = {
        "split_sha256": "The runs divide participants differently",
        "fingerprint": "The runs read different data",
    }
    for key, sentence in shared.items():
        found: dict[str, set[str]] = {}
        for run, _ in judged:
            found.setdefault(run.method, set()).add(str(run.data.get(key)))
        # Folds divide people differently on purpose: each model then has all of the divisions.
        is_design = len(found) > 1 and len(set(map(frozenset, found.values()))) == 1
        if len(set.union(*found.values())) > 1 and not is_design:
            notes.append(f"{sentence} ({key} in data.json differs): do not rank them.")
    if any(run.is_built_in for run, _ in judged) and not all(run.is_built_in for run, _ in judged):
        notes.append("Some of the runs used built-in synthetic data, others did not.")
    return notes
