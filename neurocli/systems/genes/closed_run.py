"""The judgement and the checkpoint of solved genes, as trained models have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from neurocli.core.engine.judge import verdicts
from neurocli.core.engine.judgement import EvalResult, write_judgement
from neurocli.core.engine.task import Rows, RunData
from neurocli.core.engine.weights import BEST_MODEL
from neurocli.core.metrics.retrieval import Scorer, rank_own_keys
from neurocli.systems.genes.closed_form import pmi_vectors
from neurocli.systems.genes.config import SOLUTION, GenesTaskBlock
from neurocli.systems.genes.floor import RCCA, floor_rows
from neurocli.systems.genes.judging import judge, pairs_of
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.solution import Solution
from neurocli.systems.genes.solved_rows import people_of, solved_rows
from neurocli.systems.genes.sweep import screen
from neurocli.systems.genes.task import AlignTask


def judge_solution(
    solution: Solution,
    data: RunData,
    task: AlignTask,
    run_dir: Path,
    *,
    closed: Solution | None = None,
) -> EvalResult:
    """Judge a solution on the test part and write what `neuro evaluate` writes.

    Args:
        solution: The maps.
        data: All parts.
        task: Judges; it has adopted the solution.
        run_dir: The run folder; `evaluations/test` is written.
        closed: The closed form to compare with; None where it is the solution.
    """
    test, train = cast(PairSet, data.parts["test"]), cast(PairSet, data.parts["train"])
    val, by_gene = data.parts.get("val"), task.judges_by_gene
    if task.needs_validation and val is not None and len(val):
        task.tune(_rows(solution, cast(PairSet, val), by_gene=True))
    rows = _rows(solution, test, by_gene=by_gene)
    summary = task.summarise(rows)
    settings = cast(GenesTaskBlock, task.config.task)
    floor = floor_rows(train, [test], settings, with_rcca=False)
    beside = dict(floor.rows)
    if closed is not None:
        beside = {RCCA: _rows(closed, test, by_gene=False), **beside}
    judged = {
        name: judge(pairs_of(own), permutations=settings.permutations)
        for name, own in beside.items()
    }
    summary = replace(
        summary,
        baselines={**summary.baselines, **{name: each.metrics for name, each in judged.items()}},
        baseline_ci95={name: each.ci95 for name, each in judged.items()},
        details={**summary.details, **task.beside(rows, beside)},
    )
    result = EvalResult(
        checkpoint=run_dir / BEST_MODEL,
        model=task.config.model.name,
        part="test",
        out=run_dir / "evaluations" / "test",
        in_sample=False,
        built_in_data=data.built_in_data,
        n=summary.n,
        unit=summary.unit,
        metrics=summary.metrics,
        ci95=summary.ci95,
        baselines=summary.baselines,
        baseline_ci95=summary.baseline_ci95,
        verdicts=verdicts(summary, in_sample=False),
        details=summary.details,
        left_out=data.left_out,
        notes=[*data.notes, *summary.notes, *floor.notes],
    )
    return write_judgement(result, summary.per_subject)


def screened_on(chosen: Solution, val: PairSet) -> dict[str, float]:
    """Return gene -> p on validation people whom a solution has not seen.

    Args:
        chosen: The solution of the training part.
        val: The people.
    """
    return screen(chosen, _rows(chosen, val, by_gene=True))


def parts_of(data: RunData) -> dict[str, PairSet]:
    """Return the parts of opened data that have people, by name."""
    return {str(part): cast(PairSet, own) for part, own in data.parts.items() if len(own)}


@dataclass(frozen=True)
class FloorTest:
    """Say whether the closed form is kept, and why."""

    is_kept: bool
    text: str


def floor_is_kept(closed: Solution, data: RunData, best: Mapping[str, Any]) -> FloorTest:
    """Return whether a trained model fails to beat the closed form on validation people.

    Args:
        closed: The closed form.
        data: Has the validation part; without one nothing shows that training helped.
        best: Of the trained run: `metric` and `value` on the same people.
    """
    val, metric = data.parts.get("val"), str(best["metric"])
    if val is None or not len(val):
        return FloorTest(True, "no validation people, so training cannot be shown to help")
    summary = judge(pairs_of(_rows(closed, cast(PairSet, val), by_gene=False)), permutations=0)
    if metric not in summary.metrics:
        text = f"chosen by {metric}, which the closed form has not: the trained model is kept"
        return FloorTest(False, text)
    floor, value = summary.metrics[metric], best["value"]
    is_kept = value is None or not value > floor
    told = "is not beaten by" if is_kept else "is beaten by"
    shown = "none" if value is None else f"{value:.4f}"
    return FloorTest(
        is_kept,
        f"on validation people the closed form ({metric} {floor:.4f}) {told} training ({shown})"
        + ("; it is kept" if is_kept else ""),
    )


def solved_vectors(solution: Solution, part: PairSet) -> tuple[list[str], Tensor, Tensor]:
    """Return ids, and the vectors (n, F) of both sides whose inner products score pairs."""
    rows = _rows(solution, part, by_gene=False)
    sides = (np.stack([row[side] for row in rows]).astype(np.float32) for side in ("neuro", "gene"))
    brain, gene = (torch.from_numpy(side) for side in sides)
    return part.participants, brain, gene


def _rows(solution: Solution, part: PairSet, *, by_gene: bool) -> Rows:
    wanted = range(len(solution.genes)) if by_gene else {0, *solution.joined}
    return solved_rows(solution, people_of(part, sorted(wanted)), by_gene=by_gene)


def optimum_by_gene(part: PairSet) -> dict[str, float]:
    """Return true gene -> percentile of the optimum among a part's people; empty without truth."""
    truth = part.truth
    if truth is None or not truth.arrays or part.cohort.brain_explained is not None:
        return {}
    found = {}
    for index, name in enumerate(part.cohort.genes):
        if name not in truth.rhos:
            continue
        at = np.flatnonzero(part.cohort.present[index, part.rows])
        people = [part.cohort.people[row] for row in part.rows[at]]
        brain, gene = pmi_vectors(*truth.variates(people, name))
        values = [
            rank_own_keys(scorer).columns()["percentile"].mean()
            for scorer in (Scorer(brain, gene), Scorer(gene, brain))
        ]
        found[name] = float(np.mean(values))
    return found


def solved_payload(
    solution: Solution,
    data: RunData,
    task: AlignTask,
    metrics: dict[str, float],
    *,
    learned_from: Sequence[str] = ("train",),
) -> dict[str, Any]:
    """Return a checkpoint of a solution: its tensors, and plain values.

    Args:
        solution: The maps.
        data: The opened data.
        task: Of the run; it has adopted the solution.
        metrics: Of the test part.
        learned_from: Parts whose people it was fitted to.
    """
    tensors = solution.tensors()
    info = {**data.info, SOLUTION: solution.sizes()}
    config = task.config.model_dump(mode="json")
    split = {part: list(people) for part, people in data.split.items()}
    return {
        "model_name": task.config.model.name,
        "objective": data.objective,
        "config": config,
        "info": info,
        "state_dict": tensors,
        "task_state": task.state_dict(),
        "split": split,
        "learned_from": list(learned_from),
        "split_sha256": data.split_sha256,
        "fingerprint": data.fingerprint,
        "method": task.state_dict()["method"],
        "model_state_dict": tensors,
        "optimizer_state_dict": None,
        "epoch": 0,
        "global_step": 0,
        "gene_names": list(solution.names),
        "neuro_input_dim": data.info["neuro_input_dim"],
        "gene_input_dim": data.info["gene_input_dim"],
        "latent_shape": data.info["latent_shape"],
        "metrics": {name: float(value) for name, value in metrics.items()},
        "format_version": 2,
    }
