"""Batch statistics over all ranks, so that a batch that is divided is normalised like a whole one.

torch's synchronised form works on GPUs only; this one is two sums over ranks on any device, with
gradients through them. Letters: B samples, C channels, N values of a channel over all ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from neurocli.core.nn.data_group import data_group, n_data_ranks


class _Total(torch.autograd.Function):
    """Sum a tensor over ranks; the gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Return the sum."""
        total = own.clone()
        dist.all_reduce(total, group=data_group())
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the sum of gradients."""
        total = grads[0].clone()
        dist.all_reduce(total, group=data_group())
        return total


def total_over_ranks(own: Tensor) -> Tensor:
    """Return the sum of a tensor over ranks, with gradient; `own` itself in one process."""
    if n_data_ranks() == 1:
        return own
    found: Tensor = _Total.apply(own)  # type: ignore[no-untyped-call]
    return found


class _GlobalNorm(_BatchNorm):
    """Normalise by mean and variance over the batches of all ranks."""

    def _check_input_dim(self, input: Tensor) -> None:
        del input

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input (B, C, ...), like a batch norm over all ranks."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        count = x.new_tensor([x.numel() / x.shape[1]])
        n, sums = total_over_ranks(torch.cat([count, x.sum(axes)])).tensor_split([1])
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean = sums / n
        centred = x - mean.view(shape)
        variance = total_over_ranks(centred.square().sum(axes)) / n
        self._keep(mean.detach(), variance.detach(), float(n.detach()))
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    def _keep(self, mean: Tensor, variance: Tensor, n: float) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        share = 1.0 / float(self.num_batches_tracked) if momentum is None else momentum
        self.running_mean.lerp_(mean, share)
        # Running variances are unbiased, as torch has them.
        self.running_var.lerp_(variance * (n / max(n - 1.0, 1.0)), share)


def use_global_statistics(model: nn.Module) -> int:
    """Have every batch norm of a model normalise over all ranks; names of weights stay.

    Args:
        model: Changed in place.

    Returns:
        How many there were.
    """
    found = [module for module in model.modules() if type(module) in _KINDS]
    for module in found:
        module.__class__ = _merged(type(module))
    return len(found)


_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MERGED: dict[type, type] = {}


def _merged(kind: type) -> type:
    # Still an instance of its kind, which other code may ask for.
    return _MERGED.setdefault(kind, type(f"Global{kind.__name__}", (_GlobalNorm, kind), {}))
