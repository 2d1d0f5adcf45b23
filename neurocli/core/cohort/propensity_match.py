"""Match two classes on their propensity, and say honestly what that did to the balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.cohort.balance import SMD_LIMIT
from neurocli.core.cohort.comparison import (
    DENOMINATOR,
    comparison_rows,
    covariate_rows,
    effective_size,
    matching_weights,
    row_name,
    size_of,
    worst_row,
)
from neurocli.core.cohort.matching import Matched, MatchPlan, match_people, pooled_sd
from neurocli.core.cohort.options import SplitOptions, parse_caliper, parse_limit
from neurocli.core.cohort.order import exact, hash_key
from neurocli.core.cohort.people import without
from neurocli.core.cohort.propensity import UNITS, Score, propensity
from neurocli.core.cohort.sample import Sample, rounded
from neurocli.core.cohort.strata import Column, parse_request, read_column
from neurocli.core.cohort.treatment import Classes, design, numbers_of
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_BARS = 40


@dataclass(frozen=True)
class _Cohort:
    """Hold what a matching works on."""

    people: Table
    classes: Classes
    columns: Sequence[Column]
    design_SF: Floats
    names: list[str]
    treated_S: Bools
    score: Score


def match_cohort(
    people: Table, classes: Classes, columns: Sequence[Column], options: SplitOptions
) -> Sample:
    """Pair the two classes of a cohort.

    Args:
        people: The table, sorted by id.
        classes: Two classes.
        columns: Covariates.
        options: How.

    Returns:
        The paired people, their pairs, and the balance before and after.

    Raises:
        UsageError: The classes do not overlap, nobody finds a partner, or an option does not fit.
    """
    numbers, names = design(columns)
    treated_S = classes.treated_S
    score = propensity(numbers, treated_S)
    cohort = _Cohort(people, classes, columns, numbers, names, treated_S, score)
    _check_overlap(cohort)
    plan = _plan(options)
    notes = _score_notes(cohort)
    found = _matched(cohort, plan, options, notes)
    if not len(found.treated_M):
        apart = [f"no overlap in {told}"] if (told := _separating(cohort)) else []
        raise UsageError(
            "nobody finds a partner: "
            + "; ".join([f"{n} {why}" for why, n in sorted(found.reasons.items())] + apart),
            where=f"{people.path}, column {classes.name}",
            hint="widen --caliper (or none), or drop --exact columns",
        )
    found = _within_limit(found, cohort, options)
    weight = matching_weights(found.treated_M, found.control_M, len(people.ids))
    rows = comparison_rows(columns, treated_S, weight, score.probability_S)
    kept = set(np.flatnonzero(weight > 0).tolist())
    ids = people.ids
    imbalanced = sorted(
        {row["column"] for row in covariate_rows(rows) if size_of(row, "after") > SMD_LIMIT}
    )
    return Sample(
        without(people, [name for index, name in enumerate(ids) if index not in kept]),
        [
            (ids[t], ids[c])
            for t, c in zip(found.treated_M.tolist(), found.control_M.tolist(), strict=True)
        ],
        notes + _match_notes(cohort, found, rows, plan),
        rounded(_audit(cohort, found, plan, weight, rows)),
        imbalanced,
        classes.name,
    )


def _plan(options: SplitOptions) -> MatchPlan:
    deviations, columns = parse_caliper(options.caliper)
    return MatchPlan(
        method=options.match or "optimal",
        order=options.order or "largest",
        caliper=deviations,
        calipers=columns,
        ratio=options.ratio or 1,
        replace=options.replace,
        discard=options.discard or "none",
        seed=options.seed,
    )


def _check_overlap(cohort: _Cohort) -> None:
    position, treated_S = cohort.score.position_S, cohort.treated_S
    one, other = position[treated_S], position[~treated_S]
    if one.min() <= other.max() and other.min() <= one.max():
        return
    told = _separating(cohort) or "together they tell the classes apart"
    raise UsageError(
        f"'{cohort.classes.names[0]}' and '{cohort.classes.names[1]}' do not overlap ({told})",
        where=f"{cohort.people.path}, column {cohort.classes.name}",
        hint="drop that covariate, or compare people who could be in either class",
    )


def _separating(cohort: _Cohort) -> str:
    """Name the covariates whose values the classes do not share, or return a blank."""
    gaps = []
    for column in cohort.columns:
        if column.kind == "continuous" and column.numbers is not None:
            values = numbers_of(column)
            a, b = (group[~np.isnan(group)] for group in _by_class(values, cohort.treated_S))
            if len(a) and len(b) and (a.min() > b.max() or b.min() > a.max()):
                gaps.append(
                    f"{column.name}: {a.min():g} to {a.max():g} against {b.min():g} to {b.max():g}"
                )
            continue
        one, other = (set(g.tolist()) for g in _by_class(column.levels(1), cohort.treated_S))
        if not one & other:
            gaps.append(f"{column.name}: no value in common")
    return choices_text(gaps[:2])


def _by_class(values: Any, treated_S: Bools) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    array = np.asarray(values)
    return array[treated_S], array[~treated_S]


def _matched(cohort: _Cohort, plan: MatchPlan, options: SplitOptions, notes: list[str]) -> Matched:
    if plan.method == "psmpy":
        return _by_psmpy(cohort, plan, options, notes)
    known = list(cohort.people.columns)
    values = {}
    for name in plan.calipers:
        column = read_column(cohort.people, name, "continuous")
        values[name] = numbers_of(column)
    exact_S = None
    if options.exact_names:
        levels = [
            read_column(cohort.people, *parse_request(text, known)).levels(options.bins)
            for text in options.exact_names
        ]
        exact_S = list(zip(*levels, strict=True))
    return match_people(
        cohort.score.position_S,
        cohort.treated_S,
        plan,
        ids=cohort.people.ids,
        exact_S=exact_S,
        values=values,
    )


def _by_psmpy(cohort: _Cohort, plan: MatchPlan, options: SplitOptions, notes: list[str]) -> Matched:
    from neurocli.core.cohort.peer import NOTE, psmpy_pairs

    unfit = [
        name
        for name, is_used in (
            ("--exact", bool(options.exact_names)),
            ("--caliper of a column", bool(plan.calipers)),
            ("--ratio", plan.ratio > 1),
            ("--discard", plan.discard != "none"),
            ("--order", options.order is not None),
        )
        if is_used
    ]
    if unfit:
        raise UsageError(
            f"psmpy knows no {', '.join(unfit)}", hint="take --match nearest or --match optimal"
        )
    position = cohort.score.position_S
    # Only a caliper that was asked for; its own default is none, and its scores are its own.
    caliper = None
    if options.caliper is not None and plan.caliper is not None:
        caliper = plan.caliper * pooled_sd(position, cohort.treated_S) / UNITS
    treated, control = psmpy_pairs(
        cohort.design_SF,
        cohort.treated_S,
        names=cohort.names,
        caliper_logits=caliper,
        replace=plan.replace,
    )
    notes.append(NOTE)
    order = np.lexsort((control, treated))
    treated, control = treated[order], control[order]
    n_alone = int(cohort.treated_S.sum()) - len(np.unique(treated))
    reasons = {"no partner found by psmpy": n_alone} if n_alone else {}
    return Matched(treated, control, np.abs(position[treated] - position[control]), None, reasons)


def _within_limit(found: Matched, cohort: _Cohort, options: SplitOptions) -> Matched:
    limit = parse_limit(options.limit)
    if limit is None:
        return found
    ids = cohort.people.ids
    n_people = limit if isinstance(limit, int) else int(exact(limit) * len(ids))
    n_treated = n_people // (1 + (options.ratio or 1))
    treated = sorted(
        set(found.treated_M.tolist()), key=lambda i: (hash_key(options.seed, f"keep:{ids[i]}"), i)
    )
    if not n_treated:
        raise UsageError(f"--limit {options.limit} is less than one pair", hint="raise it")
    is_kept = np.isin(found.treated_M, treated[:n_treated])
    return Matched(
        found.treated_M[is_kept],
        found.control_M[is_kept],
        found.distance_M[is_kept],
        found.cap,
        dict(found.reasons) | {"over the limit": max(len(treated) - n_treated, 0)},
    )


def _score_notes(cohort: _Cohort) -> list[str]:
    notes = []
    if cohort.score.is_penalised:
        notes.append(
            "the covariates nearly tell the classes apart, so the plain logistic fit does not "
            "exist; Firth's penalised fit stands in"
        )
    if cohort.score.dropped:
        dropped = choices_text(cohort.names[index] for index in cohort.score.dropped)
        notes.append(f"constant, or implied by other covariates, hence not in the score: {dropped}")
    return notes


def _match_notes(
    cohort: _Cohort, found: Matched, rows: Sequence[dict[str, Any]], plan: MatchPlan
) -> list[str]:
    classes = cohort.classes
    n_treated = len(np.unique(found.treated_M))
    notes = [
        f"matched {n_treated} of {int(cohort.treated_S.sum())} people with {classes.name} "
        f"'{classes.names[0]}' ({classes.why}) to {len(np.unique(found.control_M))} with "
        f"'{classes.names[1]}'"
    ]
    notes += [f"{why}: {n}" for why, n in found.reasons.items() if n] + found.remarks()
    before, after = worst_row(rows, "before"), worst_row(rows, "after")
    if before and after:
        if after[1] > before[1]:
            notes.append(
                f"matching made the balance worse: the largest |SMD| was {before[1]:.3f} "
                f"({before[0]}) and is {after[1]:.3f} ({after[0]})"
            )
        bad = [row for row in covariate_rows(rows) if size_of(row, "after") > SMD_LIMIT]
        if bad:
            told = choices_text(
                f"{row_name(row)} ({size_of(row, 'after'):.3f})"
                for row in sorted(bad, key=lambda row: -size_of(row, "after"))[:4]
            )
            caliper = "a smaller --caliper" if plan.caliper is not None else "--caliper 0.2"
            notes.append(
                f"not balanced by this matching, |SMD| above {SMD_LIMIT}: {told}; try {caliper}, "
                "--exact on that column, or --discard both"
            )
    return notes


def _audit(
    cohort: _Cohort,
    found: Matched,
    plan: MatchPlan,
    weight: Floats,
    rows: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    score, treated_S = cohort.score, cohort.treated_S
    total = int(found.distance_M.sum())
    worst = {side: worst_row(rows, side) for side in ("before", "after")}
    return {
        "method": "psm",
        "match": plan.method,
        "is_exact": found.is_exact,
        "treatment": {
            "column": cohort.classes.name,
            "classes": dict(sorted(Counter(cohort.classes.labels).items())),
            "treated": cohort.classes.names[0],
            "control": cohort.classes.names[1],
            "why": cohort.classes.why,
        },
        "n_before": len(treated_S),
        "n_after": int((weight > 0).sum()),
        "n_treated": len(np.unique(found.treated_M)),
        "n_control": len(np.unique(found.control_M)),
        "n_pairs": len(found.treated_M),
        "unmatched": dict(found.reasons),
        "effective_controls": effective_size(weight[~treated_S]),
        "distance": {
            "unit": "logit",
            "total": total / UNITS,
            "mean": total / UNITS / len(found.distance_M),
            "largest": int(found.distance_M.max()) / UNITS,
            "caliper": None if found.cap is None else found.cap / UNITS,
        },
        "score": {
            "model": "logistic, Firth's penalty" if score.is_penalised else "logistic, unpenalised",
            "steps": score.n_steps,
            "coefficients": dict(
                zip(["(intercept)", *cohort.names], score.coefficients, strict=True)
            ),
        },
        "largest_smd": {
            side: {"covariate": found_[0], "smd": found_[1]} if found_ else None
            for side, found_ in worst.items()
        },
        "balance": list(rows),
        "denominator": DENOMINATOR,
        "overlap": _overlap(score.logit_S, treated_S, weight),
    }


def _overlap(logit_S: Floats, treated_S: Bools, weight: Floats) -> dict[str, Any]:
    """Return histograms of the logit by class, before and after."""
    low, high = float(logit_S.min()), float(logit_S.max())
    edges = np.linspace(low, high if high > low else low + 1.0, _BARS + 1)
    shown: dict[str, Any] = {"edges": edges.tolist()}
    for name, group in (("treated", treated_S), ("control", ~treated_S)):
        for side, weights in (("before", np.ones(len(weight))), ("after", weight)):
            counts, _ = np.histogram(logit_S[group], bins=edges, weights=weights[group])
            shown[f"{name}_{side}"] = counts.tolist()
    return shown
