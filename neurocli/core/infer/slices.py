"""A model of slices over a volume: every plane across the last axis by itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neurocli.core.errors import NeuroError
from neurocli.core.infer.labels import labels_from_logits

_AXES = (2, 3)


def slice_labels(
    volume: Tensor, model: Callable[[Tensor], Any], *, batch: int = 8, mirror: bool = False
) -> Tensor:
    """Return the class of every voxel, plane by plane.

    Args:
        volume: (C, H, W, Z).
        model: Takes (B, C, H, W), gives (B, K, H, W) or a list whose first is that.
        batch: Planes at once.
        mirror: Average over all four mirrored copies.

    Returns:
        (H, W, Z) uint8.

    Raises:
        NeuroError: The model gives another size, or values that are not finite.
    """
    labels = torch.zeros(volume.shape[1:], dtype=torch.uint8, device=volume.device)
    count = len(_AXES) + 1 if mirror else 1
    flips = [*itertools.chain(*(itertools.combinations(_AXES, n) for n in range(count)))]
    filled = (volume != 0).flatten(0, 2).any(0).nonzero().flatten().tolist()
    # Planes without any voxel hold no tumour and need no model.
    for first in range(0, len(filled), batch):
        planes = filled[first : first + batch]
        image = volume[..., planes].movedim(-1, 0).contiguous()
        total: Tensor | None = None
        for axes in flips:
            output = model(image.flip(axes) if axes else image)
            logits: Tensor = output[0] if isinstance(output, (list, tuple)) else output
            if logits.shape[2:] != image.shape[2:] or len(logits) != len(image):
                raise NeuroError(f"the model gives {tuple(logits.shape)} for {tuple(image.shape)}")
            logits = (logits.flip(axes) if axes else logits).float()
            total = logits if total is None else total + logits
        if total is None or not torch.isfinite(total.sum()):
            raise NeuroError("the model gives values that are not finite")
        labels[..., planes] = labels_from_logits(total).movedim(0, -1)
    return labels
