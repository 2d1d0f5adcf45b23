"""Solved genes are kept, loaded and judged again, also where genes are missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurocli import align_genes
from neurocli.core.config.load import config_from_plain
from neurocli.core.engine.evaluate import evaluate
from neurocli.core.engine.judgement import EvalResult
from neurocli.core.engine.rebuild import load_model
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.core.experiment.judge import evaluate_many
from neurocli.systems.genes.cost import clip_cost
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.models.solved import SolvedGenes, solved_model
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.result import AlignResult
from neurocli.systems.genes.solution import Solution

METHODS = ("rcca", "rcca+contrastive", "contrastive")


@pytest.fixture(scope="module")
def solved(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AlignResult]:
    """Return a function that solves the small cohort, once for the same question."""
    known: dict[str, AlignResult] = {}

    def solve(**options: Any) -> AlignResult:
        asked = json.dumps(options)
        if asked not in known:
            known[asked] = align_genes(
                latents=pack,
                preset="genes/tiny",
                epochs=2,
                out=tmp_path_factory.mktemp("solved") / "run",
                set=["task.permutations=20", "data.batch_size=80"],
                **options,
            )
        return known[asked]

    return solve


@pytest.mark.parametrize("method", METHODS)
def test_a_sweep_judged_again_has_the_same_numbers(
    solved: Callable[..., AlignResult], method: str, tmp_path: Path
) -> None:
    found = solved(mode="sweep", method=method)
    # Batches of another size, from the folder of the run.
    again = evaluate(found.run, batch_size=7, out=tmp_path / "out")
    assert again.metrics == found.metrics
    assert again.ci95 == found.ci95
    assert again.details["found"] == found.found
    first = {row["gene"]: row for row in found.genes}
    for row in again.details["genes"]:
        assert row == {key: first[row["gene"]][key] for key in row}
    shown = set(found.baselines) - {"oracle", "oracle_cosine"}
    assert shown <= set(again.baselines)
    assert ("rcca" in again.baselines) == (method != "rcca")


@pytest.mark.parametrize("mode", ["single", "sequence"])
def test_a_closed_form_judged_again_has_the_same_numbers(
    solved: Callable[..., AlignResult], mode: str, tmp_path: Path
) -> None:
    options = {"gene": "APOE"} if mode == "single" else {}
    found = solved(mode=mode, method="rcca", **options)
    again = evaluate(found.run / "best_model.pt", out=tmp_path / "out")
    assert again.metrics == found.metrics
    assert again.checkpoint.name == "best_model.pt"
    content = torch.load(found.run / "best_model.pt", weights_only=True)
    assert set(content) >= {"model_state_dict", "gene_names", "split", "metrics", "config"}
    vectors = torch.load(found.run / "aligned_embeddings.pt", weights_only=True)
    at = [i for i, part in enumerate(vectors["split"]) if part == "test"]
    table = (vectors["neuro_features"][at] @ vectors["gene_features"][at].T).numpy()
    r_at_1 = ((table.argmax(0) == range(60)).mean() + (table.argmax(1) == range(60)).mean()) / 2
    assert r_at_1 == pytest.approx(found.metrics["r_at_1"], abs=1 / 60)


def test_genes_that_new_data_lack_go_unscored(
    solved: Callable[..., AlignResult], pack: Path, tmp_path: Path
) -> None:
    found = solved(mode="sweep", method="rcca")
    few = tmp_path / "few"
    shutil.copytree(pack, few)
    shutil.rmtree(few / "BDNF")
    shutil.rmtree(few / "MAPT")
    (few / "truth.json").unlink()
    again = evaluate(found.run, data=few, out=tmp_path / "out")
    assert any("2 of the model's 6 genes are not in this data" in note for note in again.notes)
    rows = {row["gene"]: row for row in again.details["genes"]}
    first = {row["gene"]: row for row in found.genes}
    assert rows["BDNF"]["n"] == 0
    assert rows["APOE"]["percentile"] == first["APOE"]["percentile"]
    assert 0.5 < again.metrics["percentile"] < found.metrics["percentile"]


def test_data_without_any_of_the_genes_are_refused(
    solved: Callable[..., AlignResult], pack: Path, tmp_path: Path
) -> None:
    found = solved(mode="single", method="rcca", gene="APOE")
    other = tmp_path / "other"
    shutil.copytree(pack, other)
    shutil.rmtree(other / "APOE")
    with pytest.raises(UsageError, match="1 of them are not in this data: APOE"):
        evaluate(found.run, data=other, out=tmp_path / "out")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder without a checkpoint"):
        evaluate(tmp_path)


def test_tensors_and_back(form: ClosedForm, test_part: PairSet) -> None:
    solution = form.solution
    back = Solution.of_tensors(solution.names, solution.tensors())
    scores = solution.scores(test_part.cohort.brain(test_part.rows))
    rows = {i: test_part.cohort.gene(i, test_part.rows) for i in range(6)}
    present = np.ones((60, 6), dtype=bool)
    for one, other in zip(
        solution.vectors(scores, rows, present), back.vectors(scores, rows, present), strict=True
    ):
        assert np.array_equal(one, other)


def test_a_model_gives_the_solutions_vectors(form: ClosedForm, test_part: PairSet) -> None:
    model = solved_model(form.solution)
    batch = test_part.collate([test_part.sample(i, 0) for i in range(60)])
    brain, gene = model(batch["neuro_embedding"], batch["gene_sequence"])
    flat = torch.cat([batch["neuro_embedding"], batch["gene_sequence"].flatten(1)], 1)
    assert torch.equal(model(flat)[0], brain)
    ranks = (brain @ gene.T).argsort(1, descending=True)
    assert float((ranks[:, 0] == torch.arange(60)).float().mean()) > 0.1


def test_an_absent_gene_says_nothing(form: ClosedForm, test_part: PairSet) -> None:
    # The score of people without a gene is the score of a set without it.
    solution = form.solution
    scores = solution.scores(test_part.cohort.brain(test_part.rows))
    rows = {i: test_part.cohort.gene(i, test_part.rows) for i in range(6)}
    present = np.ones((60, 6), dtype=bool)
    present[:, solution.joint.genes[0]] = False
    brain, gene = solution.vectors(scores, rows, present)
    kept = solution.joint.gene != solution.joint.genes[0]
    r, u = solution.joint.r[kept], (scores @ solution.joint.brain)[:, kept]
    v = solution.joint.variates(rows)[:, kept]
    own = r**2 / (1 - r**2) / 2
    expected = (u * r / (1 - r**2)) @ v.T - (u**2 @ own)[:, None] - (v**2 @ own)[None]
    expected += -0.5 * np.log1p(-(r**2)).sum()
    assert brain @ gene.T == pytest.approx(expected, rel=1e-9)


def test_a_checkpoint_is_a_model_like_others(solved: Callable[..., AlignResult]) -> None:
    found = solved(mode="sweep", method="rcca")
    model = load_model(found.run / "best_model.pt")
    assert isinstance(model, SolvedGenes)
    content = torch.load(found.run / "best_model.pt", weights_only=True)
    cost = clip_cost(config_from_plain(content["config"], "test"), content["info"])
    assert cost["params"] == sum(value.numel() for value in model.state_dict().values())
    # Every map once: latents to components, gene vectors to variates, and both sides together.
    assert cost["macs"] > 96 * model.solution.axes.shape[1]


def test_damaged_maps_are_refused(solved: Callable[..., AlignResult], tmp_path: Path) -> None:
    found = solved(mode="single", method="rcca", gene="APOE")
    content = torch.load(found.run / "best_model.pt", weights_only=True)
    content["state_dict"]["genes.0.brain"][0, 0] = float("nan")
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(NeuroError, match=r"genes\.0\.brain holds NaN"):
        evaluate(tmp_path / "bad.pt", out=tmp_path / "out")


@pytest.mark.parametrize("mode", ["sweep", "single"])
def test_a_command_line_names_the_folder_of_a_run(
    solved: Callable[..., AlignResult], mode: str, tmp_path: Path
) -> None:
    # `neuro evaluate RUN` looks for the model of a run by itself.
    found = solved(mode=mode, method="rcca")
    again = evaluate_many(found.run, out=tmp_path / "again")
    assert isinstance(again, EvalResult)
    assert again.metrics == found.metrics
    assert again.checkpoint == found.checkpoint


def test_another_file_of_the_run_names_the_one_to_judge(solved: Callable[..., AlignResult]) -> None:
    found = solved(mode="sweep", method="rcca")
    with pytest.raises(InputError) as caught:
        evaluate(found.run / "sweep.pt")
    assert caught.value.hint == f"judge {found.run / 'best_model.pt'}, the model of the same run"
