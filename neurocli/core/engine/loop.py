"""The training loop: it owns time (order, steps, saving, stopping) and nothing of the maths.

Between two optimiser steps the whole run is a value (`state.RunState.payload`). A run that is
killed anywhere and resumed from the last value ends, on the CPU, with the bytes of one that was
never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.checkpoint import BEST, LAST
from neurocli.core.engine.parallel.sequence import shared_sequences
from neurocli.core.engine.parallel.team import joined_as
from neurocli.core.engine.rows import evaluate_part, gather_rows
from neurocli.core.engine.runtime import StopSignal, deterministic, pick_device, set_threads
from neurocli.core.engine.task import RunData, Task
from neurocli.core.engine.trainer import Reason, Trainer
from neurocli.core.errors import StoppedError
from neurocli.core.events import Listener, RunFinished

__all__ = ["FitResult", "evaluate_part", "fit", "gather_rows"]


@dataclass(frozen=True)
class FitResult:
    """Hold the outcome of a training run.

    Args:
        best_metric: What chose the best checkpoint.
        best_value: Its value; None when it was never finite.
        best_epoch: Epoch of the best checkpoint, from 1.
        best_part: The part it was measured on; "train" when there is no validation part.
        epochs: Epochs done.
        steps: Optimiser steps done.
        seconds: Wall time of this call.
        reason: Why training ended.
        last_path: The newest checkpoint.
        best_path: The best checkpoint; the newest one when no value was finite.
    """

    best_metric: str
    best_value: float | None
    best_epoch: int | None
    best_part: str
    epochs: int
    steps: int
    seconds: float
    reason: Reason
    last_path: Path
    best_path: Path


def fit(
    task: Task,
    model: nn.Module,
    data: RunData,
    config: RunConfig,
    run_dir: Path,
    *,
    listener: Listener,
    resume: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any],
) -> FitResult:
    """Train a model, and leave `checkpoints/{last,last.prev,best}.pth` in the run folder.

    Args:
        task: Owner of the maths, already fitted to the data.
        model: The model to train, with the weights to start from.
        data: The opened data; without a validation part the training loss chooses the best.
        config: The run's configuration.
        run_dir: The run folder.
        listener: Told of every step, judgement and checkpoint.
        resume: Payload of a checkpoint of this run to go on from.
        extra: Plain values to keep in every checkpoint (config, model_name, info, split, ...).

    Returns:
        The outcome, also when a finished run is resumed and nothing is left to do.

    Raises:
        NeuroError: There is nothing to train on, a loss stays non-finite, or a file cannot be
            written; `last.pth` holds the last sound state.
        StoppedError: A signal stopped the run after its state was saved.
    """
    set_threads(config.run.threads)
    began = time.monotonic()
    device, together = pick_device(config.run.device), config.train.sequence_parallel
    with (
        joined_as(config.train.parallel) as team,
        shared_sequences(team, model, together),
        StopSignal() as stop,
        deterministic(device),
    ):
        run = Trainer(
            task, model, data, config, run_dir=run_dir, listener=listener, stop=stop, extra=extra
        )
        run.open(resume)
        try:
            while (reason := run.reason_to_end()) is None:
                run.train_epoch()
                run.close_epoch()
        except StoppedError:
            run.save(LAST)
            _finish(run, "stopped", began, listener)
            raise
    seconds = _finish(run, reason, began, listener)
    return _result(run, reason, seconds)


def _finish(
    run: Trainer, reason: Reason | Literal["stopped"], began: float, listener: Listener
) -> float:
    seconds = time.monotonic() - began
    progress = run.state.progress
    listener(RunFinished(progress.step, progress.epoch, reason, seconds))
    return seconds


def _result(run: Trainer, reason: Reason, seconds: float) -> FitResult:
    best, progress = run.state.best, run.state.progress
    return FitResult(
        best_metric=best.metric,
        best_value=best.value,
        best_epoch=best.epoch,
        best_part=best.part,
        epochs=progress.epoch,
        steps=progress.step,
        seconds=seconds,
        reason=reason,
        last_path=run.path(LAST),
        best_path=run.path(LAST if best.epoch is None else BEST),
    )
