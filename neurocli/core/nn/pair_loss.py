"""Contrastive losses of whole batches in O(B F) memory: the table of logits exists tile by tile.

With logits S = s U V^T + b and targets T (rows sum to 1 over what belongs together), CLIP's loss
is the mean over rows and columns of their cross entropy to T, and dL/dS = (P + Q - 2T)/(2B), where
P and Q are the softmax along rows and columns; SigLIP's is sum softplus(-y S)/B with y = 1 for
pairs and -1 for others, and dL/dS = -y sigmoid(-y S)/B (arXiv 2103.00020, 2303.15343). Both need
only sums along rows and columns, so one pass finds these and a second the gradients.

Letters: B pairs, F features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.shapes import ShapeError

Kind = Literal["clip", "siglip"]


def pair_loss(
    left: Tensor,
    right: Tensor,
    scale: Tensor,
    *,
    kind: Kind = "clip",
    bias: Tensor | None = None,
    labels: Tensor | None = None,
    tile: int | None = None,
) -> Tensor:
    """Return the contrastive loss of unit vectors; row i of both sides belongs together.

    Args:
        left: (B, F) vectors of length 1.
        right: (B, F) vectors of length 1.
        scale: () multiplies the cosines.
        kind: "clip" or "siglip".
        bias: () added to the logits; None is 0.
        labels: (B,) integers; equal ones belong together, too. None for pairs alone.
        tile: Side of the tiles; None takes the whole table at once.

    Raises:
        ShapeError: The shapes differ or there is no pair.
    """
    if left.shape != right.shape or left.ndim != 2 or not len(left):
        raise ShapeError(
            f"vectors of shapes {tuple(left.shape)} and {tuple(right.shape)} make no pairs",
            hint="give two of the same shape (B, F)",
        )
    if labels is None:
        labels = torch.arange(len(left), device=left.device)
    side = tile or len(left)
    added = left.new_zeros(()) if bias is None else bias.to(left.dtype)
    function = _Clip if kind == "clip" else _Siglip
    loss: Tensor = function.apply(  # type: ignore[no-untyped-call]
        left, right, scale.to(left.dtype), added, labels, side
    )
    return loss


def _tiles(n: int, side: int) -> Iterator[tuple[slice, slice]]:
    for first in range(0, n, side):
        for second in range(0, n, side):
            yield slice(first, min(first + side, n)), slice(second, min(second + side, n))


def _class_means(right: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (C, F) means by class, the class of each row (B,), and class sizes (B,) by row."""
    _, own, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    sums = right.new_zeros(len(counts), right.shape[1]).index_add(0, own, right)
    return sums / counts[:, None].to(right.dtype), own, counts[own]


class _Clip(torch.autograd.Function):
    """CLIP's loss with targets that spread evenly over what belongs together."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Return the loss; sums along rows and columns are kept for the gradient."""
        left, right, scale, bias, labels, side = inputs
        n = len(left)
        rows = left.new_full((n,), -math.inf)
        columns = left.new_full((n,), -math.inf)
        for a, b in _tiles(n, side):
            logits = left[a] @ right[b].T * scale + bias
            rows[a] = torch.logaddexp(rows[a], logits.logsumexp(1))
            columns[b] = torch.logaddexp(columns[b], logits.logsumexp(0))
        means, own, _ = _class_means(right, labels)
        matched = (left * means[own]).sum() * scale + bias * n
        ctx.save_for_backward(left, right, scale, bias, labels, rows, columns)
        ctx.side = side
        loss: Tensor = (rows.sum() + columns.sum()) / (2 * n) - matched / n
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return gradients of both sides, the scale and the bias."""
        left, right, scale, bias, labels, rows, columns = ctx.saved_tensors
        n, grad = len(left), grads[0]
        d_left, d_right = torch.zeros_like(left), torch.zeros_like(right)
        d_scale, d_bias = torch.zeros_like(scale), torch.zeros_like(bias)
        _means, own, counts = _class_means(right, labels)
        for a, b in _tiles(n, ctx.side):
            cosines = left[a] @ right[b].T
            logits = cosines * scale + bias
            table = (logits - rows[a, None]).exp_()
            table += (logits - columns[None, b]).exp_()
            table /= 2 * n
            same = (own[a, None] == own[None, b]).to(table.dtype)
            table -= same / counts[a, None] / n
            d_left[a] += table @ right[b]
            d_right[b] += table.T @ left[a]
            d_scale += (table * cosines).sum()
            d_bias += table.sum()
        return (
            d_left * scale * grad,
            d_right * scale * grad,
            d_scale * grad,
            d_bias * grad,
            None,
            None,
        )


class _Siglip(torch.autograd.Function):
    """SigLIP's loss: every cell of the table is a yes-or-no question."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Return the loss."""
        left, right, scale, bias, labels, side = inputs
        n = len(left)
        total = left.new_zeros(())
        for a, b in _tiles(n, side):
            logits = left[a] @ right[b].T * scale + bias
            total += F.softplus(torch.where(_same(labels, a, b), -logits, logits)).sum()
        ctx.save_for_backward(left, right, scale, bias, labels)
        ctx.side = side
        loss: Tensor = total / n
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return gradients of both sides, the scale and the bias."""
        left, right, scale, bias, labels = ctx.saved_tensors
        n, grad = len(left), grads[0]
        d_left, d_right = torch.zeros_like(left), torch.zeros_like(right)
        d_scale, d_bias = torch.zeros_like(scale), torch.zeros_like(bias)
        for a, b in _tiles(n, ctx.side):
            cosines = left[a] @ right[b].T
            logits, same = cosines * scale + bias, _same(labels, a, b)
            table = torch.where(same, -torch.sigmoid(-logits), torch.sigmoid(logits)) / n
            d_left[a] += table @ right[b]
            d_right[b] += table.T @ left[a]
            d_scale += (table * cosines).sum()
            d_bias += table.sum()
        return (
            d_left * scale * grad,
            d_right * scale * grad,
            d_scale * grad,
            d_bias * grad,
            None,
            None,
        )


def _same(labels: Tensor, a: slice, b: slice) -> Tensor:
    return labels[a, None] == labels[None, b]
