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
    def forward(ctx: Any, own: Tensor, sizes: list[int]) -> Tensor:
        """Return (sum of sizes, ...)."""
        ctx.first, ctx.n = sum(sizes[: dist.get_rank()]), len(own)
        # Collectives want equal shapes; ranks at the end of an epoch may hold fewer rows.
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the gradient (B, ...) of the own part."""
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.first : ctx.first + ctx.n], None


def in_one_process() -> bool:
    """Return whether no process group is up, or one of a single process."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


def rows_of_ranks(own: Tensor) -> list[int]:
    """Return how many rows each rank holds, in the order of ranks."""
    if in_one_process():
        return [len(own)]
    sizes = [torch.zeros(1, dtype=torch.int64, device=own.device) for _ in _ranks()]
    dist.all_gather(sizes, torch.tensor([len(own)], device=own.device))
    return [int(size) for size in sizes]


def gather_with_gradient(own: Tensor, sizes: list[int] | None = None) -> Tensor:
    """Return the rows of all ranks, in their order; what comes back reaches the rank that sent it.

    Args:
        own: (B, ...) of this rank; in one process it is returned as it is.
        sizes: `rows_of_ranks`, where it is known already.
    """
    if in_one_process():
        return own
    found: Tensor = _Gather.apply(own, sizes or rows_of_ranks(own))  # type: ignore[no-untyped-call]
    return found


def _ranks() -> range:
    return range(dist.get_world_size())


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
    training averages. Ranks may hold different numbers of pairs.

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
    if in_one_process():
        return pair_loss(left, right, scale, kind=kind, bias=bias, labels=labels, tile=tile)
    sizes = rows_of_ranks(left)
    total, first = sum(sizes), sum(sizes[: dist.get_rank()])
    all_left, all_right = (gather_with_gradient(side, sizes) for side in (left, right))
    own = torch.arange(total, device=left.device)
    if labels is not None:
        own = gather_with_gradient(labels, sizes)
    same = own[first : first + len(left), None] == own[None, :]
    added = left.new_zeros(()) if bias is None else bias
    rows = left @ all_right.T * scale + added
    share = len(sizes) / total  # so that the mean over ranks is the mean over all pairs
    if kind == "siglip":
        return F.softplus(torch.where(same, -rows, rows)).sum() * share
    columns = right @ all_left.T * scale + added
    target = same.to(left.dtype) / same.sum(1, keepdim=True)
    both = [-(target * logits.log_softmax(1)).sum() for logits in (rows, columns)]
    return (both[0] + both[1]) * share / 2
