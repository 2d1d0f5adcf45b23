"""Short convolutions over frames as matrix products, with gradients written out.

Autograd of slices and joins fills and adds whole tensors for every piece; written out, each tensor
of a layer is touched once. Values are those of `conv1d` up to the order of sums. Under autocast
the plain form is used.

Letters: B windows, L frames, C channels, H width, k taps, M = L - k + 1 frames of the result.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

_WINDOWS = 128


def shifted_sum(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the convolution (B, M, H): each frame is multiplied once, then products are added.

    Best where C is larger than H, as in a first layer over neurons.

    Args:
        x: (B, L, C).
        weight: (H, C, k).
        bias: (H,).
    """
    if torch.is_autocast_enabled(x.device.type):
        return F.conv1d(x.mT, weight, bias).mT
    return cast(Tensor, _ShiftedSum.apply(x, weight, bias))  # type: ignore[no-untyped-call]


def side_by_side(x: Tensor, weight: Tensor, bias: Tensor, *, is_residual: bool = False) -> Tensor:
    """Return the convolution (B, M, H) over neighbouring frames laid side by side.

    Args:
        x: (B, L, C).
        weight: (H, C, k).
        bias: (H,).
        is_residual: Return x without its outer frames plus GELU of the convolution (k = 3, C = H).
    """
    if torch.is_autocast_enabled(x.device.type):
        found = F.conv1d(x.mT, weight, bias).mT
        return x[:, 1:-1] + F.gelu(found) if is_residual else found
    return cast(Tensor, _SideBySide.apply(x, weight, bias, is_residual))  # type: ignore[no-untyped-call]


class _ShiftedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        width, _, taps = weight.shape
        frames = x.shape[1] - taps + 1
        table = weight.permute(1, 2, 0).flatten(1)  # (C, k H)
        total = x.new_empty(x.shape[0], frames, width)
        # Few windows at a time, so that the products are still in the cache when they are added.
        for part, into in zip(torch.split(x, _WINDOWS), torch.split(total, _WINDOWS), strict=True):
            every = (part.flatten(0, 1) @ table).view(len(part), part.shape[1], -1)
            torch.add(every[:, :frames, :width], bias, out=into)
            for tap in range(1, taps):
                into.add_(every[:, tap : tap + frames, tap * width : (tap + 1) * width])
        ctx.save_for_backward(x, table)
        ctx.sizes = (width, taps, frames)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        x, table = ctx.saved_tensors
        width, taps, frames = ctx.sizes
        of_table = torch.zeros_like(table)
        of_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        spread = grad.new_zeros(min(_WINDOWS, x.shape[0]), x.shape[1], taps * width)
        for number, (part, own) in enumerate(
            zip(torch.split(x, _WINDOWS), torch.split(grad, _WINDOWS), strict=True)
        ):
            filled = spread[: len(own)]  # its margins stay zero
            for tap in range(taps):
                filled[:, tap : tap + frames, tap * width : (tap + 1) * width] = own
            flat = filled.flatten(0, 1)
            of_table.addmm_(part.flatten(0, 1).T, flat)
            if of_x is not None:
                first = number * _WINDOWS
                of_x[first : first + len(own)] = (flat @ table.T).view(part.shape)
        of_weight = of_table.view(-1, taps, width).permute(2, 0, 1)
        return of_x, of_weight, grad.sum((0, 1))


class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, is_residual: bool) -> Tensor:
        taps = weight.shape[2]
        frames = x.shape[1] - taps + 1
        if frames == 1:
            beside = x.flatten(1)  # already side by side
        else:
            beside = torch.cat([x[:, tap : tap + frames] for tap in range(taps)], -1).flatten(0, 1)
        table = weight.permute(0, 2, 1).flatten(1)  # (H, k C)
        inner = torch.addmm(bias, beside, table.T).view(x.shape[0], frames, -1)
        ctx.save_for_backward(beside, table, inner if is_residual else None)
        ctx.sizes = (x.shape, taps, frames, is_residual)
        return F.gelu(inner).add_(x[:, 1:-1]) if is_residual else inner

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        beside, table, inner = ctx.saved_tensors
        shape, taps, frames, is_residual = ctx.sizes
        own = torch.ops.aten.gelu_backward(grad, inner) if is_residual else grad.contiguous()
        flat = own.flatten(0, 1)
        of_table = flat.T @ beside
        of_weight = of_table.view(-1, taps, shape[2]).permute(0, 2, 1)
        of_x = None
        if ctx.needs_input_grad[0]:
            pieces = (flat @ table).view(shape[0], frames, taps, shape[2])
            if frames == 1:
                of_x = pieces[:, 0]
            else:
                of_x = grad.new_empty(shape)
                of_x[:, :frames] = pieces[:, :, 0]
                of_x[:, frames:] = 0
                for tap in range(1, taps):
                    of_x[:, tap : tap + frames] += pieces[:, :, tap]
            if is_residual:
                of_x[:, 1:-1] += grad
        return of_x, of_weight, flat.sum(0), None
