"""From solved genes to a run folder: the judgement, `best_model.pt`, tables and vectors."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.checkpoint import save_checkpoint
from neurocli.core.engine.task import RunData
from neurocli.core.engine.train import ALREADY_ENDED
from neurocli.core.paths import durable_json
from neurocli.systems.genes import export
from neurocli.systems.genes.closed_run import (
    judge_solution,
    optimum_by_gene,
    parts_of,
    solved_payload,
    solved_vectors,
)
from neurocli.systems.genes.floor import RCCA, ClosedForm
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.result import AlignResult, judged_fields, result_values
from neurocli.systems.genes.solution import Solution
from neurocli.systems.genes.sweep import add_optimum, add_truth
from neurocli.systems.genes.task import AlignTask


@dataclass(frozen=True)
class Asked:
    """Hold what was asked for.

    Args:
        mode: single, sequence or sweep.
        method: contrastive, rcca or rcca+contrastive.
        config: The run's configuration.
        run_dir: The run folder.
        notes: Sentences the user should read.
        began: CPU seconds of this process at the start.
    """

    mode: str
    method: str
    config: RunConfig
    run_dir: Path
    notes: list[str]
    began: float


def finish(asked: Asked, solution: Solution, data: RunData, *, floor: ClosedForm) -> AlignResult:
    """Judge a solution, write its files and return the result.

    Args:
        asked: What was asked for.
        solution: The maps.
        data: All parts.
        floor: The closed form of the training part.
    """
    task, run_dir = AlignTask(asked.config), asked.run_dir
    is_closed = solution is floor.solution
    task.adopt(solution, RCCA if is_closed else asked.method, by_gene=asked.mode == "sweep")
    closed = None if is_closed else floor.solution
    judged = judge_solution(solution, data, task, run_dir, closed=closed)
    payload = solved_payload(solution, data, task, dict(judged.metrics))
    files = {
        "model": save_checkpoint(run_dir / export.BEST_MODEL, payload),
        "ranks": export.copy_ranks(run_dir, run_dir / "evaluations" / "test"),
    }
    fields = judged_fields(judged)
    if asked.mode == "sweep":
        test = cast(PairSet, data.parts["test"])
        add_truth(fields["genes"], test)
        add_optimum(fields["genes"], optimum_by_gene(test))
        files["sweep"] = export.write_sweep(run_dir, solution)
        files["genes"] = export.write_rows(run_dir / export.GENES, fields["genes"])
    else:
        vectors = {part: solved_vectors(solution, own) for part, own in parts_of(data).items()}
        files["embeddings"] = export.write_embeddings(run_dir, vectors, 1.0)
    result = AlignResult(
        run=run_dir,
        mode=asked.mode,
        method=asked.method,
        model=RCCA if is_closed else "sweep",
        checkpoint=files["model"],
        gene_names=list(data.info["gene_names"]),
        files=files,
        built_in_data=data.built_in_data,
        left_out=data.left_out,
        notes=list(dict.fromkeys([*asked.notes, *judged.notes])),
        seconds=time.process_time() - asked.began,
        **fields,
    )
    write_metrics(result)
    return result


def write_metrics(result: AlignResult) -> None:
    """Write `metrics.json` beside a run."""
    record = {"schema": "neuro/align-genes/1", **result_values(result)}
    # The file tells of the run, not of the call that wrote it: killed and gone on with, it is the
    # same.
    record["notes"] = [note for note in result.notes if note != ALREADY_ENDED]
    durable_json(result.run / "metrics.json", record)
