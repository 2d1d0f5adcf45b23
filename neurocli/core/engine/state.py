"""Everything a run must remember to go on as if it had never stopped.

A position is (epoch, batch, step) and holds between optimiser steps only: `epoch` counts epochs
that are judged, `batch` the batches taken of the one under way. Order and schedule are functions
of it, so they need no state of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from neurocli.core.config.run import RunConfig, TrainBlock
from neurocli.core.engine.ema import Ema
from neurocli.core.engine.guard import SpikeGuard
from neurocli.core.engine.optim import (
    build_optimizer,
    build_schedule,
    freeze_backbone,
    peak_rate,
    set_training,
)
from neurocli.core.engine.parallel.choose import open_holder
from neurocli.core.engine.parallel.holder import Holder
from neurocli.core.engine.parallel.team import current_team
from neurocli.core.engine.precision import Precision
from neurocli.core.engine.runtime import (
    package_versions,
    restore_rng,
    rng_state,
    seed_everything,
)
from neurocli.core.engine.task import Task
from neurocli.core.errors import NeuroError

_RANK_STRIDE = 0x9E3779B1  # far apart, so that no rank's seed is another run's


@dataclass
class Progress:
    """Say where a run is.

    Args:
        epoch: Epochs finished and judged.
        batch: Batches taken of the epoch under way.
        step: Optimiser steps done, skipped ones included.
        bad_steps: Skipped steps in a row.
        loss_sum: Sum over the epoch's samples so far of their batch's loss.
        n_samples: How many these are.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    bad_steps: int = 0
    loss_sum: float = 0.0
    n_samples: int = 0

    @property
    def mean_loss(self) -> float:
        """Return the mean training loss of the epoch so far, NaN before its first sample."""
        return self.loss_sum / self.n_samples if self.n_samples else float("nan")

    def close_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch += 1
        self.batch, self.loss_sum, self.n_samples = 0, 0.0, 0


@dataclass(frozen=True)
class Best:
    """Name the best judgement so far; value and epoch are None before the first finite one."""

    metric: str
    part: str
    value: float | None = None
    epoch: int | None = None


@dataclass(frozen=True)
class Plan:
    """Say how long a run is.

    Args:
        n_batches: Batches per epoch.
        accumulate: Batches per optimiser step; the last step of an epoch may take fewer.
        n_steps: Optimiser steps of the whole run.
    """

    n_batches: int
    accumulate: int
    n_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Return the optimiser steps of one epoch."""
        return (self.n_batches + self.accumulate - 1) // self.accumulate


def plan_run(train: TrainBlock, n_batches: int) -> Plan:
    """Return the length of a run: `train.steps`, or else `train.epochs` whole epochs."""
    epoch = Plan(n_batches, train.accumulate, 0).steps_per_epoch
    return Plan(n_batches, train.accumulate, train.steps or train.epochs * epoch)


class RunState:
    """Hold the moving parts of one run.

    Args:
        task: Owner of the maths.
        model: The model, with the weights to start from.
        config: The run's configuration.
        device: Device of the run; the model is moved there.
        plan: Length of the run.
        best: What judges it, without a value yet.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        config: RunConfig,
        *,
        device: torch.device,
        plan: Plan,
        best: Best,
    ) -> None:
        train = config.train
        self.task, self.config, self.device, self.plan = task, config, device, plan
        self.model = model.to(device)
        if train.freeze:  # before whatever asks which parameters are trained
            freeze_backbone(model)
        self.n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.precision = Precision(train.precision, device)
        self.peak_lr = peak_rate(train, config.data.batch_size)
        # Engines that shard put other parameters into the model, which are the ones to train.
        self.holder: Holder = open_holder(current_team(), task, self.model, train)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = self.holder.take(build_optimizer(model, train, self.peak_lr))
        self.schedule = build_schedule(train, plan.n_steps)
        self.ema = Ema(model, train.ema, self.holder) if train.ema is not None else None
        self.guard = SpikeGuard(train.spike_factor)
        self.progress = Progress()
        self.best = best

    def start(self, resume: Mapping[str, Any] | None) -> None:
        """Seed a fresh run, or take back the state of a stopped one.

        Args:
            resume: Payload of its checkpoint; None starts anew.

        Raises:
            NeuroError: The payload is of another model, or has weights only.
        """
        team = self.holder.team
        if resume is None:
            # Rank 0 draws what one process would; what the others draw must not be the same.
            seed_everything(self.config.run.seed + team.data_rank * _RANK_STRIDE)
            return
        if resume.get("optimizer") is None or resume.get("rng") is None:
            raise NeuroError(
                "the checkpoint holds weights, but not the state of a run",
                where="--resume",
                hint="resume from last.pth, or start a new run from it with --init-from",
            )
        # Weights first: the average takes its own from the model, then puts the trained ones back.
        self.holder.load_weights(resume["state_dict"], label="--resume")
        if self.ema is not None:
            self.ema.load_state_dict(resume["ema"])
        self.holder.load_optimizer(self.optimizer, resume["optimizer"])
        self.precision.load_state_dict(resume["scaler"])
        self.guard.load_state_dict(resume.get("guard"))
        self.task.load_state_dict(resume["task_state"])
        self.progress = Progress(**resume["progress"])
        self.best = Best(**resume["best"])
        # Last: whatever was drawn while setting up is forgotten.
        states = [resume["rng"], *(resume.get("rank_rng") or ())]
        if team.n_ranks == len(states):
            restore_rng(states[team.rank])
        elif team.is_first:
            restore_rng(states[0])
        else:  # other ranks than before: their draws start anew, as functions of the position
            own = team.data_rank * _RANK_STRIDE
            seed_everything(self.config.run.seed + own + self.progress.step)

    def ranks_before(self, resume: Mapping[str, Any]) -> int:
        """Return how many ranks saved a checkpoint."""
        return 1 + len(resume.get("rank_rng") or ())

    def set_training(self) -> None:
        """Put the model into training mode, a frozen backbone excepted."""
        set_training(self.model, frozen=self.config.train.freeze)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the model holds the weights to use: the average, if any."""
        return self.ema.applied() if self.ema is not None else contextlib.nullcontext()

    def payload(self, *, weights_only: bool = False) -> dict[str, Any]:
        """Return the state as tensors and plain values, as one process would have it.

        All ranks call it; what rank 0 gets is the whole.

        Args:
            weights_only: Leave out what only resuming needs; the keys stay, with None.
        """
        with self.averaged():
            weights = self.holder.weights()
            # Under an average the tensors above are put back when the context closes.
            if self.ema is not None:
                weights = {name: value.clone() for name, value in weights.items()}
            ema = self.ema.state_dict() if self.ema is not None and not weights_only else None
        return {
            "versions": package_versions(),
            "state_dict": weights,
            "optimizer": None if weights_only else self.holder.optimizer_state(self.optimizer),
            "scaler": None if weights_only else self.precision.state_dict(),
            "ema": ema,
            "guard": None if weights_only else self.guard.state_dict(),
            "task_state": self.task.state_dict(),
            **({"rng": None} if weights_only else self._random_state()),
            "progress": asdict(self.progress),
            "best": asdict(self.best),
        }

    def _random_state(self) -> dict[str, Any]:
        first, *rest = self.holder.team.gather(rng_state(self.device))
        return {"rng": first, "rank_rng": rest} if rest else {"rng": first}
