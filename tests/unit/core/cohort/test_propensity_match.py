"""Matching on scores when classes nearly separate, and what the report of a matching holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import ks_2samp

from neurocli.core.cohort.comparison import comparison_rows, effective_size, matching_weights
from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.propensity import propensity
from neurocli.core.cohort.propensity_match import match_cohort
from neurocli.core.cohort.sample import Sample
from neurocli.core.cohort.strata import Column
from neurocli.core.cohort.treatment import read_classes, read_covariates
from neurocli.core.data.tables import Table
from neurocli.core.errors import ExitCode, UsageError

N = 60


def people(seed: int = 0, shift: float = 4.0) -> Table:
    rng = np.random.default_rng(seed)
    case = (rng.random(N) < 0.35).astype(int)
    columns: dict[str, list[str | None]] = {
        "case": [str(c) for c in case],
        "age": [f"{v:.1f}" for v in rng.normal(40, 9, N) + shift * case],
        "site": [str(v) for v in rng.choice(["a", "b"], N)],
    }
    return Table([f"p{i:02}" for i in range(N)], "id", columns, Path("t.csv"))


def matched(table: Table, *covariates: str, **named: Any) -> Sample:
    options = SplitOptions(sample="psm", treatment="case", covariates=",".join(covariates), **named)
    classes = read_classes(table, "case", are_two=True)
    return match_cohort(table, classes, read_covariates(table, covariates, skip="case"), options)


def test_the_optimal_pairs_cost_what_scipys_cost() -> None:
    table = people()
    found = matched(table, "age", "site", caliper="none")
    place = {name: i for i, name in enumerate(table.ids)}
    age = np.array([float(str(v)) for v in table.columns["age"]])
    site = np.array([v == "b" for v in table.columns["site"]], dtype=float)
    treated = np.array([v == "1" for v in table.columns["case"]])
    logit = propensity(np.column_stack([age, site]), treated).logit_S
    one, other = np.flatnonzero(treated), np.flatnonzero(~treated)
    cost = np.abs(logit[one][:, None] - logit[other])
    rows, columns = linear_sum_assignment(cost)
    total = sum(abs(logit[place[a]] - logit[place[b]]) for a, b in found.pairs)
    assert len(found.pairs) == len(one)
    assert total == pytest.approx(cost[rows, columns].sum(), abs=1e-6)
    assert found.audit["distance"]["total"] == pytest.approx(total, abs=1e-6)


def test_the_audit_counts_what_the_pairs_say() -> None:
    table = people(1)
    found = matched(table, "age", "site", caliper="0.2")
    audit = found.audit
    used = {name for pair in found.pairs for name in pair}
    assert found.people.ids == sorted(used)
    assert audit["n_pairs"] == len(found.pairs) == audit["n_treated"]
    assert audit["n_before"] == N
    assert audit["n_after"] == len(used)
    n_treated = table.columns["case"].count("1")
    assert sum(audit["unmatched"].values()) == n_treated - audit["n_treated"]
    assert audit["distance"]["largest"] <= audit["distance"]["caliper"]
    overlap = audit["overlap"]
    assert len(overlap["edges"]) == 41
    assert sum(overlap["treated_before"]) == n_treated
    assert sum(overlap["control_after"]) == pytest.approx(audit["n_control"])
    assert {"balance", "overlap"}.isdisjoint(found.summary())


def test_order_of_rows_means_nothing() -> None:
    table = people(2)
    order = np.random.default_rng(0).permutation(N)
    columns = {name: [cells[i] for i in order] for name, cells in table.columns.items()}
    other = Table([table.ids[i] for i in order], "id", columns, table.path)
    pairs = [set(matched(each, "age", "site").pairs) for each in (table, other)]
    assert pairs[0] == pairs[1]


def test_a_level_of_treated_people_alone_takes_the_penalised_fit_and_says_so() -> None:
    # No control is at site b, so the plain coefficient of b would grow without end; treated
    # people of site a still find partners.
    table = people(3)
    treated = [i for i, v in enumerate(table.columns["case"]) if v == "1"]
    table.columns["site"][:] = ["b" if i in treated[:5] else "a" for i in range(N)]
    sample = matched(table, "age", "site", caliper="0.5")
    assert any("Firth's penalised fit stands in" in note for note in sample.notes)
    assert sample.audit["score"]["model"] == "logistic, Firth's penalty"
    assert 0 < len(sample.pairs) <= len(treated)
    plain = matched(people(3), "age", "site", caliper="0.5")
    assert plain.audit["score"]["model"] == "logistic, unpenalised"
    assert not any("Firth" in note for note in plain.notes)


@pytest.mark.parametrize("n", [4, 9, 30])
def test_the_penalised_fit_of_two_separate_levels_has_a_closed_form(n: int) -> None:
    # With one binary column Firth's penalty adds half a person to every cell of the table:
    # n treated at 1 and n controls at 0 give logits of +-ln((n + 1/2) / (1/2)).
    x = np.repeat([0.0, 1.0], n)[:, None]
    score = propensity(x, x[:, 0] == 1)
    assert score.is_penalised
    expected = np.log((n + 0.5) / 0.5)
    assert score.logit_S == pytest.approx(np.where(x[:, 0] == 1, expected, -expected), rel=1e-7)


def test_a_plain_fit_of_one_binary_column_has_a_closed_form() -> None:
    # 3 of 10 at level 0 and 8 of 10 at level 1: logits ln(3/7) and ln(8/2).
    x = np.repeat([0.0, 1.0], 10)[:, None]
    treated = np.array([i < 3 for i in range(10)] + [i < 8 for i in range(10)])
    score = propensity(x, treated)
    assert not score.is_penalised
    assert score.coefficients == pytest.approx([np.log(3 / 7), np.log(4) - np.log(3 / 7)])


@pytest.mark.parametrize(
    ("column", "told"),
    [("age", "(age: 60 to 64 against 20 to 24)"), ("site", "(site: no value in common)")],
)
def test_classes_apart_are_refused_with_the_covariate(column: str, told: str) -> None:
    table = people(4)
    is_case = [v == "1" for v in table.columns["case"]]
    table.columns["age"][:] = [str(i % 5 + (60 if c else 20)) for i, c in enumerate(is_case)]
    table.columns["site"][:] = ["b" if c else "a" for c in is_case]
    with pytest.raises(UsageError, match="'1' and '0' do not overlap") as caught:
        matched(table, f"{column}:cont" if column == "age" else column)
    assert told in caught.value.message
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.where == "t.csv, column case"


def test_what_is_not_balanced_is_named_once() -> None:
    table = people(5, shift=8.0)
    sample = matched(table, "age", "site", caliper="none")
    worst = {
        row["column"]
        for row in sample.audit["balance"][1:]  # the first row is the score
        if max(abs(row["after"][key]) for key in ("smd", "smd_pooled")) > 0.1
    }
    assert "age" in worst  # eight years apart and everybody has to be paired
    assert sample.imbalanced == sorted(worst)
    assert sum("not balanced by this matching" in note for note in sample.notes) == 1


def test_weighted_sides_equal_repeated_people() -> None:
    # Whole weights are copies: a control that serves three treated people counts three times.
    values = np.array([1.0, 2, 4, 0, 3, 8])
    treated = np.array([True, True, True, False, False, False])
    weight = matching_weights(np.array([0, 1, 2]), np.array([4, 4, 3]), 6)
    assert weight.tolist() == [1, 1, 1, 1, 2, 0]
    column = Column("x", "continuous", tuple(values), tuple(map(str, values)))
    after = comparison_rows([column], treated, weight, None)[0]["after"]
    copies = np.array([0.0, 3, 3])
    assert after["mean_control"] == pytest.approx(copies.mean())
    assert after["ks"] == pytest.approx(ks_2samp(values[:3], copies).statistic)
    # The pooled spread is that before: treated 1, 2, 4 and controls 0, 3, 8.
    pooled = np.sqrt((values[:3].var(ddof=1) + values[3:].var(ddof=1)) / 2)
    assert after["smd_pooled"] == pytest.approx((values[:3].mean() - 2.0) / pooled)
    # Kish: (1 + 2)^2 / (1 + 4).
    assert effective_size(weight[3:]) == pytest.approx(9 / 5)
