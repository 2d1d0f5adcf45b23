"""DeepSpeed ZeRO: optimiser state (1), gradients (2) and weights (3) in shards; 0 shards nothing.

Its configuration is made from ours: the stage is `train.zero_stage`, clipping is ours, and one
micro batch is one of our batches. Checkpoints hold what one process would have, so a run may go on
under any other strategy.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from neurocli.core.config.run import TrainBlock
from neurocli.core.engine.parallel.holder import Holder
from neurocli.core.engine.parallel.team import Team, open_group_of_one
from neurocli.core.engine.precision import Precision
from neurocli.core.engine.task import Task
from neurocli.core.errors import MissingDependencyError, UsageError

_NEVER = 10**9
_BUCKET = 50_000_000


class Zero(Holder):
    """Hold the model under DeepSpeed.

    Args:
        team: The ranks.
        task: Owner of the maths.
        model: On its device, frozen as it will be.
        train: Stage, clipping, and what is refused.

    Raises:
        MissingDependencyError: DeepSpeed is not installed.
        UsageError: Steps are to be judged before they are taken, which the stages above 0 cannot.
    """

    def __init__(self, team: Team, task: Task, model: nn.Module, train: TrainBlock) -> None:
        super().__init__(team, task, model)
        self._stage, self._clip_norm = train.zero_stage, train.clip_norm
        if self._stage > 0 and train.spike_factor is not None:
            raise UsageError(
                "DeepSpeed clips and steps at once, so no step can be held back for a spike",
                where="train.spike_factor",
                hint="use --parallel ddp or fsdp, or train.zero_stage=0",
            )
        self._deepspeed = _import_deepspeed(next(model.parameters()).device)
        open_group_of_one()
        self._device = next(model.parameters()).device
        self._copy = copy.deepcopy(model).to("cpu") if self._stage == 3 else None
        self._base: torch.optim.Optimizer
        self._groups: list[dict[str, Any]] = []
        self._engine: Any = None

    def take(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Build the engine around an optimiser and return the one whose rates are set."""
        self._base, self._groups = optimizer, optimizer.state_dict()["param_groups"]
        self._order = [p for group in optimizer.param_groups for p in group["params"]]
        os.environ.setdefault("LOCAL_RANK", str(self.team.local_rank))
        self._engine, *_ = self._deepspeed.initialize(
            model=self._step,
            optimizer=optimizer,
            config=engine_config(self._stage, self._clip_norm, self.team.n_ranks),
            dist_init_required=False,
        )
        self._step = self._engine
        return optimizer

    @contextlib.contextmanager
    def micro_step(self, *, is_last: bool) -> Iterator[None]:
        """Enclose one batch; its gradients join those of the step."""
        self._engine.set_gradient_accumulation_boundary(is_last)
        yield

    def backward(self, precision: Precision, loss: torch.Tensor) -> None:
        """Add the gradients of a loss."""
        del precision
        self._engine.backward(loss)

    def clip(
        self,
        precision: Precision,
        optimizer: torch.optim.Optimizer,
        trained: Sequence[nn.Parameter],
        limit: float | None,
    ) -> torch.Tensor:
        """Return the norm of the gradient; above stage 0 the engine clips and steps with it.

        A norm that is not finite changes nothing there either: the engine skips the step.
        """
        if self._stage == 0:
            return precision.clip(optimizer, trained, limit)
        self._engine.step()
        return torch.as_tensor(self._engine.get_global_grad_norm())

    def step(self, precision: Precision, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimiser step, where that was not done."""
        if self._stage == 0:
            self._engine.step()

    def skip(self, precision: Precision) -> None:
        """Close a step that is not applied."""
        if self._stage == 0:
            self._engine.zero_grad()

    def piece(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return what this rank keeps of a parameter, to be read and written."""
        shard: torch.Tensor = getattr(parameter, "ds_tensor", parameter).detach()
        return shard

    def join(self, parameter: nn.Parameter, piece: torch.Tensor) -> torch.Tensor:
        """Return in one piece what the ranks hold like a parameter; all ranks call it."""
        if self._stage < 3:
            return piece
        parts = [torch.empty_like(piece) for _ in range(self.team.n_ranks)]
        dist.all_gather(parts, piece.contiguous())
        like: Any = parameter
        return torch.cat(parts)[: like.ds_numel].view(like.ds_shape)

    def divide(self, parameter: nn.Parameter, whole: torch.Tensor) -> torch.Tensor:
        """Return this rank's piece of a tensor like a parameter; the last one may be padded."""
        if self._stage < 3:
            return whole
        size = self.piece(parameter).numel()
        filled = whole.new_zeros(size * self.team.n_ranks)
        filled[: whole.numel()] = whole.flatten()
        return filled[self.team.rank * size : (self.team.rank + 1) * size].to(self._device)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the model's weights in one piece; all ranks call it."""
        if self._stage < 3:
            return super().weights()
        found: dict[str, torch.Tensor] = dict(self.model.state_dict())
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            found[name] = self.join(parameter, self.piece(parameter))
        return found

    def load_weights(self, weights: Mapping[str, torch.Tensor], *, label: str) -> None:
        """Take weights in one piece.

        Raises:
            NeuroError: They do not fit the model.
        """
        if self._copy is None:
            super().load_weights(weights, label=label)
        else:
            Holder(self.team, self.task, self._copy).load_weights(weights, label=label)
            named = dict(self.model.named_parameters(remove_duplicate=False))
            with torch.no_grad():
                for name, parameter in named.items():
                    self.piece(parameter).copy_(self.divide(parameter, weights[name]))
                for name, buffer in self.model.named_buffers():
                    if name in weights:
                        buffer.copy_(weights[name])

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the optimiser's state as one process would have it; all ranks call it."""
        if self._stage == 0:
            return super().optimizer_state(optimizer)
        if self._base.state:
            self._link_states()  # the engine links states of its first group of weights only
        own: dict[str, Any] = next((state for state in self._base.state.values() if state), {})
        utils = self._deepspeed.utils
        state = {
            number: {
                key: value.clone()
                if not value.ndim
                else utils.safe_get_full_optimizer_state(parameter, key)
                for key, value in own.items()
            }
            for number, parameter in enumerate(self._order if own else ())
        }
        rates = [{"lr": group["lr"]} for group in self._base.param_groups]
        groups = [{**group, **rate} for group, rate in zip(self._groups, rates, strict=True)]
        return {"state": state, "param_groups": groups}

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Take back what `optimizer_state` gave, from any number of ranks."""
        if self._stage == 0:
            super().load_optimizer(optimizer, state)
            return
        # The engine steps a copy of the weights, which must be those that were just put in.
        self._engine.optimizer.refresh_fp32_params()
        first = next(iter(state["state"].values()), None)
        if first is None:
            return
        for flat in self._flat_parameters():
            self._base.state[flat] = {
                key: torch.zeros_like(flat.detach()) if value.ndim else value.clone()
                for key, value in first.items()
            }
        self._link_states()
        for number, parameter in enumerate(self._order):
            for key, value in state["state"][number].items():
                if value.ndim:
                    self._set_state(parameter, key, value.to(self._device))

    def _set_state(self, parameter: nn.Parameter, key: str, value: torch.Tensor) -> None:
        utils = self._deepspeed.utils
        if self._stage == 3:
            utils.safe_set_local_optimizer_state(parameter, self.divide(parameter, value), key)
        else:
            utils.safe_set_full_optimizer_state(parameter, value, key)

    def _flat_parameters(self) -> list[torch.Tensor]:
        inner = self._engine.optimizer
        found: list[torch.Tensor] = (
            inner.fp32_partitioned_groups_flat
            if self._stage == 3
            else inner.single_partition_of_fp32_groups
        )
        return found

    def _link_states(self) -> None:
        if self._stage == 3:
            return
        inner = self._engine.optimizer
        for group, flat in zip(inner.bit16_groups, self._flat_parameters(), strict=True):
            self._deepspeed.utils.lazy_init_hp_params_optimizer_state(group, flat, self._base.state)

    @contextlib.contextmanager
    def judged(self) -> Iterator[nn.Module]:
        """Yield a whole model: a copy where weights are in shards."""
        if self._copy is None:
            yield self.model
            return
        self._copy.load_state_dict(self.weights())
        try:
            yield self._copy.to(self._device)
        finally:
            self._copy.to("cpu")


def engine_config(stage: int, clip_norm: float | None, n_ranks: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration for ours.

    Args:
        stage: 0 to 3.
        clip_norm: Limit of the gradient's norm; None for none.
        n_ranks: Number of ranks.

    >>> engine_config(2, 1.0, 4)["train_batch_size"]
    4
    """
    return {
        # The engine counts batches; how many samples are in one is ours to know.
        "train_batch_size": n_ranks,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # At stage 0 the engine leaves gradients to be clipped by the loop.
        "gradient_clipping": (clip_norm or 0.0) if stage else 0.0,
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            "reduce_bucket_size": _BUCKET,
            "allgather_bucket_size": _BUCKET,
            # Every weight is sharded: one that stays whole could not be averaged in shards.
            "stage3_param_persistence_threshold": 0,
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": _NEVER,
    }


def _import_deepspeed(device: torch.device) -> Any:
    # It asks the environment which device to work on, once, when it is imported.
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    try:
        import deepspeed
    except ImportError as error:
        raise MissingDependencyError(
            f"--parallel deepspeed needs the package deepspeed ({error})",
            where="train.parallel",
            hint="DS_BUILD_OPS=0 pip install deepspeed; or use --parallel fsdp, which shards too",
        ) from error
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if device.type == "cpu":
        # Its own sums over shared memory are compiled at first use, which takes minutes and a
        # compiler; gloo's do. The attribute of that name is torch itself.
        backend: Any = importlib.import_module("deepspeed.comm.torch")
        backend.build_shm_op = lambda: None
    return deepspeed
