"""Optimisers and learning-rate schedules.

A schedule is a pure function of the optimiser step, so its only state is a number that the loop
counts anyway. It multiplies the rate each parameter group was built with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from neurocli.core.config.run import TrainBlock
from neurocli.core.errors import UsageError

_UNDECAYED = frozenset({"A_log", "D", "dt_bias"})  # time constants of a state space, not weights
_HEAD = ("output_head.",)
CYCLE_GROWTH = 2.0
"""Length of a cycle of `cosine_restarts` over the one before."""


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Return whether weight decay belongs on a parameter.

    Norms, biases and every other vector are left out: decay would pull a gain of one to zero.
    So are state-space parameters by name, and whatever its module marked `_no_weight_decay`.

    Args:
        name: Dotted name inside the model.
        parameter: The parameter.
    """
    leaf = name.rpartition(".")[2]
    marked = getattr(parameter, "_no_weight_decay", False)
    return not (marked or parameter.ndim < 2 or leaf in _UNDECAYED or leaf.endswith("bias"))


def freeze_backbone(model: nn.Module) -> None:
    """Freeze everything but the head.

    Args:
        model: A model whose `head_prefixes` (default `("output_head.",)`) begin the names of what
            stays trained.

    Raises:
        UsageError: The model has no head.
    """
    prefixes = _head_prefixes(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(
            f"{type(model).__name__} has no head to train: no parameter begins with "
            + " or ".join(prefixes),
            where="train.freeze",
            hint="take a model with a head, such as fmamba_mlp, or leave --freeze out",
        )


def set_training(model: nn.Module, *, frozen: bool) -> None:
    """Put a model into training mode; a frozen backbone stays in evaluation mode.

    Dropout and batch statistics of a backbone that does not learn would only add noise.
    """
    model.train()
    if frozen:
        prefixes = _head_prefixes(model)
        # Set one by one: `train()` of a parent would wake the children too.
        for name, module in model.named_modules():
            module.training = f"{name}.".startswith(prefixes)


def _head_prefixes(model: nn.Module) -> tuple[str, ...]:
    return tuple(getattr(model, "head_prefixes", _HEAD))


def peak_rate(train: TrainBlock, batch_size: int) -> float:
    """Return the peak learning rate of a run.

    It is `lr`, unless scaling is asked for: then lr times (batch_size * accumulate /
    lr_base_batch), or times its square root.

    Args:
        train: Rate and scaling.
        batch_size: Samples per batch.

    >>> peak_rate(TrainBlock(lr=1e-3, lr_scaling="linear", lr_base_batch=32), 8)
    0.00025
    """
    ratio = batch_size * train.accumulate / train.lr_base_batch
    return train.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[train.lr_scaling]


def build_optimizer(
    model: nn.Module, train: TrainBlock, lr: float | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser over the trained parameters of a model.

    Args:
        model: The model; parameters without gradient are left out.
        train: Kind, rate, decay and moments. `decay_all` decays every parameter.
        lr: Peak rate from `peak_rate`; None takes `train.lr` as it is.

    Returns:
        AdamW or SGD with two groups (decayed, not decayed) at most for each of the model's
        `rate_factors`; each keeps `initial_lr`.

    Raises:
        UsageError: Nothing is left to train, or factors that are AdamW's meet SGD.
    """
    lr = train.lr if lr is None else lr
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise UsageError(f"{type(model).__name__} has no parameter to train", where="model")
    factors = rate_factors(model)
    if factors and train.optimizer != "adamw":
        raise UsageError(
            f"the model scales its learning rates for adamw, not for {train.optimizer}",
            where="train.optimizer",
            hint="set it to adamw, or leave model.mup_base_dim out",
        )
    kinds: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        kind = (train.decay_all or is_decayed(name, parameter), factors.get(name, 1.0))
        kinds.setdefault(kind, []).append(parameter)
    groups = [
        {
            "params": kinds[is_kept_small, factor],
            # Rate times decay stays what it is without factors.
            "weight_decay": train.weight_decay / factor if is_kept_small else 0.0,
            "lr": lr * factor,
            "initial_lr": lr * factor,
        }
        for is_kept_small, factor in sorted(kinds, reverse=True)
    ]
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=train.betas)
    return torch.optim.SGD(groups, lr=lr, momentum=train.momentum)


def rate_factors(model: nn.Module) -> dict[str, float]:
    """Return by what a model wants the rates of its parameters multiplied, by dotted name.

    Args:
        model: Modules in it may carry `rate_factors`, a mapping from their own names.
    """
    found: dict[str, float] = {}
    for prefix, part in model.named_modules():
        own = getattr(part, "rate_factors", {})
        found |= {f"{prefix}.{name}" if prefix else name: own[name] for name in own}
    return found


@dataclass(frozen=True)
class Schedule:
    """Give the learning rate of every step as a share of the peak.

    A cycle c of length C_c warms up over w steps from m to M_c, then falls along a half cosine:
    f(s) = m + (M_c - m) s/w for s < w, else m + (M_c - m)(1 + cos(pi (s - w)/(C_c - w)))/2 with
    M_c = gamma^c and C_(c+1) = int((C_c - w) growth) + w. Plain cosine is one cycle over the whole
    run. `starts_low` makes step 0 run at m even without warm-up, as the family's restarts do.

    Args:
        n_first: Steps of the first cycle, C_0, or of the whole run; more than `n_warmup`.
        n_warmup: Steps of warm-up, w, >= 0.
        floor: Lowest share, m, in [0, 1].
        gamma: Peak of a cycle over the one before.
        growth: Length of a cycle over the one before, >= 1.
        is_flat: Stay at the peak after the warm-up.
        starts_low: Run step 0 at the lowest share.
    """

    n_first: int
    n_warmup: int = 0
    floor: float = 0.0
    gamma: float = 1.0
    growth: float = 1.0
    is_flat: bool = False
    starts_low: bool = False

    def factor(self, step: int) -> float:
        """Return the share of the peak rate at optimiser step `step`, >= 0.

        >>> [round(Schedule(8, n_warmup=2).factor(step), 3) for step in (0, 1, 2, 5, 8)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
        """
        if self.is_flat:
            return self._warm(step, 1.0) if step < self.n_warmup else 1.0
        # Their first step is taken before the scheduler has set a rate.
        if step == 0 and self.starts_low:
            return self.floor
        length, peak = self.n_first, 1.0
        while step >= length:
            step -= length
            length = int((length - self.n_warmup) * self.growth) + self.n_warmup
            peak *= self.gamma
        if step < self.n_warmup:
            return self._warm(step, peak)
        angle = math.pi * (step - self.n_warmup) / (length - self.n_warmup)
        return self.floor + (peak - self.floor) * (1.0 + math.cos(angle)) / 2.0

    def _warm(self, step: int, peak: float) -> float:
        return self.floor + (peak - self.floor) * step / self.n_warmup

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set every group's rate for `step` and return the share of the peak."""
        share = self.factor(step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
        return share


def build_schedule(train: TrainBlock, n_steps: int) -> Schedule:
    """Return the schedule of a run.

    Args:
        train: Kind and shares of the run.
        n_steps: Optimiser steps of the whole run.

    Raises:
        UsageError: The warm-up leaves nothing of the first cycle.
    """
    n_warmup = int(train.warmup * n_steps)
    if train.schedule == "constant":
        return Schedule(n_steps, n_warmup, train.min_lr_ratio, is_flat=True)
    if train.schedule == "cosine":
        return Schedule(n_steps, n_warmup, train.min_lr_ratio)
    n_first = int(train.restart_cycle * n_steps)
    if n_warmup >= n_first:
        raise UsageError(
            f"a warm-up of {n_warmup} steps leaves nothing of a first cycle of {n_first}",
            where="train.warmup",
            hint="lower train.warmup or raise train.restart_cycle",
        )
    return Schedule(
        n_first,
        n_warmup,
        train.min_lr_ratio,
        gamma=train.restart_gamma,
        growth=CYCLE_GROWTH,
        starts_low=True,
    )
