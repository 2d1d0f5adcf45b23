"""Runs of the toy room that tell what happened, for the tests of the loop."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.loop import FitResult, evaluate_part
from neurocli.core.events import Event


def train_told(toy: ModuleType, run_dir: Path, **options: Any) -> tuple[FitResult, list[Event]]:
    told: list[Event] = []
    config = options.pop("config", None) or toy.toy_config(**options.pop("train", {}))
    result = toy.train_toy(run_dir, config, listener=told.append, **options)
    return result, told


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_checkpoint(path)["state_dict"]
    return weights


def toy_summary(toy: ModuleType, task: Any, model: Any, config: Any) -> float:
    samples = toy.toy_data().parts["val"]
    return float(evaluate_part(task, model, samples, config, torch.device("cpu")).metrics["mse"])
