"""From solved genes to a run folder: the judgement, `best_model.pt`, tables and vectors."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.checkpoint import save_checkpoint
from neurocli.core.engine.task import RunData
from neurocli.core.engine.train import ALREADY_ENDED
from neurocli.core.engine.weights import BEST_MODEL
from neurocli.core.paths import durable_json
from neurocli.systems.genes import export
from neurocli.systems.genes.closed_run import (
    judge_solution,
    optimum_by_gene,
    parts_of,
    screened_on,
    solved_payload,
    solved_vectors,
)
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.floor import RCCA, ClosedForm
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.result import AlignResult, judged_fields, result_values
from neurocli.systems.genes.solution import Solution
from neurocli.systems.genes.sweep import add_optimum, add_truth
from neurocli.systems.genes.task import AlignTask

_AGAIN = "fitted once more with them (task.refit=false leaves them out)"
# (floor, validation people) -> the chosen solution fitted to both parts, and the floor likewise.
Again = Callable[[ClosedForm, PairSet], tuple[Solution, Solution]]


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


def finish(
    asked: Asked,
    solution: Solution,
    data: RunData,
    *,
    floor: ClosedForm,
    again: Again | None = None,
) -> AlignResult:
    """Judge a solution, write its files and return the result.

    Args:
        asked: What was asked for.
        solution: The maps, of training people.
        data: All parts.
        floor: The closed form of the training part.
        again: Fits what was chosen to validation people as well; None where that cannot be done
            and the solution is not the closed form.
    """
    task, run_dir = AlignTask(asked.config), asked.run_dir
    is_closed, by_gene = solution is floor.solution, asked.mode == "sweep"
    closed, learned_from, notes = floor.solution, ["train"], asked.notes
    screened: dict[str, float] | None = None
    added: list[str] = []
    again = again or (_solved_again if is_closed else None)
    val = _people_to_add(asked, data)
    if again is not None and val is not None:
        screened = screened_on(solution, val) if by_gene else None
        solution, closed = again(floor, val)
        learned_from, added = ["train", "val"], val.participants
        notes = [*notes, f"chosen on {len(val)} validation people, then {_AGAIN}"]
    method = RCCA if is_closed else asked.method
    task.adopt(solution, method, by_gene=by_gene, screened=screened, added=added)
    judged = judge_solution(solution, data, task, run_dir, closed=None if is_closed else closed)
    payload = solved_payload(solution, data, task, dict(judged.metrics), learned_from=learned_from)
    files = {
        "model": save_checkpoint(run_dir / BEST_MODEL, payload),
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
        notes=list(dict.fromkeys([*notes, *judged.notes])),
        seconds=time.process_time() - asked.began,
        **fields,
    )
    write_metrics(result)
    return result


def _people_to_add(asked: Asked, data: RunData) -> PairSet | None:
    val = data.parts.get("val")
    is_wanted = cast(GenesTaskBlock, asked.config.task).refit
    return cast(PairSet, val) if is_wanted and val is not None and len(val) else None


def _solved_again(floor: ClosedForm, val: PairSet) -> tuple[Solution, Solution]:
    solution = floor.with_people(val).solution
    return solution, solution


def write_metrics(result: AlignResult) -> None:
    """Write `metrics.json` beside a run."""
    record = {"schema": "neuro/align-genes/1", **result_values(result)}
    # The file tells of the run, not of the call that wrote it: killed and gone on with, it is the
    # same.
    record["notes"] = [note for note in result.notes if note != ALREADY_ENDED]
    durable_json(result.run / "metrics.json", record)
