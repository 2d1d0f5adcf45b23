"""All genes in one run: discovery, screening, and training that keeps genes independent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import RunData
from neurocli.core.events import ignore
from neurocli.core.metrics.retrieval import benjamini_hochberg
from neurocli.systems.genes.beside import by_person
from neurocli.systems.genes.built_in import write_cohort
from neurocli.systems.genes.closed_run import optimum_by_gene
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.data import open_data
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.judging import pairs_of
from neurocli.systems.genes.known_truth import CohortSpec
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.solution import Solution
from neurocli.systems.genes.solved_rows import gene_pairs, people_of, solved_rows
from neurocli.systems.genes.sweep import (
    Sweep,
    _discover,
    add_optimum,
    add_truth,
    judge_gene,
    judge_genes,
    screen,
)
from neurocli.systems.genes.sweep_train import (
    _clip,
    _start,
    _Training,
    better_maps,
    train_genes,
)

Configure = Callable[..., RunConfig]


@pytest.fixture(scope="module")
def swept(form: ClosedForm, opened: RunData, configure: Configure) -> Sweep:
    return judged(form.solution, opened, cast(GenesTaskBlock, configure().task))


def rows_of(solution: Solution, data: RunData, part: str) -> list[dict[str, Any]]:
    own = cast(PairSet, data.parts[part])  # type: ignore[index]
    people = people_of(own, range(len(own.cohort.genes)))
    return cast(list[dict[str, Any]], solved_rows(solution, people, by_gene=True))


def judged(solution: Solution, data: RunData, task: GenesTaskBlock) -> Sweep:
    screened = screen(solution, rows_of(solution, data, "val"))
    found = judge_genes(solution, rows_of(solution, data, "test"), screened, task)
    add_truth(found.genes, cast(PairSet, data.parts["test"]))
    return found


def test_true_genes_are_found_and_null_genes_are_not(swept: Sweep) -> None:
    assert set(swept.found) == {"APOE", "BDNF"}
    assert [row["gene"] for row in swept.genes[:2]] == ["APOE", "BDNF"]


def test_every_gene_has_its_row(swept: Sweep, spec: CohortSpec) -> None:
    assert {row["gene"] for row in swept.genes} == set(spec.genes)
    for row in swept.genes:
        assert row["n"] == 60
        assert 0 <= row["p"] <= row["q"] <= 1
        assert row["percentile_low"] <= row["percentile"] <= row["percentile_high"]
        assert row["chance_r_at_1"] == pytest.approx(1 / 60)
        assert row["ceiling_r_at_1"] == 1.0
        assert row["rho"] == dict(zip(spec.genes, spec.rhos, strict=False)).get(row["gene"], 0.0)


def test_the_joint_score_beats_every_gene(swept: Sweep) -> None:
    assert swept.joint.metrics["percentile"] > max(row["percentile"] for row in swept.genes)
    assert swept.joint.n == 60


def test_the_rate_is_over_genes_that_pass_the_screen(swept: Sweep) -> None:
    passed = [row for row in swept.genes if not row["screened_out"]]
    assert all(row["p_val"] <= 0.002 for row in passed)
    assert [row["q"] for row in passed] == pytest.approx(
        list(benjamini_hochberg([row["p"] for row in passed]))
    )
    assert all(row["q"] == 1.0 for row in swept.genes if row["screened_out"])


def rows(*values: tuple[float, float | None]) -> list[dict[str, Any]]:
    return [{"gene": str(i), "p": p, "p_val": val} for i, (p, val) in enumerate(values)]


def test_screening_drops_what_shows_only_once() -> None:
    found = rows((1e-6, 1e-6), (0.001, 0.5), (0.04, 0.004))
    notes = _discover(found, 0.01)
    assert [row["found"] for row in found] == [True, False, True]
    assert found[2]["q"] == pytest.approx(0.04)
    assert "2 of 3 genes have p <= 0.01" in notes[0]


def test_without_validation_all_genes_are_tested() -> None:
    found = rows((0.01, None), (0.5, None), (0.03, None))
    assert _discover(found, 0.01) == ["q is over all 3 genes"]
    assert [row["q"] for row in found] == pytest.approx([0.03, 0.5, 0.045])


def test_nothing_passes_and_nothing_is_found() -> None:
    found = rows((0.5, 0.9), (0.4, 0.8))
    _discover(found, 0.01)
    assert [row["q"] for row in found] == [1.0, 1.0]


def test_false_discoveries_stay_rare() -> None:
    # 90 null genes, 300 times over: more than one sweep in twenty with a finding is unlikely.
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        found = rows(*zip(rng.random(90).tolist(), rng.random(90).tolist(), strict=True))
        _discover(found, 0.01)
        hits += any(row["found"] for row in found)
    assert hits / 300 < 0.09


def test_shares_of_the_optimum(swept: Sweep, test_part: PairSet) -> None:
    optimum = optimum_by_gene(test_part)
    assert set(optimum) == {"APOE", "BDNF"}
    genes = [dict(row) for row in swept.genes]
    add_optimum(genes, optimum)
    for row in genes:
        best = optimum.get(row["gene"])
        if best is None:
            assert row["share_of_oracle"] is None
        else:
            assert row["share_of_oracle"] == pytest.approx((row["percentile"] - 0.5) / (best - 0.5))
            assert row["share_of_oracle"] > 0.7


def test_few_people_are_not_tested(form: ClosedForm, test_part: PairSet) -> None:
    few = PairSet(test_part.cohort, test_part.rows[:5], test_part.classes)
    rows = solved_rows(form.solution, people_of(few, range(6)), by_gene=True)
    row = judge_gene("APOE", gene_pairs(form.solution, rows)[0], permutations=0)
    assert (row["p"], row["z"], row["percentile"]) == (1.0, 0.0, 0.5)


def test_absent_people_take_no_part(tmp_path: Path, configure: Configure) -> None:
    spec = CohortSpec(
        sizes=(150, 40, 40),
        latent_shape=(30,),
        n_inner=12,
        n_genes=3,
        tiers=((0.8, 1),),
        gene_dim=8,
        n_gene_inner=5,
        missing=0.2,
    )
    write_cohort(tmp_path, spec)
    data = open_data(configure("data.min_gene_coverage=0.3", path=tmp_path))
    parts = {name: cast(PairSet, part) for name, part in data.parts.items()}
    form = ClosedForm(parts["train"], cast(Any, configure().task))
    task = cast(GenesTaskBlock, configure("task.screen_p=0.5").task)
    found = judged(form.solution, data, task)
    for row in found.genes:
        index = parts["test"].cohort.genes.index(row["gene"])
        assert row["n"] == parts["test"].cohort.present[index, parts["test"].rows].sum() < 40
    assert found.genes[0]["gene"] == "APOE"
    trained = train_genes(
        form, parts["train"], parts["val"], configure("train.epochs=3"), warm=True, listener=ignore
    )
    again = judged(trained, data, task)
    assert again.genes[0]["gene"] == "APOE"


def settings(configure: Configure, **more: Any) -> RunConfig:
    values = {"data.batch_size": 80, "train.epochs": 4, "train.lr": 3e-3, **more}
    return configure(*(f"{key}={value}" for key, value in values.items()))


def test_trained_maps_make_a_solution(
    form: ClosedForm, opened: RunData, configure: Configure
) -> None:
    train, val = (cast(PairSet, opened.parts[name]) for name in ("train", "val"))  # type: ignore[index]
    solved = train_genes(form, train, val, settings(configure), warm=False, listener=ignore)
    assert solved.names == train.cohort.genes
    assert {maps.brain.shape[1] for maps in solved.genes} == {16}
    assert all(0 < maps.scale <= 100 and maps.epoch >= 0 for maps in solved.genes)
    u = rows_of(solved, opened, "test")[0]["neuro"]
    # Vectors of unit length, one per gene that stands out, weighed by the root of its scale.
    scales = [solved.genes[index].scale for index in solved.joined]
    assert np.square(u).sum() == pytest.approx(sum(scales))


def test_what_training_did_not_improve_keeps_the_closed_form(
    form: ClosedForm, opened: RunData, configure: Configure
) -> None:
    train, val = (cast(PairSet, opened.parts[name]) for name in ("train", "val"))  # type: ignore[index]
    trained = train_genes(form, train, val, settings(configure), warm=True, listener=ignore)
    chosen, better = better_maps(form.solution, trained, val)
    assert better == [index for index, maps in enumerate(chosen.genes) if maps.epoch]
    rows = {
        name: rows_of(solution, opened, "val")
        for name, solution in (("floor", form.solution), ("chosen", chosen))
    }
    floors, own = (
        gene_pairs(s, rows[n]) for s, n in ((form.solution, "floor"), (chosen, "chosen"))
    )
    for before, after in zip(floors, own, strict=True):
        means = [by_person(pairs)["percentile"].mean() for pairs in (before, after)]
        assert means[1] >= means[0]
    joint = {name: by_person(pairs_of(own))["mrr"].mean() for name, own in rows.items()}
    assert joint["chosen"] >= joint["floor"]


def test_genes_do_not_influence_each_other(
    form: ClosedForm, train_part: PairSet, configure: Configure
) -> None:
    # Two genes trained with all six end where they end when trained by themselves.
    config = settings(configure)
    whole = train_genes(form, train_part, None, config, warm=True, listener=ignore)
    few = ClosedForm(train_part, cast(Any, config.task), genes=[1, 4])
    some = replace_genes(train_part, [1, 4])
    few.genes, few.cohort = [0, 1], some.cohort
    assert few.solution.names == [train_part.cohort.genes[i] for i in (1, 4)]
    part = train_genes(few, some, None, config, warm=True, listener=ignore)
    for at, index in enumerate((1, 4)):
        one, other = part.genes[at], whole.genes[index]
        assert np.allclose(one.brain, other.brain, atol=1e-4)
        assert np.allclose(one.r, other.r, atol=1e-4)


def replace_genes(part: PairSet, chosen: list[int]) -> PairSet:
    cohort = part.cohort
    own = replace(
        cohort,
        genes=[cohort.genes[i] for i in chosen],
        blocks=[cohort.blocks[i] for i in chosen],
        gene_rows=cohort.gene_rows[chosen],
    )
    return PairSet(own, part.rows, part.classes, truth=part.truth)


def test_the_batched_loss_is_each_genes_own(
    form: ClosedForm, train_part: PairSet, configure: Configure
) -> None:
    config = settings(configure)
    solved = _start(form, config, warm=False)
    data = _Training(solved, train_part, config)
    rows_ = torch.arange(30)
    everyone = data.loss(solved.maps, rows_, torch.arange(6))
    for index in range(6):
        u = data.brain[rows_] @ solved.maps["brain"][index]
        v = data.gene[index][rows_] @ solved.maps["gene"][index]
        normal = torch.nn.functional.normalize
        logits = normal(u, dim=1) @ normal(v, dim=1).T * solved.maps["scale"][index].exp()
        own = torch.arange(30)
        cross = torch.nn.functional.cross_entropy
        expected = (cross(logits, own) + cross(logits.T, own)) / 2
        assert float(everyone[index]) == pytest.approx(float(expected), rel=1e-4)


def test_gradients_are_clipped_gene_by_gene() -> None:
    maps = {
        "brain": torch.zeros(2, 3, 2, requires_grad=True),
        "scale": torch.zeros(2, requires_grad=True),
    }
    maps["brain"].grad = torch.stack([torch.full((3, 2), 10.0), torch.full((3, 2), 0.01)])
    maps["scale"].grad = torch.tensor([1.0, 0.02])
    _clip(maps, 1.0)
    first = torch.cat([maps["brain"].grad[0].flatten(), maps["scale"].grad[:1]])
    assert float(first.norm()) == pytest.approx(1.0, abs=1e-4)
    assert float(maps["brain"].grad[1, 0, 0]) == pytest.approx(0.01)
    assert float(maps["scale"].grad[1]) == pytest.approx(0.02)


def test_a_gene_that_stands_still_is_stopped(
    form: ClosedForm, opened: RunData, configure: Configure
) -> None:
    train, val = (cast(PairSet, opened.parts[name]) for name in ("train", "val"))  # type: ignore[index]
    told: list[str] = []
    config = settings(configure, **{"train.epochs": 40, "task.patience": 1})
    train_genes(form, train, val, config, warm=True, listener=lambda e: told.append(str(e)))
    assert sum("genes go on" in text for text in told) < 40


def test_warm_start_is_the_closed_form(
    form: ClosedForm, opened: RunData, configure: Configure
) -> None:
    start = _start(form, settings(configure), warm=True)
    warm = start.solution(start.maps, np.zeros(6, dtype=np.int64))
    # The cohort's genes have 6 components, fewer than the sweep's 16 places, so nothing is lost.
    for own, closed in zip(
        *(gene_pairs(s, rows_of(s, opened, "test")) for s in (warm, form.solution)), strict=True
    ):
        scores = own.brain @ own.gene.T, closed.brain @ closed.gene.T
        assert np.allclose(*scores, rtol=1e-4, atol=1e-4)
