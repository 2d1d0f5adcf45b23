"""The built-in cohort in its cache, strata with blanks, shares of the optimum, discoveries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from neurocli.systems.genes.built_in import Truth, cohort_spec, read_truth
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.covariates import design_matrix, strata_of
from neurocli.systems.genes.judging import Pairs, judge
from neurocli.systems.genes.known_truth import Cohort, CohortSpec
from neurocli.systems.genes.result import AlignResult, result_values, share_of_optimum
from neurocli.systems.genes.sweep import _discover, add_optimum


@pytest.mark.parametrize(("asked", "sizes"), [(20, (14, 3, 3)), (1200, (800, 200, 200))])
def test_people_are_shared_out_as_in_the_whole(asked: int, sizes: tuple[int, int, int]) -> None:
    # A sixth each for validation and test, rounded down, and training gets what is left.
    assert cohort_spec(LatentsOptions(n_people=asked)).sizes == sizes


def test_few_genes_are_the_true_ones() -> None:
    spec = cohort_spec(LatentsOptions(n_genes=3))
    assert spec.rhos == (0.7, 0.7, 0.5)
    assert spec.genes == ["APOE", "BDNF", "COMT"]
    many = cohort_spec(LatentsOptions(n_genes=26))
    assert many.genes[-2:] == ["GENE025", "GENE026"]


@pytest.mark.parametrize(
    "change", [{"ancestry": 0.5}, {"bends": True}, {"twins": 0.2}, {"n_classes": 6}]
)
def test_what_breaks_the_closed_optimum_is_known_to(change: dict[str, Any]) -> None:
    assert CohortSpec().optimum_is_known
    assert not cohort_spec(LatentsOptions(**change)).optimum_is_known


def test_variates_follow_ids_and_null_genes_have_none(pack: Path, cohort: Cohort) -> None:
    truth = read_truth(pack)
    assert isinstance(truth, Truth)
    some = [truth.ids[7], truth.ids[2]]
    for gene in ("BDNF", None):
        u, v, r = truth.variates(some, gene)
        swapped = truth.variates(some[::-1], gene)
        assert np.array_equal(u, swapped[0][::-1])
        assert u.shape == v.shape == (2, len(r))
    u, _, r = truth.variates(some, cohort.spec.genes[-1])
    assert u.shape == (2, 0)
    assert len(r) == 0


def test_blanks_are_a_stratum_of_their_own() -> None:
    ages: list[str | None] = [str(i) for i in range(20)]
    found = strata_of({"age": [*ages, None, None]})
    # Fifths of twenty people, and those of whom nothing is known: not the oldest fifth.
    assert np.unique(found, return_counts=True)[1].tolist().count(4) == 5
    assert found[20] == found[21]
    assert found[20] not in found[:20]
    few = strata_of({"sex": ["F", "M", None, None]})
    assert few[2] == few[3] != few[0] != few[1]


def test_a_design_does_not_see_people_who_are_not_in_training() -> None:
    train = np.array([0, 1, 2])
    for last in ("45", "4500"):
        found = design_matrix({"age": ["40", "50", "60", last]}, train)
        # (40, 50, 60) have mean 50 and deviation sqrt(200 / 3).
        assert found[:3, 1] == pytest.approx(np.array([-10, 0, 10]) / np.sqrt(200 / 3))
    constant = design_matrix({"age": ["5", "5", "7"]}, np.array([0, 1]))
    assert constant[:, 1].tolist() == [0, 0, 2]  # no spread in training counts as 1


@pytest.mark.parametrize(
    ("found", "best", "expected"),
    [
        (0.7, 0.9, {"percentile": 0.5}),
        (0.5, 0.9, {"percentile": 0.0}),
        (0.4, 0.9, {"percentile": -0.25}),  # worse than chance stays worse than chance
        (0.7, 0.5, {}),  # an optimum at chance has no shares
    ],
)
def test_shares_of_the_optimum(found: float, best: float, expected: dict[str, float]) -> None:
    assert share_of_optimum({"percentile": found}, {"percentile": best}, 0.5) == expected


def test_results_are_plain_json() -> None:
    result = AlignResult(
        Path("run"), "sweep", "rcca", "rcca", None,
        metrics={"z": np.float64("nan"), "n": np.int64(3)}, ci95={"p": (0.1, float("inf"))},
        genes=[{"gene": "A", "found": np.bool_(True)}, {"gene": "B", "found": np.bool_(False)}],
        left_out=[("x", "why")],
    )  # fmt: skip
    again = json.loads(json.dumps(result_values(result), allow_nan=False))
    assert again["metrics"] == {"z": None, "n": 3}
    assert again["ci95"] == {"p": [0.1, None]}
    assert again["found"] == ["A"]
    assert again["left_out"] == [["x", "why"]]
    assert again["checkpoint"] is None


def test_rates_are_over_genes_that_pass_and_one_for_others() -> None:
    p = [0.001, 0.02, 0.03, 0.0001]
    p_val: list[float | None] = [0.005, 0.01, None, 0.5]
    rows: list[dict[str, Any]] = [{"p": a, "p_val": b} for a, b in zip(p, p_val, strict=True)]
    notes = _discover(rows, 0.01)
    # A p of just the level passes, one that was never screened does, too; the last does not.
    expected = false_discovery_control([0.001, 0.02, 0.03])
    assert [row["q"] for row in rows] == pytest.approx([*expected, 1.0])
    assert [row["found"] for row in rows] == [True, True, True, False]
    assert [row["screened_out"] for row in rows] == [False, False, False, True]
    assert notes[0].startswith("3 of 4 genes have p <= 0.01 on validation people")
    assert _discover([{"p": 0.9, "p_val": 0.9}], 0.01)[0].startswith("0 of 1")


def test_shares_of_each_gene() -> None:
    rows = [{"gene": "A", "percentile": 0.7}, {"gene": "B", "percentile": 0.6}]
    add_optimum(rows, {"A": 0.9})
    assert rows[0]["share_of_oracle"] == pytest.approx(0.5)
    assert rows[1]["share_of_oracle"] is None


def test_a_gallery_of_some_is_the_mean_over_all_of_its_size() -> None:
    # Among 101 candidates a gallery of 100 leaves one of the 100 others out, each as likely:
    # the own key is first where nobody is above, or where the only one above is left out.
    n = 101
    rng = np.random.default_rng(0)
    brain = rng.standard_normal((n, 5))
    gene = brain + rng.standard_normal((n, 5))
    people = [f"{i:03}" for i in range(n)]
    found = judge(Pairs(people, people, brain, gene, np.arange(n)), permutations=0)
    chances = []
    for scores in (brain @ gene.T, gene @ brain.T):
        above = (scores > np.diag(scores)[:, None]).sum(1)
        chances.append(np.mean((above == 0) + (above == 1) / 100))
    assert found.details["galleries"] == {"100": pytest.approx(np.mean(chances))}
