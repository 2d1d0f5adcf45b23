"""The judgement of pairs: both ways, ties, galleries, strata, intervals over families."""

from __future__ import annotations

import numpy as np
import pytest

from neurocli.core.metrics.retrieval import Scorer, rank_own_keys
from neurocli.systems.genes.judging import Pairs, judge, pairs_of, rows_of

N = 60


def pairs(n: int = N, noise: float = 1.0, seed: int = 0, **more: object) -> Pairs:
    rng = np.random.default_rng(seed)
    gene = rng.standard_normal((n, 8))
    brain = gene + noise * rng.standard_normal((n, 8))
    people = [f"{i:04d}" for i in range(n)]
    values = {"families": people, "classes": np.arange(n), **more}
    return Pairs(people, brain=brain, gene=gene, **values)  # type: ignore[arg-type]


def test_figures_are_means_of_both_directions() -> None:
    chosen = pairs()
    summary = judge(chosen, permutations=0)
    ways = summary.details["directions"]
    for name in ("r_at_1", "r_at_5", "mrr", "percentile", "median_rank", "mean_rank"):
        both = (ways["neuro_to_gene"][name] + ways["gene_to_neuro"][name]) / 2
        assert summary.metrics[name] == pytest.approx(both), name
    forward = rank_own_keys(Scorer(chosen.brain, chosen.gene)).columns()
    assert ways["neuro_to_gene"]["r_at_1"] == pytest.approx(forward["r_at_1"].mean())


def test_the_fixed_names_are_there() -> None:
    metrics = judge(pairs(), permutations=10).metrics
    wanted = {
        "r_at_1",
        "r_at_5",
        "r_at_10",
        "median_rank",
        "mrr",
        "percentile",
        "chance_r_at_1",
        "p_value",
    }
    assert wanted <= set(metrics)
    assert metrics["chance_r_at_1"] == pytest.approx(1 / N)
    assert metrics["ceiling_r_at_1"] == 1.0
    assert "p_permutation" in metrics
    assert "p_permutation" not in judge(pairs(), permutations=0).metrics


def test_chance_stands_beside() -> None:
    chance = judge(pairs(), permutations=0).baselines["chance"]
    assert chance["r_at_5"] == pytest.approx(5 / N)
    assert chance["percentile"] == 0.5


def test_a_perfect_predictor_of_six_classes_is_at_its_ceiling() -> None:
    classes = np.arange(500) % 6
    vectors = np.eye(6)[classes]
    people = [f"{i:04d}" for i in range(500)]
    summary = judge(Pairs(people, people, vectors, vectors, classes), permutations=0)
    assert summary.metrics["ceiling_r_at_1"] == pytest.approx(0.012)
    assert summary.metrics["r_at_1"] == pytest.approx(0.012)
    assert summary.details["n_distinct"] == 6


def test_what_is_reported_is_never_above_the_ceiling() -> None:
    for n_classes in (2, 5, 20):
        classes = np.arange(100) % n_classes
        chosen = pairs(100, noise=0.01)
        gene = chosen.gene[classes]
        people = chosen.people
        found = judge(Pairs(people, people, gene * 2, gene, classes), permutations=0)
        ways = found.details["directions"]["neuro_to_gene"]
        assert ways["r_at_1"] <= found.metrics["ceiling_r_at_1"] + 1e-12


def test_intervals_hold_the_value() -> None:
    summary = judge(pairs(), permutations=0)
    for name, (low, high) in summary.ci95.items():
        assert low <= summary.metrics[name] <= high, name


def test_families_widen_the_interval() -> None:
    # The same rows ten times over carry no more than once.
    one = pairs(30, noise=2.0)
    people = [f"{i:03d}" for i in range(300)]
    families = [str(i % 30) for i in range(300)]
    brain, gene = np.tile(one.brain, (10, 1)), np.tile(one.gene, (10, 1))
    rng = np.random.default_rng(1)
    gene = gene + 1e-6 * rng.standard_normal(gene.shape)
    alone = judge(Pairs(people, people, brain, gene, np.arange(300)), permutations=0)
    tied = judge(Pairs(people, families, brain, gene, np.arange(300)), permutations=0)
    width = [high - low for low, high in (alone.ci95["percentile"], tied.ci95["percentile"])]
    assert width[1] > 2 * width[0]


def test_galleries_of_fixed_size() -> None:
    # Oracle: random galleries of 100 out of 150, drawn 300 times.
    chosen = pairs(150)
    found = judge(chosen, permutations=0).details["galleries"]
    assert set(found) == {"100"}
    rng = np.random.default_rng(2)
    values = []
    for _ in range(300):
        at = rng.permutation(150)[:100]
        for a, b in ((chosen.brain, chosen.gene), (chosen.gene, chosen.brain)):
            values.append(rank_own_keys(Scorer(a[at], b[at])).columns()["r_at_1"].mean())
    assert found["100"] == pytest.approx(np.mean(values), abs=4 * np.std(values) / 600**0.5 + 0.002)


def test_a_hard_gallery_is_within_the_stratum() -> None:
    strata = np.arange(N) % 4
    found = judge(pairs(strata=strata), permutations=0).details["hard_gallery"]
    chosen = pairs()
    expected = []
    for a, b in ((chosen.brain, chosen.gene), (chosen.gene, chosen.brain)):
        for k in range(4):
            at = strata == k
            expected.append(rank_own_keys(Scorer(a[at], b[at])).columns()["r_at_1"].mean())
    assert found["r_at_1"] == pytest.approx(np.mean(expected))
    assert found["mean_candidates"] == N / 4
    assert found["chance_r_at_1"] == pytest.approx(4 / N)


def test_no_signal_is_no_finding() -> None:
    rng = np.random.default_rng(3)
    people = [str(i) for i in range(N)]
    brain, gene = rng.standard_normal((2, N, 8))
    found = judge(Pairs(people, people, brain, gene, np.arange(N)), permutations=100)
    assert found.metrics["p_value"] > 0.01
    assert found.metrics["p_permutation"] > 0.01


def test_rows_and_pairs_are_each_other() -> None:
    chosen = pairs(5)
    rows = rows_of(
        chosen.people,
        chosen.families,
        (chosen.brain, chosen.gene),
        chosen.classes,
        np.array([1, 1, 2, 2, 2]),
    )
    again = pairs_of(rows[::-1])
    assert again.people == chosen.people
    assert np.array_equal(again.brain, chosen.brain)
    assert again.strata is not None
    assert again.strata.tolist() == [1, 1, 2, 2, 2]
    plain = rows_of(chosen.people, chosen.families, (chosen.brain, chosen.gene), chosen.classes)
    assert pairs_of(plain).strata is None


def test_people_stand_in_the_table() -> None:
    rows = judge(pairs(), permutations=0).per_subject
    assert [row["participant"] for row in rows] == [f"{i:04d}" for i in range(N)]
    assert all(1 <= row["rank_to_gene"] <= N == row["n_candidates"] for row in rows)
    percentile = np.mean([row["percentile"] for row in rows])
    assert percentile == pytest.approx(judge(pairs(), permutations=0).metrics["percentile"])


def test_large_cohorts_are_tested_on_some(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurocli.systems.genes import judging

    monkeypatch.setattr(judging, "_MAX_NULL", 40)
    found = judge(pairs(), permutations=0)
    assert found.notes == ["p values are of 40 of the 60 people, evenly taken"]
    assert found.metrics["p_value"] < 1e-6
