"""The judgement and the files of a closed form, in the shape that trained models have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from neurocli.core.engine.judge import verdicts
from neurocli.core.engine.judgement import EvalResult, write_judgement
from neurocli.core.engine.task import Rows, RunData, Summary
from neurocli.core.metrics.retrieval import Scorer, rank_own_keys
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.export import BEST_MODEL
from neurocli.systems.genes.floor import RCCA, ClosedForm, floor_rows
from neurocli.systems.genes.judging import judge, pairs_of
from neurocli.systems.genes.oracle import pmi_terms
from neurocli.systems.genes.pair_set import PairSet


def closed_judgement(
    rows: Rows,
    data: RunData,
    task: GenesTaskBlock,
    run_dir: Path,
    *,
    summary: Summary | None = None,
) -> EvalResult:
    """Judge rows of the test part and write what `neuro evaluate` writes.

    Args:
        rows: Of the method.
        data: All parts.
        task: Permutations and settings of the baselines.
        run_dir: The run folder; `evaluations/test` is written.
        summary: The judgement of the rows where there is one already.
    """
    test, train = cast(PairSet, data.parts["test"]), cast(PairSet, data.parts["train"])
    summary = summary or judge(pairs_of(rows), permutations=task.permutations)
    floor = floor_rows(train, [test], task, with_rcca=False)
    judged = {
        name: judge(pairs_of(own), permutations=task.permutations)
        for name, own in floor.rows.items()
    }
    summary = replace(
        summary,
        baselines={**summary.baselines, **{name: each.metrics for name, each in judged.items()}},
        baseline_ci95={name: each.ci95 for name, each in judged.items()},
    )
    result = EvalResult(
        checkpoint=run_dir / BEST_MODEL,
        model=RCCA,
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
    write_judgement(result, summary.per_subject)
    return result


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
        u, v, r = truth.variates(people, name)
        cross, own = pmi_terms(r)
        one = np.ones((len(u), 1))
        brain = np.column_stack([u * cross, one, -(u**2) @ own / 2])
        gene = np.column_stack([v, -(v**2) @ own / 2, one])
        values = [
            rank_own_keys(scorer).columns()["percentile"].mean()
            for scorer in (Scorer(brain, gene), Scorer(gene, brain))
        ]
        found[name] = float(np.mean(values))
    return found


def closed_payload(
    form: ClosedForm, data: RunData, config: dict[str, Any], metrics: dict[str, float]
) -> dict[str, Any]:
    """Return what `best_model.pt` of a closed form holds: plain tensors and values.

    Args:
        form: The fit.
        data: The opened data.
        config: The run's configuration as plain values.
        metrics: Of the test part.
    """
    names = [form.cohort.genes[index] for index in form.genes]
    weights: dict[str, torch.Tensor] = {
        "brain.mean": torch.from_numpy(form.components.mean.copy()),
        "brain.axes": torch.from_numpy(form.components.axes.copy()),
    }
    for name, fit in zip(names, form.fits, strict=True):
        parts = {
            "mean": fit.components.mean,
            "axes": fit.components.axes,
            "brain": fit.brain,
            "gene": fit.gene,
            "r": fit.r,
        }
        for key, value in parts.items():
            weights[f"genes.{name}.{key}"] = torch.from_numpy(np.ascontiguousarray(value))
    return {
        "method": RCCA,
        "model_state_dict": weights,
        "optimizer_state_dict": None,
        "epoch": 0,
        "global_step": 0,
        "config": config,
        "gene_names": names,
        "neuro_input_dim": data.info["neuro_input_dim"],
        "gene_input_dim": data.info["gene_input_dim"],
        "latent_shape": data.info["latent_shape"],
        "split": {part: list(people) for part, people in data.split.items()},
        "metrics": {name: float(value) for name, value in metrics.items()},
        "format_version": 1,
    }
