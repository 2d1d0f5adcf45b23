"""Depthwise causal convolution over tokens, by shifting and adding.

y_t = bias + sum_lag w[K-1-lag] x_{t-lag}. With K = 4 taps, four scaled shifts over the (b,L,C)
layout beat a general convolution on a CPU, which would transpose to (b,C,L) and back, and a tap
can be closed where it would reach over the border between two packed segments.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, segments: Tensor | None = None
) -> Tensor:
    """Convolve each channel with its own causal filter.

    Args:
        x: Tokens (b,L,C).
        weight: Filters (C,K); the last tap meets the current token.
        bias: Added per channel (C,), or None.
        segments: Segment number of each token (b,L); a token reads its own segment only. None for
            one segment.

    Returns:
        (b,L,C) in the dtype of x; sums are taken in float32 or wider.

    >>> causal_conv(torch.ones(1, 3, 1), torch.tensor([[1.0, 10.0]]), None).flatten().tolist()
    [10.0, 11.0, 11.0]
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    if bias is None:
        bias = weight.new_zeros(weight.shape[0])
    y: Tensor = _CausalConv.apply(  # type: ignore[no-untyped-call]
        x.to(dtype), weight.to(dtype), bias.to(dtype), segments
    )
    return y.to(x.dtype)


class _CausalConv(torch.autograd.Function):
    """Keep only x for the backward pass, which shifts the other way."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, segments: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight, segments)
        y = torch.addcmul(bias, x, weight[:, -1])
        for lag in range(1, _n_lags(x, weight)):
            y[:, lag:].addcmul_(_within(x[:, :-lag], segments, lag), weight[:, -1 - lag])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, segments = ctx.saved_tensors
        grad_x = grad * weight[:, -1]
        grad_taps = [(grad * x).sum((0, 1))]
        for lag in range(1, _n_lags(x, weight)):
            reached = _within(grad[:, lag:], segments, lag)
            grad_x[:, :-lag].addcmul_(reached, weight[:, -1 - lag])
            grad_taps.append((reached * x[:, :-lag]).sum((0, 1)))
        unread = [torch.zeros_like(grad_taps[0])] * (weight.shape[1] - len(grad_taps))
        grad_weight = torch.stack((grad_taps + unread)[::-1], 1)
        return grad_x, grad_weight, grad.sum((0, 1)), None


def _n_lags(x: Tensor, weight: Tensor) -> int:
    return min(weight.shape[1], x.shape[1])


def _within(tokens: Tensor, segments: Tensor | None, lag: int) -> Tensor:
    """Return the tokens, zero where a lag would cross into another segment."""
    if segments is None:
        return tokens
    return tokens * (segments[:, lag:] == segments[:, :-lag]).unsqueeze(-1)
