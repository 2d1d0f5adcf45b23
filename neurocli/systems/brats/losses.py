"""Losses of segmentation, each named for what it is.

Let p be the softmax of the logits and t the truth, one-hot; I, P, T the sums over voxels of p t,
p and t. Soft Dice is (2 I + 1e-5) / (P + T + 1e-5).

* `dice5_ce5`: 0.5 (1 - mean Dice) + 0.5 cross entropy, over every class and sample.
* `dice7_ce3`: the same with 0.7 and 0.3.
* `dice7_ce3_squared`: the same with p squared in I and P, as the family's own code has it. It
  punishes unsure voxels: at p = 0.5 on a true voxel, Dice is 0.4 instead of 0.67.
* `nnunet`: cross entropy + (1 - mean Dice), Dice over the batch as one volume and without the
  background, as nnU-Net has it.

Models that give logits at several resolutions are supervised at all of them, with weights 1, 1/2,
1/4 ..., the lowest left out, normalised to 1. Letters: B samples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from neurocli.core.errors import NeuroError
from neurocli.core.nn.global_norm import total_over_ranks

_SMOOTH = 1e-5
Loss = Callable[[Tensor, Tensor], Tensor]


def soft_dice(
    logits: Tensor,
    truth: Tensor,
    *,
    squared: bool = False,
    over_batch: bool = False,
    with_background: bool = True,
) -> Tensor:
    """Return the mean soft Dice over classes and samples.

    Args:
        logits: (B, K, ...).
        truth: (B, ...) classes.
        squared: Square the probabilities in numerator and denominator.
        over_batch: Count the whole batch as one sample.
        with_background: Whether class 0 counts.
    """
    p = logits.float().softmax(dim=1)
    first = 0 if with_background else 1
    classes = torch.arange(logits.shape[1], device=truth.device)
    t = (truth[:, None] == classes.view(1, -1, *[1] * (truth.ndim - 1))).to(p.dtype)
    p, t = p[:, first:], t[:, first:]
    if squared:
        p = p.square()
    axes = tuple(range(2, p.ndim))
    sums = [(p * t).sum(axes), p.sum(axes), t.sum(axes)]
    if over_batch:  # which processes may share
        sums = [total_over_ranks(each.sum(0)) for each in sums]
    both, predicted, true = sums
    return ((2 * both + _SMOOTH) / (predicted + true + _SMOOTH)).mean()


def _mixed(dice_weight: float, *, squared: bool = False) -> Loss:
    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        entropy = functional.cross_entropy(logits.float(), truth.long())
        overlap = soft_dice(logits, truth, squared=squared)
        return dice_weight * (1 - overlap) + (1 - dice_weight) * entropy

    return loss


def _nnunet(logits: Tensor, truth: Tensor) -> Tensor:
    overlap = soft_dice(logits, truth, over_batch=True, with_background=False)
    return functional.cross_entropy(logits.float(), truth.long()) + 1 - overlap


LOSSES: dict[str, Loss] = {
    "dice7_ce3": _mixed(0.7),
    "dice5_ce5": _mixed(0.5),
    "dice7_ce3_squared": _mixed(0.7, squared=True),
    "nnunet": _nnunet,
}


def segmentation_loss(name: str, logits: Tensor | Sequence[Tensor], truth: Tensor) -> Tensor:
    """Return a loss of this module.

    Args:
        name: A key of `LOSSES`.
        logits: (B, K, ...), or a list of them from fine to coarse.
        truth: (B, ...) classes at full resolution.

    Raises:
        NeuroError: The list is empty.
    """
    loss = LOSSES[name]
    if isinstance(logits, Tensor):
        return loss(logits, truth)
    if not logits:
        raise NeuroError("the model gives no logits")
    weights = level_weights(len(logits))
    parts = [
        weight * loss(level, _coarse(truth, level.shape[2:]))
        for weight, level in zip(weights, logits, strict=True)
        if weight
    ]
    return torch.stack(parts).sum()


def level_weights(count: int) -> list[float]:
    """Return the weight of each resolution, fine to coarse.

    >>> [round(weight, 3) for weight in level_weights(4)]
    [0.571, 0.286, 0.143, 0.0]
    >>> level_weights(1)
    [1.0]
    """
    raw = [0.5**level for level in range(count)]
    if count > 1:
        raw[-1] = 0.0
    return [weight / sum(raw) for weight in raw]


def _coarse(truth: Tensor, shape: Sequence[int]) -> Tensor:
    if tuple(truth.shape[1:]) == tuple(shape):
        return truth
    # Labels are not averaged: the nearest voxel speaks for its neighbours.
    small = functional.interpolate(truth[:, None].float(), size=tuple(shape), mode="nearest-exact")
    return small[:, 0].to(truth.dtype)
