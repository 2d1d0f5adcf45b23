"""Peak activation memory of any model on any machine: a pass over tensors without numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neurocli.core.cost.flops import scalar_of
from neurocli.core.cost.memory import SHADOWS, StorageMeter
from neurocli.core.cost.shadow import shadow_of
from neurocli.core.cost.stages import Row, stage_rows
from neurocli.core.cost.target import Target
from neurocli.core.errors import NeuroError


def measure_fake(target: Target, *, mode: str, stage_wise: bool) -> dict[str, Any]:
    """Return one model's record as `measure` does, without latencies.

    The peaks are exact for what is followed: storages of a CPU in float32, alive between
    operations. They have no spread.

    Args:
        target: The model.
        mode: train, inference or both.
        stage_wise: Also tell the stages.

    Raises:
        NeuroError: What the model does depends on the numbers in its input.
    """
    shadows, model, example = shadow_of(target.build, target.example)
    record: dict[str, Any] = {"pam_train_bytes": None, "pam_inference_bytes": None, "stages": []}
    try:
        with shadows:
            for training in (False, True):
                key = "train" if training else "inference"
                if mode in (key, "both"):
                    model.train(training)
                    peak, stages = _peaks(model, example, training, stage_wise)
                    record[f"pam_{key}_bytes"] = {"mean": float(peak), "std": 0.0}
                    record["stages"] += stages
    except (RuntimeError, NotImplementedError) as error:
        raise NeuroError(
            "what this model computes depends on the values of its input, so it cannot be "
            f"followed without them ({type(error).__name__})",
            where=target.name,
            hint="leave out --fake",
        ) from error
    return {**record, "device": "fake cpu", "memory_method": SHADOWS}


def _peaks(
    model: nn.Module, example: Tensor, training: bool, stage_wise: bool
) -> tuple[int, list[Row]]:
    resident = [*model.parameters(), *model.buffers(), example]
    if training:
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight)
        resident += [weight.grad for weight in model.parameters() if weight.grad is not None]
    with StorageMeter(resident) as meter:
        _call(model, example, training)()
    stages = []
    if stage_wise:
        stages = stage_rows(model, example, training=training, resident=resident)
    return meter.peak, stages


def _call(model: nn.Module, example: Tensor, training: bool) -> Callable[[], None]:
    def step() -> None:
        torch.autograd.backward(scalar_of(model(example)))

    def forward() -> None:
        with torch.no_grad():
            model(example)

    return step if training else forward
