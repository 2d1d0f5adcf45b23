"""Contrastive losses over all processes: every rank sees all pairs, and gradients flow back to all.

Each rank holds some of all pairs. Its own vectors are compared with everybody's, and the gradient
of what it gathered is summed back to the rank it came from, so that the mean of the ranks' losses
has exactly the gradient of the loss over all pairs in one process.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.contrastive import nt_xent
from neurocli.core.nn.data_group import data_group, data_rank, n_data_ranks
from neurocli.core.nn.pair_loss import Kind, pair_loss


class _Gather(torch.autograd.Function):
    """Concatenate a tensor of all ranks; the gradient of each part goes to its owner, summed."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, counts: list[int]) -> Tensor:
        """Return the ranks' rows, one after the other."""
        ctx.counts = counts
        # A gather wants equal shapes; shares of a batch may differ by a row.
        filled = own.new_zeros((max(counts), *own.shape[1:]))
        filled[: len(own)] = own
        parts = [torch.empty_like(filled) for _ in counts]
        dist.all_gather(parts, filled, group=data_group())
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the gradient of the own rows."""
        total = grads[0].clone()
        dist.all_reduce(total, group=data_group())
        first = sum(ctx.counts[: data_rank()])
        return total[first : first + ctx.counts[data_rank()]], None


def is_shared() -> bool:
    """Return whether several ranks share a batch."""
    return n_data_ranks() > 1


def row_counts(own: Tensor) -> list[int]:
    """Return how many rows each rank holds of a tensor like this."""
    if not is_shared():
        return [len(own)]
    mine = torch.tensor([len(own)], device=own.device)
    counts = [torch.empty_like(mine) for _ in range(n_data_ranks())]
    dist.all_gather(counts, mine, group=data_group())
    return [int(count) for count in counts]


def gather(own: Tensor, counts: list[int] | None = None) -> Tensor:
    """Return a tensor of all ranks, in their order, with gradient; `own` itself in one process.

    Args:
        own: Rows of this rank; there may be none.
        counts: Rows of each rank, from `row_counts`; None asks for them.
    """
    if not is_shared():
        return own
    found: Tensor = _Gather.apply(own, counts or row_counts(own))  # type: ignore[no-untyped-call]
    return found


def any_over_ranks(own: Tensor) -> Tensor:
    """Return where a mask (N,) is true on any rank."""
    if not is_shared():
        return own
    found = own.to(torch.uint8)
    dist.all_reduce(found, op=dist.ReduceOp.MAX, group=data_group())
    return found.bool()


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
    training averages, each rank weighed by its pairs.

    Args:
        left: (B, F) unit vectors of this rank; there may be none.
        right: (B, F) unit vectors of this rank.
        scale: () multiplies the cosines.
        kind: "clip" or "siglip".
        bias: () added to the logits.
        labels: (B,) integers, equal for what belongs together over all ranks; None for pairs.
        tile: Side of the tiles of one process's loss.

    Raises:
        ShapeError: The shapes differ or there is no pair.
    """
    if not is_shared():
        return pair_loss(left, right, scale, kind=kind, bias=bias, labels=labels, tile=tile)
    n, counts = len(left), row_counts(left)
    first = sum(counts[: data_rank()])
    all_left, all_right = gather(left, counts), gather(right, counts)
    own = (
        torch.arange(sum(counts), device=left.device) if labels is None else gather(labels, counts)
    )
    same = own[first : first + n, None] == own[None, :]
    added = left.new_zeros(()) if bias is None else bias
    rows = left @ all_right.T * scale + added
    if kind == "siglip":
        return F.softplus(torch.where(same, -rows, rows)).sum() / max(n, 1)
    columns = right @ all_left.T * scale + added
    target = same.to(left.dtype) / same.sum(1, keepdim=True)
    both = [-(target * logits.log_softmax(1)).sum() / max(n, 1) for logits in (rows, columns)]
    return (both[0] + both[1]) / 2


def gathered_nt_xent(
    zis: Tensor, zjs: Tensor, temperature: float, *, owners: Tensor | None = None
) -> Tensor:
    """Return this rank's share of NT-Xent over the pairs of all ranks; see `nt_xent`.

    The mean over ranks, weighed by their pairs, is the loss of one process.

    Args:
        zis: First vectors of this rank's pairs (B, F); there may be none.
        zjs: Second vectors (B, F).
        temperature: Divides the similarities, > 0.
        owners: Whom each pair belongs to (B,), integers that mean the same on every rank.
    """
    if not is_shared():
        return nt_xent(zis, zjs, temperature, owners=owners)
    n, counts = len(zis), row_counts(zis)
    total, first = sum(counts), sum(counts[: data_rank()])
    own = F.normalize(torch.cat([zis, zjs]), dim=-1)
    everybody = torch.cat([gather(own[:n], counts), gather(own[n:], counts)])
    place = torch.arange(first, first + n, device=own.device)
    place = torch.cat([place, place + total])
    partner = (place + total) % (2 * total)
    hidden = place[:, None] == torch.arange(2 * total, device=own.device)
    if owners is not None:
        both = gather(owners, counts).repeat(2)
        hidden = hidden | (both[place, None] == both)
        hidden = hidden & (torch.arange(2 * total, device=own.device) != partner[:, None])
    logits = (own @ everybody.T / temperature).masked_fill(hidden, -torch.inf)
    return F.cross_entropy(logits, partner, reduction="sum") / max(2 * n, 1)
