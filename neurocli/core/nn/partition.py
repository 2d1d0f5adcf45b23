"""The logarithm of a sum of exponentials of inner products, without keeping the products.

Autograd of `logsumexp(a @ b.T)` walks the whole matrix five times. Here it is made, turned into
exponentials in place and used as it stands for both gradients: their scaling goes to the rows.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

# exp(-2 * 20) is far above the smallest float32, so one shift fits all rows of unit vectors.
_LARGEST_SCALE = 20.0


def log_partition(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    """Return log sum_j exp(scale a_i . b_j) for unit vectors (..., n, F) and (..., m, F).

    Args:
        a: Rows of unit length.
        b: What they are compared with, of unit length.
        scale: Inverse temperature; one that is learned, or above 20, takes the plain form, as do
            vectors of half precision.

    Returns:
        (..., n).
    """
    # Half precision cannot hold exp(-2 scale), nor may autocast turn the products into it.
    is_half = a.dtype.itemsize < 4 or torch.is_autocast_enabled(a.device.type)
    if isinstance(scale, Tensor) or not 0 < scale <= _LARGEST_SCALE or is_half:
        return torch.logsumexp(a @ b.mT * scale, -1)
    return cast(Tensor, _LogPartition.apply(a, b, scale))  # type: ignore[no-untyped-call]


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: float) -> Tensor:
        weights = (a * scale) @ b.mT
        weights.sub_(scale).exp_()
        total = weights.sum(-1)
        ctx.save_for_backward(a, b, weights, total)
        ctx.scale = scale
        return total.log() + scale

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b, weights, total = ctx.saved_tensors
        share = (grads[0] * ctx.scale / total).unsqueeze(-1)
        return share * (weights @ b), weights.mT @ (share * a), None
