"""A backbone whose clips are compared with each other: one unit vector per clip.

The projection of the family's contrastive pretraining: mean token, product without bias, batch
norm, unit length (Chen et al. 2020, arXiv 2002.05709, with one layer).
"""

from __future__ import annotations

from typing import TypedDict

import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.head_parts import mean_token
from neurocli.systems.fmri.models.shares import counted


class ProjectionOutput(TypedDict):
    """What a backbone with a projection returns: unit vectors (B,W) and features (B,K,E)."""

    projected: Tensor
    features: Tensor


class FMambaWithProjection(nn.Module):
    """Put a projection on a backbone. State-dict prefixes are `model.` and `projection.`.

    Args:
        backbone: An FMamba without output layer.
        width: Length W of the compared vector.
    """

    def __init__(self, backbone: FMamba, width: int) -> None:
        super().__init__()
        self.model = backbone
        self.projection = nn.Sequential(
            nn.Linear(backbone.embed_dim, width, bias=False), nn.BatchNorm1d(width)
        )

    def forward(self, x: Tensor, brain: Tensor | None = None) -> ProjectionOutput:
        """Return the vectors of a batch of clips.

        Args:
            x: What the backbone takes: scaled clips (B,C,H,W,D,T) or ready patches; at least two
                while training.
            brain: The masks that belong to them, or None.

        Raises:
            NeuroError: The clip does not fit the backbone.
        """
        output = self.model(x, brain)
        features, group = output["features"], self.model.sequence
        mean = mean_token(features, counted(output, group), group=group)
        vectors = F.normalize(self.projection(mean), dim=-1)
        return ProjectionOutput(projected=vectors, features=features)
