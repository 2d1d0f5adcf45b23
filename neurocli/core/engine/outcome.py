"""What a training run hands back: its record on disk, its result, or the plan of a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.checkpoint import BEST
from neurocli.core.engine.loop import FitResult
from neurocli.core.engine.run_folder import data_record
from neurocli.core.engine.state import plan_run
from neurocli.core.engine.task import RunData


@dataclass(frozen=True)
class RunResult:
    """Hold the outcome of one training run.

    Args:
        run: Run folder.
        checkpoint: The best checkpoint.
        model: Model name.
        best: metric, value, epoch and part.
        epochs: Epochs begun.
        steps: Optimiser steps done.
        seconds: Wall time of this call.
        built_in_data: Whether the built-in cohort stood in for the user's data.
        left_out: (name, reason) of what was found and could not be used.
        notes: Sentences the user should read.
        plan: What would be done, when nothing was done.
    """

    run: Path
    checkpoint: Path
    model: str
    best: Mapping[str, Any]
    epochs: int
    steps: int
    seconds: float
    built_in_data: bool
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: Mapping[str, Any] | None = None


def run_record(
    run_dir: Path, config: RunConfig, data: RunData, n_parameters: int, result: FitResult
) -> dict[str, Any]:
    """Return what `result.json` of an ended run holds.

    Args:
        run_dir: The run folder.
        config: Its configuration.
        data: The opened data.
        n_parameters: How many numbers were trained.
        result: How training ended.
    """
    return {
        "schema": "neuro/train/1",
        "run": str(run_dir),
        "checkpoint": str(result.best_path),
        "model": config.model.name,
        "objective": data.objective,
        "best": {
            "metric": result.best_metric,
            "value": result.best_value,
            "epoch": result.best_epoch,
            "part": result.best_part,
        },
        "epochs": result.epochs,
        "steps": result.steps,
        "seconds": result.seconds,
        "reason": result.reason,
        "n_parameters": n_parameters,
        "built_in_data": data.built_in_data,
    }


def result_from(
    run_dir: Path, record: Mapping[str, Any], data: RunData, notes: list[str]
) -> RunResult:
    """Return the result that a record on disk tells.

    Args:
        run_dir: The run folder, wherever it stands now.
        record: Its `result.json`.
        data: The opened data.
        notes: Sentences for the user.
    """
    return RunResult(
        run=run_dir,
        checkpoint=run_dir / "checkpoints" / Path(record["checkpoint"]).name,
        model=record["model"],
        best=record["best"],
        epochs=record["epochs"],
        steps=record["steps"],
        seconds=record["seconds"],
        built_in_data=data.built_in_data,
        left_out=data.left_out,
        notes=notes,
    )


def planned(
    run_dir: Path, config: RunConfig, data: RunData, model: nn.Module, notes: list[str]
) -> RunResult:
    """Return what a run would do, for a dry run.

    Args:
        run_dir: Where it would be.
        config: Its configuration.
        data: The opened data.
        model: The built model.
        notes: Sentences so far.
    """
    plan = {
        "would_write": str(run_dir),
        "n_parameters": count_parameters(model),
        "cost": _guess_cost(config, data),
        **{key: value for key, value in data_record(data).items() if key != "schema"},
        "config": config.model_dump(mode="json"),
    }
    return RunResult(
        run=run_dir,
        checkpoint=run_dir / "checkpoints" / BEST,
        model=config.model.name,
        best={"metric": None, "value": None, "epoch": None, "part": None},
        epochs=0,
        steps=0,
        seconds=0.0,
        built_in_data=data.built_in_data,
        left_out=data.left_out,
        notes=notes,
        plan=plan,
    )


def _guess_cost(config: RunConfig, data: RunData) -> dict[str, Any]:
    """Return steps and operations; dropped background makes a run cheaper than this."""
    batch, accumulate = config.data.batch_size, config.train.accumulate
    n_samples = len(data.parts["train"]) if "train" in data.parts else 0
    plan = plan_run(config.train, -(-n_samples // batch))
    room, _ = find_model(config.model.name)
    if room.cost is None:
        return {"steps": plan.n_steps}
    one = resolve(room.cost)(config, data.info)
    n_seen = min(plan.n_steps * batch * accumulate, n_samples * config.train.epochs)
    if config.train.steps is not None:
        n_seen = plan.n_steps * min(batch * accumulate, n_samples)
    return {
        "steps": plan.n_steps,
        "tokens_per_sample_at_most": one["tokens"],
        "flops_at_most": n_seen * one["flops_train_step"],
    }


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers a model learns."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
