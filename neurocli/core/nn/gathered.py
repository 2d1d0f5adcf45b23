"""Contrastive losses over all processes: every rank sees all pairs, and gradients flow back to all.

Each rank holds B of W B pairs. Its own vectors are compared with everybody's, and the gradient of
what it gathered is summed back to the rank it came from, so that the mean of the ranks' losses has
exactly the gradient of the loss over all pairs in one process.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.pair_loss import Kind, pair_loss


class _Gather(torch.autograd.Function):
    """Concatenate a tensor of all ranks; the gradient of each part goes to its owner, summed."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Return (W B, ...)."""
        ctx.n = len(own)
        parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the gradient (B, ...) of the own part."""
        total = grads[0].contiguous()
        dist.all_reduce(total)
        first = dist.get_rank() * ctx.n
        return total[first : first + ctx.n]


def gather(own: Tensor) -> Tensor:
    """Return a tensor of all ranks, in their order, with gradient; `own` itself in one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return own
    found: Tensor = _Gather.apply(own)  # type: ignore[no-untyped-call]
    return found


def gathered_loss(
    left: Tensor,
    right: Tensor,
    scale: Tensor,
    *,
    kind: Kind = "clip",
    bias: Tensor | None = None,
    labels: Tensor | None = None,
    tile: int | None = None,
) -> Tensor:
    """Return this rank's share of the loss over the pairs of all ranks.

    The mean over ranks is the loss of one process, and so is the gradient that data-parallel
    training averages. Every rank must hold as many pairs.

    Args:
        left: (B, F) unit vectors of this rank.
        right: (B, F) unit vectors of this rank.
        scale: () multiplies the cosines.
        kind: "clip" or "siglip".
        bias: () added to the logits.
        labels: (B,) integers, equal for what belongs together over all ranks; None for pairs.
        tile: Side of the tiles of one process's loss.

    Raises:
        ShapeError: The shapes differ or there is no pair.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return pair_loss(left, right, scale, kind=kind, bias=bias, labels=labels, tile=tile)
    world, rank, n = dist.get_world_size(), dist.get_rank(), len(left)
    all_left, all_right = gather(left), gather(right)
    own = torch.arange(n * world, device=left.device) if labels is None else gather(labels)
    at = slice(rank * n, (rank + 1) * n)
    same = own[at, None] == own[None, :]
    added = left.new_zeros(()) if bias is None else bias
    rows = left @ all_right.T * scale + added
    if kind == "siglip":
        return F.softplus(torch.where(same, -rows, rows)).sum() / n
    columns = right @ all_left.T * scale + added
    target = same.to(left.dtype) / same.sum(1, keepdim=True)
    both = [-(target * logits.log_softmax(1)).sum(1).mean() for logits in (rows, columns)]
    return (both[0] + both[1]) / 2
