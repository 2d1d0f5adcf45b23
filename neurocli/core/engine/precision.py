"""Mixed precision as one policy: which operations run narrow, and how small gradients survive.

Weights, optimiser and loss stay float32. bf16 needs no loss scaling and works on every device;
fp16 needs it, and torch offers it on CUDA only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from neurocli.core.config.run import Precision as PrecisionName
from neurocli.core.errors import UsageError

_NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Hold the arithmetic of one run.

    Args:
        name: fp32, bf16 or fp16.
        device: Device of the run.

    Raises:
        UsageError: fp16 away from CUDA.
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        if name == "fp16" and device.type != "cuda":
            raise UsageError(
                f"'fp16' needs a CUDA device, this run is on {device.type}",
                where="train.precision",
                hint="use --precision bf16 or fp32",
            )
        self.name = name
        self._device = device
        # Disabled it is a stand-in that costs nothing, so the loop has one path.
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    @property
    def is_scaled(self) -> bool:
        """Return whether gradients are scaled, so that an infinite one is the scaler's business."""
        return self._scaler.is_enabled()

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return a fresh context in which a forward pass runs."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=_NARROW[self.name])

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of `loss`, a scalar."""
        torch.autograd.backward(self._scaler.scale(loss) if self.is_scaled else loss)

    def clip(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        max_norm: float | None,
    ) -> torch.Tensor:
        """Unscale the gradients, limit their norm and return what it was before.

        Args:
            optimizer: The optimiser that will step.
            parameters: The trained parameters.
            max_norm: Limit of the 2-norm over all gradients; None only measures.

        Returns:
            Scalar tensor, the norm before clipping.
        """
        if self.is_scaled:
            self._scaler.unscale_(optimizer)
        if max_norm is None:
            return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimiser step, unless scaled gradients overflowed."""
        if self.is_scaled:
            self._scaler.step(optimizer)
            self._scaler.update()
        else:
            optimizer.step()

    def skip(self) -> None:
        """Close a step that is not applied; the scaler counts on one closing per unscaling."""
        if self.is_scaled:
            self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return the scaler's state, empty when nothing is scaled."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        if self.is_scaled and state:
            self._scaler.load_state_dict(dict(state))
