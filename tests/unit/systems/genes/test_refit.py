"""What is chosen on validation people is fitted to them as well, and no figure is flattered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from neurocli import align_genes
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.evaluate import evaluate
from neurocli.core.engine.task import RunData
from neurocli.core.events import ignore
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.result import AlignResult
from neurocli.systems.genes.solution import Solution
from neurocli.systems.genes.solved_rows import people_of, solved_rows
from neurocli.systems.genes.sweep import screen
from neurocli.systems.genes.sweep_train import epochs_of, train_genes

Run = Callable[..., AlignResult]


@pytest.fixture(scope="module")
def run(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that sweeps the small cohort, once for the same setting."""
    known: dict[tuple[str, ...], AlignResult] = {}

    def sweep(*settings: str, **options: Any) -> AlignResult:
        asked = (*settings, str(options))
        if asked not in known:
            out = tmp_path_factory.mktemp("refit") / "run"
            sets = ["task.permutations=0", *settings]
            known[asked] = align_genes(latents=pack, mode="sweep", out=out, set=sets, **options)
        return known[asked]

    return sweep


@pytest.fixture(scope="module")
def both(train_part: PairSet, opened: RunData) -> PairSet:
    return train_part.with_people(cast(PairSet, opened.parts["val"]))


def solution_of(result: AlignResult) -> Solution:
    content = torch.load(result.run / "best_model.pt", weights_only=True)
    return Solution.of_tensors(content["gene_names"], content["state_dict"])


def test_the_result_is_the_closed_form_of_both_parts(
    run: Run, both: PairSet, form: ClosedForm, configure: Callable[..., RunConfig]
) -> None:
    task = cast(GenesTaskBlock, configure().task)
    expected = ClosedForm(both, task)
    assert expected.fits[0].n == len(form.cohort.brain_rows) - 60  # all but the test people
    found = solution_of(run())
    for name, value in expected.solution.tensors().items():
        assert torch.equal(found.tensors()[name], value), name
    kept = solution_of(run("task.refit=false")).tensors()
    assert all(torch.equal(kept[name], own) for name, own in form.solution.tensors().items())


def test_test_people_are_never_learned_from(both: PairSet, opened: RunData) -> None:
    test = cast(PairSet, opened.parts["test"])
    assert not {*both.participants} & {*test.participants}


def test_genes_are_screened_by_what_has_not_seen_the_people(
    run: Run, form: ClosedForm, opened: RunData
) -> None:
    val = cast(PairSet, opened.parts["val"])
    rows = solved_rows(form.solution, people_of(val, range(6)), by_gene=True)
    fair = screen(form.solution, rows)
    found = {row["gene"]: row["p_val"] for row in run().genes}
    assert found == pytest.approx(fair)
    # Had the same people been learned from, null genes would look true among them.
    own = solved_rows(solution_of(run()), people_of(val, range(6)), by_gene=True)
    flattered = screen(solution_of(run()), own)
    nulls = [name for name in fair if name not in ("APOE", "BDNF")]
    assert np.mean([flattered[n] for n in nulls]) < np.mean([fair[n] for n in nulls]) / 2


def test_it_is_judged_again_with_the_same_screen(run: Run, tmp_path: Path) -> None:
    found = run()
    again = evaluate(found.run, out=tmp_path / "again")
    assert again.metrics == found.metrics
    first = {row["gene"]: row["p_val"] for row in found.genes}
    assert {row["gene"]: row["p_val"] for row in again.details["genes"]} == first


@pytest.mark.parametrize(("settings", "is_seen"), [((), True), (("task.refit=false",), False)])
def test_validation_figures_are_called_in_sample(
    run: Run, settings: tuple[str, ...], is_seen: bool, tmp_path: Path
) -> None:
    found = run(*settings)
    judged = evaluate(found.run, part="val", out=tmp_path / "val")
    assert judged.in_sample is is_seen
    assert any("in-sample" in note for note in judged.notes) is is_seen
    assert any("fitted once more" in note for note in found.notes) is is_seen
    assert not evaluate(found.run, part="test", out=tmp_path / "test").in_sample


def test_trained_genes_are_trained_again_for_as_long(
    form: ClosedForm, both: PairSet, configure: Callable[..., RunConfig]
) -> None:
    config = configure("data.batch_size=80", "train.epochs=4", "train.lr=1e-1")
    until = np.array([0, 3, 0, 0, 1, 0])
    form = ClosedForm(both, cast(GenesTaskBlock, config.task))
    solved = train_genes(form, both, None, config, warm=True, listener=ignore, until=until)
    assert [maps.epoch for maps in solved.genes] == until.tolist()
    assert epochs_of(solved, [1, 4]).tolist() == until.tolist()
    start = train_genes(form, both, None, config, warm=True, listener=ignore, until=until * 0)
    moved = [
        not np.allclose(own.brain, first.brain, rtol=1e-3)
        for own, first in zip(solved.genes, start.genes, strict=True)
    ]
    assert moved == [epochs > 0 for epochs in until]


def test_the_difference_from_the_floor_is_paired(run: Run) -> None:
    found = run(method="contrastive", epochs=1)
    told = found.details["differences"]["rcca"]["percentile"]
    gap = found.metrics["percentile"] - found.baselines["rcca"]["percentile"]
    assert told["mean"] == pytest.approx(gap)
    assert told["low"] < told["mean"] < told["high"]
    # One epoch from random maps is far below the closed form, and the result says so.
    assert told["verdict"] == "worse"


def test_judged_again_the_floor_learns_from_as_many(run: Run, tmp_path: Path) -> None:
    # A rate at which some gene is sure to be trained, else the floor itself would be the result.
    found = run(method="rcca+contrastive", epochs=3, lr=1.0)
    assert found.model == "sweep"
    again = evaluate(found.run, out=tmp_path / "again")
    assert again.baselines["rcca"] == found.baselines["rcca"]
    assert again.details["differences"] == found.details["differences"]
