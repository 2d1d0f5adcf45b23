"""From scores to labels without ever calling argmax, which crawls over a leading class axis."""

from __future__ import annotations

import torch
from torch import Tensor

from neurocli.core.errors import NeuroError

_CHUNK_VOXELS = 1 << 15  # the running maximum of a chunk stays in the processor's cache
_MAX_CLASSES = 256


def labels_from_logits(logits: Tensor) -> Tensor:
    """Return the class of the largest score of every voxel; the first one wins a tie.

    Args:
        logits: (B, K, ...) scores, K at most 256.

    Returns:
        (B, ...) uint8.

    Raises:
        NeuroError: There are more classes than a byte can name.

    >>> import torch
    >>> labels_from_logits(torch.tensor([[[0.0, 2.0], [1.0, 2.0], [3.0, 1.0]]])).tolist()
    [[2, 0]]
    """
    if not 1 <= logits.shape[1] <= _MAX_CLASSES:
        raise NeuroError(f"{logits.shape[1]} classes cannot be stored in one byte")
    labels = torch.empty(
        (logits.shape[0], *logits.shape[2:]), dtype=torch.uint8, device=logits.device
    )
    for scores, target in zip(logits, labels, strict=True):
        label_into(target, scores)
    return labels


def label_into(target: Tensor, scores: Tensor) -> None:
    """Write the class of the largest score of every voxel into `target`.

    Args:
        target: (D, ...) uint8, changed in place.
        scores: (K, D, ...).
    """
    depth = target.shape[0]
    voxels = max(1, target[0].numel()) if depth else 1
    # A device has no use for chunks: each of them would be a launch.
    step = max(1, _CHUNK_VOXELS // voxels) if scores.device.type == "cpu" else max(1, depth)
    for start in range(0, depth, step):
        _running_maximum(target[start : start + step], scores[:, start : start + step])


def _running_maximum(target: Tensor, scores: Tensor) -> None:
    target.zero_()
    if scores.shape[0] == 1:
        return
    best = scores[0]
    for index in range(1, scores.shape[0]):
        challenger = scores[index]
        # Classes come in rising order, so the larger of two labels is the later winner.
        wins = (challenger > best).view(torch.uint8)
        torch.maximum(target, wins.mul_(index) if index > 1 else wins, out=target)
        if index + 1 < scores.shape[0]:
            best = torch.maximum(best, challenger)
