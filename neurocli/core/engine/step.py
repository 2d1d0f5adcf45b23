"""One optimiser step: gradients of a group of batches, checked, clipped and applied.

A group's loss is the mean over its samples, whatever the batches' sizes, so a ragged last batch
weighs what it holds and accumulation equals one large batch for losses that are means over
samples. What is not finite is never applied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from neurocli.core.engine.runtime import memory_named, to_device
from neurocli.core.engine.state import RunState
from neurocli.core.engine.task import Batch, StepOutput
from neurocli.core.errors import NeuroError
from neurocli.core.events import Listener, Note

_SHOWN = 5


@dataclass(frozen=True)
class StepResult:
    """Hold what one optimiser step gave.

    Args:
        logs: loss, lr, grad_norm and the task's own scalars.
        participants: Whose samples were in it, when batches name them.
    """

    logs: dict[str, float]
    participants: list[str]

    @property
    def is_finite(self) -> bool:
        """Return whether loss and gradient were finite."""
        return "skipped" not in self.logs

    @property
    def is_applied(self) -> bool:
        """Return whether the weights were changed."""
        return self.is_finite and "spike" not in self.logs


def take_step(
    state: RunState, group: Iterable[Batch], sizes: Sequence[int], own: Sequence[int] | None = None
) -> StepResult:
    """Do one optimiser step over a group of batches.

    Args:
        state: The run; its position is left to the caller.
        group: The batches, or this rank's shares of them.
        sizes: Samples of each batch over all ranks.
        own: Samples of each share; None when there is one rank.

    Returns:
        Scalars to log, the same on every rank; with `skipped` when loss or gradient were not
        finite, with `spike` when the gradient was far above the usual, and nothing changed.

    Raises:
        NeuroError: Memory ran out.
    """
    with memory_named(f"step {state.progress.step + 1}"):
        return _take_step(state, group, list(sizes), list(sizes if own is None else own))


def _take_step(
    state: RunState, group: Iterable[Batch], sizes: list[int], own: list[int]
) -> StepResult:
    lr = state.peak_lr * state.schedule.set_rates(state.optimizer, state.progress.step)
    state.optimizer.zero_grad(set_to_none=True)
    losses: list[torch.Tensor] = []
    logs: dict[str, float] = {}
    shares: dict[str, float] = {}  # of the step's samples, by name: some batches have more to tell
    people: list[str] = []
    if len(sizes) > 1 and state.task.joins_batches:
        group = [_joined(state, list(group), own)]
        sizes, own = [sum(sizes)], [sum(own)]
    for number, batch in enumerate(group):
        with state.holder.micro_step(is_last=number == len(sizes) - 1):
            with state.precision.autocast():
                output = state.holder.forward(to_device(batch, state.device))
            share = _share(state, output, own[number], sizes[number]) / sum(sizes)
            # One batch per step is the common case, and a product less in its graph.
            loss = output.loss if share == 1.0 else output.loss * share
            state.holder.backward(state.precision, loss)
        losses.append(loss.detach())
        for name, value in output.logs.items() if own[number] else ():
            part = own[number] / sum(sizes)
            logs[name] = logs.get(name, 0.0) + float(value) * part
            shares[name] = shares.get(name, 0.0) + part
        people += [str(person) for person in batch.get("participant", ())]
    loss_value, norm, is_spike, logs = _apply(state, losses, logs, shares)
    logs = {"loss": loss_value, "lr": lr, "grad_norm": norm, **logs}
    if not _is_sound(state, loss_value, norm):
        logs["skipped"] = 1.0
    elif is_spike:
        logs["spike"] = 1.0
    if {"skipped", "spike"} & set(logs):
        people = [person for part in state.holder.team.gather(people) for person in part]
    return StepResult(logs, people)


def _joined(state: RunState, batches: list[Batch], own: list[int]) -> Batch:
    # A stand-in counts for nothing, so beside samples it is not wanted.
    wanted = [batch for batch, count in zip(batches, own, strict=True) if count] or batches[:1]
    return state.task.join(wanted) if len(wanted) > 1 else wanted[0]


def _share(state: RunState, output: StepOutput, own: int, size: int) -> float:
    """Return the samples that this rank's loss stands for, times the number of shares.

    Engines average over ranks, so the factor makes a mean of what must be a sum.
    """
    team = state.holder.team
    if team.is_alone or output.terms is None:
        return float(own * team.n_shares)
    terms = output.terms if own else 0
    total = float(team.total(torch.tensor(float(terms), dtype=torch.float64))) / team.n_together
    return size * terms * team.n_shares / total if total else 0.0


def _apply(
    state: RunState,
    losses: list[torch.Tensor],
    logs: dict[str, float],
    shares: dict[str, float],
) -> tuple[float, float, bool, dict[str, float]]:
    limit, holder = state.config.train.clip_norm, state.holder
    norm = holder.clip(state.precision, state.optimizer, state.trained, limit)
    # One transfer from the device per step, and before weights can be harmed.
    pair = torch.stack([torch.stack(losses).sum().float(), norm.float()])
    loss_value, norm_value = pair.tolist()
    if not holder.team.is_alone:
        # Names and all, since a rank may have nothing to tell of its part of the batch.
        told = holder.team.gather((loss_value, logs, shares))
        loss_value = sum(loss for loss, _, _ in told) / holder.team.n_ranks
        logs, shares = (_summed([part[at] for part in told]) for at in (1, 2))
    logs = {name: value / shares[name] for name, value in logs.items()}
    is_sound = _is_sound(state, loss_value, norm_value)
    is_spike = is_sound and state.guard.is_spike(norm_value)
    if is_sound and not is_spike:
        holder.step(state.precision, state.optimizer)
        if state.ema is not None:
            state.ema.update()
    else:
        holder.skip(state.precision)
    return loss_value, norm_value, is_spike, logs


def _summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _is_sound(state: RunState, loss: float, norm: float) -> bool:
    # With scaled gradients an overflow is expected now and then, and the scaler skips the step.
    return math.isfinite(loss) and (state.precision.is_scaled or math.isfinite(norm))


def count_bad(state: RunState, result: StepResult, listener: Listener) -> None:
    """Count steps in a row that could not be applied, and end the run when they are too many.

    Args:
        state: The run; the step is counted in its position already.
        result: The step.
        listener: Told of a skipped step.

    Raises:
        NeuroError: More than `train.max_bad_steps` in a row.
    """
    progress, allowed = state.progress, state.config.train.max_bad_steps
    if result.is_finite:
        progress.bad_steps = 0
        if not result.is_applied:
            listener(Note(_spike_text(state, result), "warning"))
        return
    progress.bad_steps += 1
    what = "gradient" if math.isfinite(result.logs["loss"]) else "loss"
    value = result.logs["grad_norm" if what == "gradient" else "loss"]
    shown = _people(result)
    text = f"the {what} is {value} at step {progress.step}"
    if progress.bad_steps > allowed:
        raise NeuroError(
            text + (f", as at {allowed} before it in a row" if allowed else ""),
            where=shown or None,
            hint="last.pth holds the last sound state; look at these subjects, lower --lr, or "
            "allow some with --set train.max_bad_steps=3",
        )
    listener(Note(f"{text}{f' ({shown})' if shown else ''}; the step was skipped", "warning"))


def _people(result: StepResult) -> str:
    people = list(dict.fromkeys(result.participants))
    return ", ".join(people[:_SHOWN]) + (", ..." if len(people) > _SHOWN else "")


def _spike_text(state: RunState, result: StepResult) -> str:
    shown = _people(result)
    return (
        f"the gradient norm {result.logs['grad_norm']:.3g} at step {state.progress.step} is above "
        f"{state.guard.limit():.3g}, {state.guard.factor:g} times the running median"
        f"{f' ({shown})' if shown else ''}; the step was skipped, "
        f"{state.guard.n_skipped} so far"
    )
