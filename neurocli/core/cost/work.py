"""From the cost of one sample to that of a step, an epoch and a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocli.core.config.run import RunConfig
from neurocli.core.errors import InputError

_DATA = "data.json"


def samples_of_run(checkpoint: Path) -> dict[str, int]:
    """Return how many samples each part of a run had, by the record beside its checkpoint.

    Args:
        checkpoint: A checkpoint inside a run folder; elsewhere nothing is known of its data.

    Raises:
        InputError: The record is damaged.
    """
    path = checkpoint.parent.parent / _DATA
    if not path.is_file():
        return {}
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))["parts"]
        return {str(part): int(told["samples"]) for part, told in parts.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(path, "is no record of a run's data", "name --clips instead") from error


def work_of(
    config: RunConfig, samples: Mapping[str, int], *, forward: int, train_step: int
) -> dict[str, Any]:
    """Return the training operations of a clip, a step, an epoch and a whole run.

    An epoch is a training step for each training sample; a run adds a forward pass over the
    validation part for each judgement.

    Args:
        config: Length of the run and its batches.
        samples: Samples by part; without "train" only a clip and a step are told.
        forward: Operations of one forward pass.
        train_step: Operations of one forward and backward pass.

    Returns:
        clip, step, epoch and run (operations), clips_per_epoch, epochs and steps; None for what
        cannot be told.
    """
    train, n = config.train, samples.get("train")
    per_step = config.data.batch_size * train.accumulate
    told: dict[str, Any] = {
        "clip": train_step,
        "step": train_step * per_step,
        **dict.fromkeys(("epoch", "run", "clips_per_epoch", "epochs", "steps")),
    }
    if n is None:
        return told
    n_steps = max(-(-n // per_step), 1)
    steps = train.steps or train.epochs * n_steps
    whole, rest = divmod(steps, n_steps)
    n_trained = whole * n + min(rest * per_step, n)
    n_judged = -(-steps // n_steps) // train.eval_every_epochs * samples.get("val", 0)
    return told | {
        "epoch": train_step * n,
        "run": train_step * n_trained + forward * n_judged,
        "clips_per_epoch": n,
        "epochs": -(-steps // n_steps),
        "steps": steps,
    }
