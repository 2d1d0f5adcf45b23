"""Measuring models one after another: a model that fails is named, the others go on."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity

from neurocli.core.cost.fake import measure_fake
from neurocli.core.cost.flops import scalar_of
from neurocli.core.cost.latency import N_WARMUP, time_calls, wait_for
from neurocli.core.cost.memory import memory_method, peak_bytes
from neurocli.core.cost.stages import Row, stage_rows
from neurocli.core.cost.target import Target
from neurocli.core.errors import NeuroError
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted, ignore
from neurocli.core.paths import durable_path

Figures = tuple[dict[str, Any], dict[str, float]]


@dataclass(frozen=True)
class Plan:
    """Say how models are measured.

    Args:
        runs: Timed and watched calls per mode, >= 1.
        mode: train, inference or both.
        device: Where to compute.
        fake: Follow memory over tensors without numbers; nothing is computed or timed.
        stage_wise: Also tell the memory of each stage.
        n_warmup: Calls before the timed ones.
        trace: File for torch's own trace of one more call per mode; None for none.
    """

    runs: int
    mode: str
    device: torch.device
    fake: bool = False
    stage_wise: bool = False
    n_warmup: int = N_WARMUP
    trace: Path | None = None


@dataclass(frozen=True)
class _Attempt:
    """Hold a model's record, or why there is none."""

    record: dict[str, Any] | None
    reason: str = ""
    hint: str | None = None


def measure_all(
    targets: Sequence[Target], plan: Plan, *, jobs: int = 1, listener: Listener = ignore
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Measure latency and peak activation memory of models on one random sample.

    Args:
        targets: The models.
        plan: How.
        jobs: Processes that share the models; they would disturb each other's times, so more than
            one is for fake measurements.
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
    for target, attempt in zip(targets, _attempts(targets, plan, jobs), strict=True):
        if attempt.record is not None:
            measured.append(attempt.record)
            listener(ItemDone(target.name, "done"))
            continue
        left_out.append((target.name, attempt.reason))
        hints.append(attempt.hint)
        listener(ItemDone(target.name, "failed", attempt.reason))
    listener(WorkFinished("profile"))
    if not measured:
        name, reason = left_out[0]
        raise NeuroError(f"no model could be measured: {reason}", where=name, hint=hints[0])
    return measured, left_out


def _attempts(targets: Sequence[Target], plan: Plan, jobs: int) -> Iterator[_Attempt]:
    if jobs == 1 or len(targets) < 2:
        yield from (_attempt(target, plan) for target in targets)
        return
    # Fresh processes: a fork of one that holds torch's threads may hang.
    with ProcessPoolExecutor(min(jobs, len(targets)), get_context("spawn")) as pool:
        waiting = [pool.submit(_attempt, target, plan) for target in targets]
        for future in waiting:
            try:
                yield future.result()
            except BrokenProcessPool:
                yield _Attempt(
                    None, "a worker was killed (out of memory?)", "use fewer --jobs or free memory"
                )


def _attempt(target: Target, plan: Plan) -> _Attempt:
    try:
        return _Attempt(measure(target, plan))
    # Torch reports a full memory and a missing kernel as RuntimeError; the others go on.
    except (NeuroError, RuntimeError, MemoryError) as error:
        # The name stands beside the reason, so it need not be in it.
        text = error.message if isinstance(error, NeuroError) else str(error)
        reason = (text or type(error).__name__).splitlines()[0]
        return _Attempt(None, reason, error.hint if isinstance(error, NeuroError) else None)
    finally:
        # The next model must find the memory of this one free.
        gc.collect()


def measure(target: Target, plan: Plan) -> dict[str, Any]:
    """Return one model's record: its counts, its latencies, its peaks and how they were taken.

    `latency_ms` is that of a forward pass, or of a training step when only that was asked for.
    """
    cost, mode = target.formula(), plan.mode
    counts = {key: cost[key] for key in ("flops", "tokens")}
    counts["input_shape"] = list(target.input_shape)
    head = {"model": target.name, "params": cost["params"], "macs": cost["macs"], "latency_ms": {}}
    if plan.fake:
        return {
            **head,
            **measure_fake(target, mode=mode, stage_wise=plan.stage_wise),
            "latency_train_ms": {},
            **counts,
        }
    model, example = target.build().to(plan.device), target.example().to(plan.device)
    inference = _inference(model, example, plan) if mode != "train" else ({}, None)
    training = _training(model, example, plan) if mode != "inference" else ({}, None)
    if plan.trace is not None:
        _trace(model, example, plan, plan.trace)
    return {
        **head,
        "latency_ms": inference[0] or training[0],
        "pam_train_bytes": training[1],
        "pam_inference_bytes": inference[1],
        "stages": _stages(model, example, plan) if plan.stage_wise else [],
        "latency_train_ms": training[0],
        **counts,
        "device": str(plan.device),
        "memory_method": memory_method(plan.device),
    }


def _forward(model: nn.Module, example: Tensor) -> None:
    with torch.inference_mode():
        model(example)


def _step(model: nn.Module, example: Tensor) -> None:
    torch.autograd.backward(scalar_of(model(example)))


def _trace(model: nn.Module, example: Tensor, plan: Plan, path: Path) -> None:
    """Write what torch's profiler sees of one call per mode, for chrome://tracing or Perfetto."""
    kinds = [ProfilerActivity.CPU]
    kinds += [kind for kind in (ProfilerActivity.CUDA, ProfilerActivity.XPU)
              if kind.name.lower() == plan.device.type]  # fmt: skip
    with torch.profiler.profile(activities=kinds, profile_memory=True, record_shapes=True) as seen:
        for call, own in ((_forward, "inference"), (_step, "train")):
            if plan.mode in (own, "both"):
                model.train(own == "train")
                with torch.profiler.record_function(own):
                    call(model, example)
                wait_for(example.device)
    with durable_path(path) as temporary:
        seen.export_chrome_trace(str(temporary))


def _stages(model: nn.Module, example: Tensor, plan: Plan) -> list[Row]:
    """Return one row per stage and mode, its peak a mean over runs."""
    rows: list[Row] = []
    resident = [*model.parameters(), *model.buffers(), example]
    for training in (False, True):
        if plan.mode in ("train" if training else "inference", "both"):
            model.train(training)
            runs = [
                stage_rows(model, example, training=training, resident=resident)
                for _ in range(plan.runs)
            ]
            for several in zip(*runs, strict=True):
                peaks = [row["pam_mean"] for row in several]
                spread = statistics.stdev(peaks) if plan.runs > 1 else 0.0
                told = {"pam_mean": statistics.fmean(peaks), "pam_std": spread}
                rows.append({**several[0], **told, "num_runs": plan.runs})
    return rows


def _inference(model: nn.Module, example: Tensor, plan: Plan) -> Figures:
    return _latency_and_memory("forward", partial(_forward, model, example), model, example, plan)


def _training(model: nn.Module, example: Tensor, plan: Plan) -> Figures:
    # Some layers keep more for the backward pass in training mode.
    model.train()
    call = partial(_step, model, example)
    # The first call makes the gradients, which count as part of the model.
    warmed = replace(plan, n_warmup=max(plan.n_warmup, 1))
    return _latency_and_memory("forward and backward", call, model, example, warmed)


def _latency_and_memory(
    what: str, call: Callable[[], None], model: nn.Module, example: Tensor, plan: Plan
) -> Figures:
    latency = time_calls(call, runs=plan.runs, device=example.device, n_warmup=plan.n_warmup)
    resident = [*model.parameters(), *model.buffers(), example]
    resident += [part.grad for part in model.parameters() if part.grad is not None]
    peaks = [peak_bytes(call, device=example.device, resident=resident) for _ in range(plan.runs)]
    spread = statistics.stdev(peaks) if plan.runs > 1 else 0.0
    return {**latency.record(), "of": what}, {"mean": statistics.fmean(peaks), "std": spread}
