"""Measuring models one after another: a model that fails is named, the others go on."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurocli.core.cost.fake import measure_fake
from neurocli.core.cost.flops import scalar_of
from neurocli.core.cost.latency import time_calls
from neurocli.core.cost.memory import memory_method, peak_bytes
from neurocli.core.cost.stages import Row, stage_rows
from neurocli.core.cost.target import Target
from neurocli.core.errors import NeuroError
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted, ignore

Figures = tuple[dict[str, Any], dict[str, float]]


def measure_all(
    targets: Sequence[Target],
    *,
    runs: int,
    mode: str,
    device: torch.device,
    fake: bool = False,
    stage_wise: bool = False,
    listener: Listener = ignore,
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Measure latency and peak activation memory of models on one random sample.

    Args:
        targets: The models.
        runs: Timed and watched calls per mode, >= 1.
        mode: train, inference or both.
        device: Where to compute.
        fake: Follow memory over tensors without numbers; nothing is computed or timed.
        stage_wise: Also tell the memory of each stage.
        listener: Told of every model.

    Returns:
        One record per measured model, and (name, reason) of the others.

    Raises:
        NeuroError: No model could be measured.
    """
    measured: list[dict[str, Any]] = []
    left_out: list[tuple[str, str]] = []
    hints: list[str | None] = []
    listener(WorkStarted("profile", len(targets), "models"))
    for target in targets:
        try:
            measured.append(
                measure(
                    target, runs=runs, mode=mode, device=device, fake=fake, stage_wise=stage_wise
                )
            )
            listener(ItemDone(target.name, "done"))
        # Torch reports a full memory and a missing kernel as RuntimeError; the others go on.
        except (NeuroError, RuntimeError, MemoryError) as error:
            # The name stands beside the reason, so it need not be in it.
            text = error.message if isinstance(error, NeuroError) else str(error)
            reason = (text or type(error).__name__).splitlines()[0]
            left_out.append((target.name, reason))
            hints.append(error.hint if isinstance(error, NeuroError) else None)
            listener(ItemDone(target.name, "failed", reason))
        # The next model must find the memory of this one free.
        gc.collect()
    listener(WorkFinished("profile"))
    if not measured:
        name, reason = left_out[0]
        raise NeuroError(f"no model could be measured: {reason}", where=name, hint=hints[0])
    return measured, left_out


def measure(
    target: Target,
    *,
    runs: int,
    mode: str,
    device: torch.device,
    fake: bool = False,
    stage_wise: bool = False,
) -> dict[str, Any]:
    """Return one model's record: its counts, its latencies, its peaks and how they were taken.

    `latency_ms` is that of a forward pass, or of a training step when only that was asked for.
    """
    cost = target.formula()
    counts = {key: cost[key] for key in ("flops", "tokens")}
    counts["input_shape"] = list(target.input_shape)
    head = {"model": target.name, "params": cost["params"], "macs": cost["macs"], "latency_ms": {}}
    if fake:
        return {
            **head,
            **measure_fake(target, mode=mode, stage_wise=stage_wise),
            "latency_train_ms": {},
            **counts,
        }
    model, example = target.build().to(device), target.example().to(device)
    inference = _inference(model, example, runs) if mode != "train" else ({}, None)
    training = _training(model, example, runs) if mode != "inference" else ({}, None)
    return {
        **head,
        "latency_ms": inference[0] or training[0],
        "pam_train_bytes": training[1],
        "pam_inference_bytes": inference[1],
        "stages": _stages(model, example, mode) if stage_wise else [],
        "latency_train_ms": training[0],
        **counts,
        "device": str(device),
        "memory_method": memory_method(device),
    }


def _stages(model: nn.Module, example: Tensor, mode: str) -> list[Row]:
    rows: list[Row] = []
    resident = [*model.parameters(), *model.buffers(), example]
    for training in (False, True):
        if mode in ("train" if training else "inference", "both"):
            model.train(training)
            rows += stage_rows(model, example, training=training, resident=resident)
    return rows


def _inference(model: nn.Module, example: Tensor, runs: int) -> Figures:
    def forward() -> None:
        with torch.inference_mode():
            model(example)

    return _latency_and_memory("forward", forward, model, example, runs)


def _training(model: nn.Module, example: Tensor, runs: int) -> Figures:
    def step() -> None:
        torch.autograd.backward(scalar_of(model(example)))

    # Some layers keep more for the backward pass in training mode.
    model.train()
    return _latency_and_memory("forward and backward", step, model, example, runs)


def _latency_and_memory(
    what: str, call: Callable[[], None], model: nn.Module, example: Tensor, runs: int
) -> Figures:
    # Timing comes first: its warm-up makes the gradients that count as part of the model.
    latency = time_calls(call, runs=runs, device=example.device)
    resident = [*model.parameters(), *model.buffers(), example]
    resident += [part.grad for part in model.parameters() if part.grad is not None]
    peaks = [peak_bytes(call, device=example.device, resident=resident) for _ in range(runs)]
    spread = statistics.stdev(peaks) if runs > 1 else 0.0
    return {**latency.record(), "of": what}, {"mean": statistics.fmean(peaks), "std": spread}
