"""Contrastive losses: what belongs together is told from everything else in the batch.

Letters: B pairs of the batch, F features, S samples, n clips of a sample.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.partition import log_partition
from neurocli.core.nn.shapes import ShapeError


def nt_xent(
    zis: Tensor, zjs: Tensor, temperature: float, *, owners: Tensor | None = None
) -> Tensor:
    """Return the normalised, temperature-scaled cross entropy of pairs (arXiv 2002.05709).

    Of the 2B vectors each is classified to its partner among all others, by cosine similarity.

    Args:
        zis: First vectors of the pairs (B,F).
        zjs: Second vectors (B,F).
        temperature: Divides the similarities, > 0.
        owners: Whom each pair belongs to (B,), integer; other pairs of the same owner are no
            negatives. None when all differ.

    Returns:
        Mean over the 2B vectors; 0 for one pair, which has nothing to be told from.

    Raises:
        ShapeError: The shapes differ, or the temperature is not positive.
    """
    _check_pairs(zis, zjs, temperature)
    n_pairs = zis.shape[0]
    vectors = F.normalize(torch.cat([zis, zjs]), dim=-1)
    logits = vectors @ vectors.T / temperature
    hidden = torch.eye(2 * n_pairs, dtype=torch.bool, device=logits.device)
    partner = torch.arange(2 * n_pairs, device=logits.device).roll(n_pairs)
    if owners is not None:
        both = owners.repeat(2)
        hidden = hidden | (both.unsqueeze(0) == both.unsqueeze(1))
        hidden[torch.arange(2 * n_pairs, device=logits.device), partner] = False
    return F.cross_entropy(logits.masked_fill(hidden, -math.inf), partner)


def temporal_contrastive(local: Tensor, whole: Tensor, temperature: float) -> Tensor:
    """Return the loss that tells clips of one recording apart by their time.

    Similarities S = local whole^T of a sample's n clips are classified to the diagonal along rows
    and along columns (arXiv 2101.07974).

    Args:
        local: Features of the clips by themselves (n,F) or (S,n,F).
        whole: Features of the same times within the whole recording, like `local`.
        temperature: Divides the similarities, > 0.

    Returns:
        Both cross entropies, summed over clips, halved, as a mean over samples: it grows with n.

    Raises:
        ShapeError: The shapes differ, or the temperature is not positive.
    """
    _check_pairs(local, whole, temperature)
    logits = local @ whole.mT / temperature
    return _both_ways(logits.reshape(-1, *logits.shape[-2:])) * logits.shape[-1]


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Return the cross entropy of telling each query's own key from the others'.

    Args:
        queries: Vectors (B,F), compared as they are.
        keys: Vectors (B,F); key i belongs to query i.
        temperature: Divides the inner products, > 0.

    Returns:
        Mean over queries.

    Raises:
        ShapeError: The shapes differ, or the temperature is not positive.
    """
    _check_pairs(queries, keys, temperature)
    logits = queries @ keys.T / temperature
    return F.cross_entropy(logits, torch.arange(len(queries), device=logits.device))


def clip_loss(left: Tensor, right: Tensor, scale: Tensor | float) -> Tensor:
    """Return the mean of both directions of cosine classification (CLIP, arXiv 2103.00020).

    Args:
        left: Vectors of one kind (B,F).
        right: Vectors of the other kind (B,F).
        scale: Multiplies the cosines: the inverse of a temperature.

    Raises:
        ShapeError: The shapes differ.
    """
    _check_pairs(left, right, 1.0)
    logits = F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).T * scale
    return _both_ways(logits.unsqueeze(0))


def _both_ways(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of rows and columns (S,n,n) to the diagonal."""
    n_samples, n_clips, _ = logits.shape
    own = torch.arange(n_clips, device=logits.device).repeat(n_samples)
    rows = F.cross_entropy(logits.flatten(0, 1), own)
    return (rows + F.cross_entropy(logits.mT.flatten(0, 1), own)) / 2


def _check_pairs(left: Tensor, right: Tensor, temperature: float) -> None:
    if left.shape != right.shape or left.ndim < 2 or not left.numel():
        raise ShapeError(
            f"vectors of shapes {tuple(left.shape)} and {tuple(right.shape)} make no pairs",
            hint="give two of the same shape, at least one row each",
        )
    if not temperature > 0:
        raise ShapeError(f"temperature is {temperature}, expected more than 0", where="temperature")


def prior_info_nce(
    ref: Tensor, pos: Tensor, neg: Tensor, scale: Tensor | float, *, distance: str = "cosine"
) -> Tensor:
    """Return the loss of telling a reference's positive from draws of the prior.

    -mean phi(ref_i, pos_i) + mean log sum_j exp phi(ref_i, neg_j) with phi the inner product, or
    minus the squared distance, times `scale`. The positive is not among the negatives, so the
    loss may be negative and log N is no bound.

    Args:
        ref: (..., B, F); for "cosine" of unit length.
        pos: Like `ref`.
        neg: (..., N, F).
        scale: Inverse of the temperature.
        distance: "cosine" or "euclidean".

    Raises:
        ShapeError: `ref` and `pos` differ in shape, or the distance is not known.
    """
    _check_pairs(ref, pos, 1.0)
    if distance == "cosine":
        return log_partition(ref, neg, scale).mean() - ((ref * pos).sum(-1) * scale).mean()
    if distance != "euclidean":
        raise ShapeError(f"distance is {distance!r}, expected cosine or euclidean")
    own = -(ref - pos).square().sum(-1)
    squares = ref.square().sum(-1, keepdim=True) + neg.square().sum(-1).unsqueeze(-2)
    others = 2 * ref @ neg.mT - squares
    return torch.logsumexp(others * scale, -1).mean() - (own * scale).mean()
