"""Weights, gradients and optimiser state in shards, one per rank (FSDP2, `fully_shard`).

The training step is the outermost unit, so whatever a task does with its model happens while the
weights are together. A model's `shard_units()` are its blocks that are gathered one at a time.
Judging happens on a whole copy, because ranks judge unlike numbers of batches.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from neurocli.core.engine.parallel.holder import Holder
from neurocli.core.engine.parallel.team import Team, open_group_of_one
from neurocli.core.engine.precision import Precision
from neurocli.core.engine.task import Task


class Shards(Holder):
    """Hold a shard of every weight on every rank.

    Args:
        team: The ranks.
        task: Owner of the maths.
        model: On its device, frozen as it will be.
        blocks: Parts of it that are gathered one at a time, inner ones first.
    """

    def __init__(
        self, team: Team, task: Task, model: nn.Module, blocks: Sequence[nn.Module] = ()
    ) -> None:
        super().__init__(team, task, model)
        open_group_of_one()
        self._device = next(model.parameters()).device
        self._is_joining = True
        self._copy = copy.deepcopy(model).to("cpu")
        mesh = init_device_mesh(self._device.type, (team.n_ranks,))
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(self._step, mesh=mesh)

    @contextlib.contextmanager
    def in_shards(self) -> Iterator[bool]:
        """Leave tensors in shards while the context is open."""
        self._is_joining = False
        try:
            yield True
        finally:
            self._is_joining = True

    @contextlib.contextmanager
    def micro_step(self, *, is_last: bool) -> Iterator[None]:
        """Enclose one batch; gradients are reduced to their shards after the last of a step."""
        self._step.set_requires_gradient_sync(is_last)
        self._step.set_is_last_backward(is_last)
        yield

    def clip(
        self,
        precision: Precision,
        optimizer: torch.optim.Optimizer,
        trained: Sequence[nn.Parameter],
        limit: float | None,
    ) -> torch.Tensor:
        """Limit the norm of the gradient over all shards and return what it was, a scalar."""
        norm: Any = precision.clip(optimizer, trained, limit)
        total: torch.Tensor = norm.full_tensor()
        return total

    def piece(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return this rank's shard of a parameter, to be read and written."""
        shard: Any = parameter.detach()
        found: torch.Tensor = shard.to_local()
        return found

    def join(self, parameter: nn.Parameter, piece: torch.Tensor) -> torch.Tensor:
        """Return in one piece what the ranks hold like a parameter; all ranks call it."""
        assert isinstance(parameter, DTensor)
        held = DTensor.from_local(
            piece,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
        return self.whole(held)

    def divide(self, parameter: nn.Parameter, whole: torch.Tensor) -> torch.Tensor:
        """Return this rank's shard of a tensor like a parameter."""
        placed = self.place(parameter, whole)
        assert isinstance(placed, DTensor)
        return placed.to_local()

    def whole(self, value: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the model or its optimiser in one piece; all ranks call it."""
        return value.full_tensor() if isinstance(value, DTensor) and self._is_joining else value

    def place(self, like: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Return a whole tensor in shards as `like` is; nothing is sent."""
        if not isinstance(like, DTensor):
            return whole
        whole = whole.to(device=self._device, dtype=like.dtype)
        return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)

    @contextlib.contextmanager
    def judged(self) -> Iterator[nn.Module]:
        """Yield a whole copy of the model with its weights of now."""
        self._copy.load_state_dict(self.weights())
        try:
            yield self._copy.to(self._device)
        finally:
            self._copy.to("cpu")
