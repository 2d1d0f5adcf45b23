"""Runs that differ in seed or fold alone are one arm; arms are compared on the people they share.

A person's score in an arm is the mean over the arm's runs that judged the person, so that seeds
are not taken for people. Every pair of arms is tested over people (`metrics.paired`), p
values are corrected by Holm over the pairs of a measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurocli.core.metrics.measures import measure
from neurocli.core.report.collect import Run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.experiment import judged_by_part
from neurocli.core.report.records import as_mapping, as_number
from neurocli.core.report.text import number_text

_VARIED = ("run.seed", "run.fold", "data.split", "data.fold", "run.device", "run.threads")
_KEYS = ("unit", "subject", "session", "participant")
_MAX_MEASURES = 4
_MAX_ARMS = 24
_FLOOR = 1e-7  # a probability of 0 would make one person's loss infinite


@dataclass(frozen=True)
class Arm:
    """Hold the runs of one model under one configuration."""

    name: str
    runs: tuple[Run, ...]

    @property
    def learned(self) -> str:
        """Return what its runs learned."""
        return self.runs[0].learned


@dataclass(frozen=True)
class PairedRow:
    """Hold the test of one pair of arms by one measure.

    Args:
        learned: What was learned.
        measure: Name of the measure.
        first: One arm.
        second: The other.
        test: wilcoxon or mcnemar.
        n: People judged in both.
        median_difference: Of first minus second.
        p: Two-sided, uncorrected; None where it is undefined.
        p_holm: Corrected for all pairs of arms.
    """

    learned: str
    measure: str
    first: str
    second: str
    test: str
    n: int
    median_difference: float | None
    p: float | None
    p_holm: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the row as a page shows it."""
        return (
            measure(self.measure).axis,
            self.first,
            self.second,
            self.test,
            str(self.n),
            number_text(self.median_difference),
            number_text(self.p),
            number_text(self.p_holm),
        )


def arms_of(runs: Sequence[Run]) -> list[Arm]:
    """Return the arms of runs, in order of appearance."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        kept = {k: str(v) for k, v in run.settings.items() if k not in _VARIED}
        groups.setdefault((run.method, run.learned, repr(sorted(kept.items()))), []).append(run)
    models = [key[0] for key in groups]
    return [
        Arm(key[0] if models.count(key[0]) == 1 else own[0].name, tuple(own))
        for key, own in groups.items()
    ]


def paired_rows(runs: Sequence[Run], part: str = "test") -> list[PairedRow]:
    """Return the tests of all pairs of arms that learned the same thing.

    Args:
        runs: Runs with judgements of people they were not trained on.
        part: The part whose people are compared.
    """
    found: list[PairedRow] = []
    arms = arms_of(runs)
    for learned in dict.fromkeys(arm.learned for arm in arms):
        own = [arm for arm in arms if arm.learned == learned][:_MAX_ARMS]
        scores = {arm.name: _arm_scores(arm, part) for arm in own}
        scores = {name: table for name, table in scores.items() if table}
        if len(scores) < 2:
            continue
        for name in _shared_measures(own[0], scores):
            found += _tests(learned, name, {arm: table[name] for arm, table in scores.items()})
    return found


def _shared_measures(
    arm: Arm, scores: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> list[str]:
    tables = list(scores.values())
    names = [name for name in tables[0] if all(name in table for table in tables)]
    chosen = as_mapping(arm.runs[0].result.get("best")).get("metric")
    return sorted(names, key=lambda name: name != chosen)[:_MAX_MEASURES]


def _tests(learned: str, name: str, scores: Mapping[str, Mapping[str, float]]) -> list[PairedRow]:
    from neurocli.core.metrics.paired import paired_tests

    people = sorted({person for table in scores.values() for person in table})
    columns = {
        arm: [table.get(person, math.nan) for person in people] for arm, table in scores.items()
    }
    return [
        PairedRow(
            learned,
            name,
            test.first,
            test.second,
            test.test,
            test.n,
            as_number(test.median_difference),
            as_number(test.p),
            as_number(test.p_holm),
        )
        for test in paired_tests(columns)
    ]


def _arm_scores(arm: Arm, part: str) -> dict[str, dict[str, float]]:
    """Return measure -> person -> mean score over the arm's runs."""
    sums: dict[str, dict[str, list[float]]] = {}
    for run in arm.runs:
        evaluation = judged_by_part(run).get(part)
        for name, table in (person_scores(evaluation) if evaluation else {}).items():
            for person, values in table.items():
                sums.setdefault(name, {}).setdefault(person, []).append(values)
    return {
        name: {person: math.fsum(values) / len(values) for person, values in table.items()}
        for name, table in sums.items()
    }


def person_scores(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return measure -> person -> score from the table beside a judgement.

    Measures are the columns that have a good direction; where the table has targets and
    predictions, also the absolute error, or the log loss where it has probabilities.

    Args:
        evaluation: The judgement.
    """
    table = evaluation.subjects
    key = next((name for name in _KEYS if name in table.header), None)
    if key is None:
        return {}
    people = table.column(key) or []
    found: dict[str, dict[str, float]] = {}
    for name in table.header:
        if measure(name).better is not None:
            found[name] = _defined(people, [as_number(c) for c in table.column(name) or ()])
    # Classes may be written as numbers, and then their difference is no error.
    derived = _log_losses(evaluation) or _errors(table.column("target"), table.column("predicted"))
    found |= {name: _defined(people, values) for name, values in derived.items()}
    return {name: row for name, row in found.items() if row}


def _errors(target: list[str] | None, predicted: list[str] | None) -> dict[str, list[float | None]]:
    pairs = [
        (as_number(a), as_number(b)) for a, b in zip(target or (), predicted or (), strict=False)
    ]
    if not pairs or any(a is None or b is None for a, b in pairs):
        return {}
    return {"mae": [abs(a - b) if a is not None and b is not None else None for a, b in pairs]}


def _log_losses(evaluation: Evaluation) -> dict[str, list[float | None]]:
    table, target = evaluation.subjects, evaluation.subjects.column("target")
    if target is None or not all(f"p_{name}" in table.header for name in set(target)):
        return {}
    own = []
    for row, name in zip(table.rows, target, strict=True):
        p = as_number(row[table.header.index(f"p_{name}")])
        own.append(None if p is None else -math.log(max(p, _FLOOR)))
    return {"log_loss": own}


def _defined(people: Sequence[str], values: Sequence[float | None]) -> dict[str, float]:
    kept: dict[str, list[float]] = {}
    for person, value in zip(people, values, strict=True):
        if value is not None:
            kept.setdefault(person, []).append(value)
    return {person: math.fsum(own) / len(own) for person, own in kept.items()}
