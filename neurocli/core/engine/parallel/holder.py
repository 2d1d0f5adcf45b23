"""How the ranks of a team hold one model: whole in one process, copied, or in shards.

A holder runs the training step, not the model alone: what it wraps is a module whose forward is
`Task.train_step`. So a task may call any method of its model, any number of times, and the engine
that keeps the ranks equal still sees one forward and one backward pass.

Every rank's loss is weighed by its share of the batch and multiplied by the number of ranks, so
that the mean over ranks, which all engines take, is the gradient of one process.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from neurocli.core.engine.parallel.team import Team
from neurocli.core.engine.precision import Precision
from neurocli.core.engine.task import Batch, StepOutput, Task
from neurocli.core.engine.weights import load_weights

Step = tuple[torch.Tensor, dict[str, float], int | None]


class TrainStep(nn.Module):
    """Make a module of a task's training step.

    Args:
        task: Owner of the maths.
        model: The model.
    """

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model, self._task = model, task

    def forward(self, batch: Batch) -> Step:
        """Return loss, logs and terms: engines look for tensors in tuples only."""
        output = self._task.train_step(self.model, batch)
        return output.loss, dict(output.logs), output.terms


class Holder:
    """Hold the model whole, in one process.

    Args:
        team: The ranks.
        task: Owner of the maths.
        model: The model on its device, frozen as it will be.
    """

    def __init__(self, team: Team, task: Task, model: nn.Module) -> None:
        self.team, self.task, self.model = team, task, model
        self._step: Any = TrainStep(task, model)

    def take(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Take the optimiser over the model's parameters and return the one to step."""
        return optimizer

    @contextlib.contextmanager
    def micro_step(self, *, is_last: bool) -> Iterator[None]:
        """Enclose forward and backward of one batch.

        Args:
            is_last: Whether the ranks exchange gradients after it.
        """
        del is_last
        yield

    def forward(self, batch: Batch) -> StepOutput:
        """Return what the task's training step gives for this rank's share of a batch."""
        loss, logs, terms = self._step(batch)
        return StepOutput(loss, logs, terms)

    def backward(self, precision: Precision, loss: torch.Tensor) -> None:
        """Add the gradients of a loss."""
        precision.backward(loss)

    def clip(
        self,
        precision: Precision,
        optimizer: torch.optim.Optimizer,
        trained: Sequence[nn.Parameter],
        limit: float | None,
    ) -> torch.Tensor:
        """Limit the norm of the gradient over all ranks and return what it was, a scalar."""
        return precision.clip(optimizer, trained, limit)

    def step(self, precision: Precision, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimiser step."""
        precision.step(optimizer)

    def skip(self, precision: Precision) -> None:
        """Close a step that is not applied."""
        precision.skip()

    def piece(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return what this rank keeps of a parameter, to be read and written."""
        return parameter.detach()

    def join(self, parameter: nn.Parameter, piece: torch.Tensor) -> torch.Tensor:
        """Return in one piece what the ranks hold like a parameter; all ranks call it."""
        del parameter
        return piece

    def divide(self, parameter: nn.Parameter, whole: torch.Tensor) -> torch.Tensor:
        """Return this rank's piece of a tensor like a parameter."""
        del parameter
        return whole

    def whole(self, value: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the model or its optimiser in one piece; all ranks call it."""
        return value

    def place(self, like: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        """Return a whole tensor as this rank holds `like`."""
        del like
        return whole

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the model's weights in one piece; all ranks call it."""
        return {name: self.whole(value) for name, value in self.model.state_dict().items()}

    def load_weights(self, weights: Mapping[str, torch.Tensor], *, label: str) -> None:
        """Take weights in one piece.

        Args:
            weights: Tensors by name.
            label: Where they come from, for errors.

        Raises:
            NeuroError: They do not fit the model.
        """
        own = self.model.state_dict()
        placed = {
            n: self.place(own[n], value) if n in own else value for n, value in weights.items()
        }
        load_weights(self.model, placed, label=label)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the optimiser's state as one process would have it; all ranks call it."""
        state = optimizer.state_dict()
        kept = {
            number: {key: self._plain(value) for key, value in own.items()}
            for number, own in state["state"].items()
        }
        return {**state, "state": kept}

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Take back what `optimizer_state` gave, from any number of ranks."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        placed = {
            number: {
                key: self.place(parameters[number], value)
                if isinstance(value, torch.Tensor) and value.ndim
                else value
                for key, value in own.items()
            }
            for number, own in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": placed})

    @contextlib.contextmanager
    def in_shards(self) -> Iterator[bool]:
        """Leave tensors as they are held while the context is open; say whether in shards."""
        yield False

    @contextlib.contextmanager
    def judged(self) -> Iterator[nn.Module]:
        """Yield the model for judging: it may be called by one rank and not by another."""
        yield self.model

    def _plain(self, value: Any) -> Any:
        return self.whole(value) if isinstance(value, torch.Tensor) else value


class Copies(Holder):
    """Hold a copy on every rank and average gradients while they are computed (DDP)."""

    def __init__(self, team: Team, task: Task, model: nn.Module) -> None:
        super().__init__(team, task, model)
        device = next(model.parameters()).device
        with warnings.catch_warnings():
            # The newer name of `broadcast_buffers` is unknown to older versions of torch.
            warnings.simplefilter("ignore", FutureWarning)
            self._step = nn.parallel.DistributedDataParallel(
                self._step,
                device_ids=[device] if device.type == "cuda" else None,
                # Batch statistics are the same on all ranks already.
                broadcast_buffers=False,
                # An objective may leave parts of a model out, such as another one's mask token.
                find_unused_parameters=True,
                gradient_as_bucket_view=True,
            )

    @contextlib.contextmanager
    def micro_step(self, *, is_last: bool) -> Iterator[None]:
        """Enclose one batch; gradients are exchanged after the last of a step."""
        with contextlib.nullcontext() if is_last else self._step.no_sync():
            yield
