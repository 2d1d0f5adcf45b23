"""Short convolutions over frames as matrix products, with gradients written out.

Memory runs frames first, so each tap of a kernel meets one unbroken stretch of rows: a convolution
is one product per tap, added in place, and nothing is copied, joined or filled. Values are those of
`conv1d` up to the order of sums. Under autocast the plain form is used.

Letters: B windows, L frames, C channels, H width, k taps, M = L - k + 1 frames of the result.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor


def convolved(x: Tensor, weight: Tensor, bias: Tensor, *, is_residual: bool = False) -> Tensor:
    """Return the convolution (M, B, H) of frames.

    Args:
        x: (L, B, C).
        weight: (H, C, k).
        bias: (H,).
        is_residual: Return x without its outer frames plus GELU of the convolution (k = 3, C = H).
    """
    if torch.is_autocast_enabled(x.device.type):
        found = F.conv1d(x.permute(1, 2, 0), weight, bias).permute(2, 0, 1)
        return x[1:-1] + F.gelu(found) if is_residual else found
    return cast(Tensor, _Convolved.apply(x, weight, bias, is_residual))  # type: ignore[no-untyped-call]


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, is_residual: bool) -> Tensor:
        x = x.contiguous()
        taps = weight.permute(2, 1, 0).contiguous()  # (k, C, H)
        n_frames = x.shape[0] - len(taps) + 1
        inner = x.new_empty(n_frames, x.shape[1], weight.shape[0])
        flat = inner.flatten(0, 1)
        torch.addmm(bias, _stretch(x, 0, n_frames), taps[0], out=flat)
        for number in range(1, len(taps)):
            flat.addmm_(_stretch(x, number, n_frames), taps[number])
        ctx.save_for_backward(x, taps, inner if is_residual else None)
        return F.gelu(inner).add_(x[1:-1]) if is_residual else inner

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, taps, inner = ctx.saved_tensors
        grad = grads[0].contiguous()
        n_frames = len(grad)
        own = grad if inner is None else torch.ops.aten.gelu_backward(grad, inner)
        flat = own.flatten(0, 1)
        of_taps = torch.empty_like(taps.mT, memory_format=torch.contiguous_format)  # (k, H, C)
        for number in range(len(taps)):
            torch.mm(flat.T, _stretch(x, number, n_frames), out=of_taps[number])
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.empty_like(x)
            if inner is not None:
                of_x[0], of_x[1:-1], of_x[-1] = 0, grad, 0
                _stretch(of_x, 0, n_frames).addmm_(flat, taps[0].T)
            else:
                of_x[n_frames:] = 0
                torch.mm(flat, taps[0].T, out=_stretch(of_x, 0, n_frames))
            for number in range(1, len(taps)):
                _stretch(of_x, number, n_frames).addmm_(flat, taps[number].T)
        return of_x, of_taps.permute(1, 2, 0), flat.sum(0), None


def _stretch(x: Tensor, first: int, n_frames: int) -> Tensor:
    """Return rows (M B, C) of `n_frames` frames from the first on, without a copy."""
    return x[first : first + n_frames].flatten(0, 1)
