"""Heads of Mamba-1 layers that read the last token.

The state carries what the tokens hold to the last real one of each sample, in raster order; later
rows of a padded batch are never read, because nothing flows backwards.

Letters: B clips, K kept tokens, E width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from neurocli.core.nn.mamba1 import Mamba1
from neurocli.core.nn.norms import RMSNorm
from neurocli.systems.fmri.models.head_parts import last_token, start_small
from neurocli.systems.fmri.models.head_sizes import (
    MAMBA_EXPAND,
    MAMBA_LAYERS,
    MAMBA_TAPS,
    head_state_size,
)


class MambaHead(nn.Module):
    """Mix the tokens, norm what each layer adds, and map the last token linearly.

    x = x + norm(mamba(x)), three times. All layers start with the values of their kind.

    Args:
        embed_dim: Width E of the features.
        n_outputs: Classes, or 1 for regression.
    """

    def __init__(self, embed_dim: int, n_outputs: int) -> None:
        super().__init__()
        # The middle place is the family's dropout of rate 0; it keeps the official names.
        self.mamba_layers = nn.ModuleList(
            nn.Sequential(_mixer(embed_dim), nn.Identity(), RMSNorm(embed_dim))
            for _ in range(MAMBA_LAYERS)
        )
        self.head = nn.Linear(embed_dim, n_outputs)

    def forward(self, features: Tensor, real: Tensor | None = None) -> Tensor:
        """Return outputs (B, n_outputs).

        Args:
            features: Token features (B,K,E).
            real: Mask (B,K) of the tokens that count, padding last; None for all.
        """
        for layer in self.mamba_layers:
            features = features + layer(features)
        return cast(Tensor, self.head(last_token(features, real)))


class MambaFinalNormHead(nn.Module):
    """Mix the normed tokens, norm the last one and map it linearly.

    x = x + mamba(norm(x)), three times, then norm. As in the family, all products and convolutions
    start as N(0, 0.02) and all biases as 0, which makes the first step sizes softplus(0) = 0.69.

    Args:
        embed_dim: Width E of the features.
        n_outputs: Classes, or 1 for regression.
        keep_dt_init: Leave the bias of the step sizes as Mamba draws it, 0.001 to 0.1 after
            softplus: the state then remembers tens to thousands of tokens from the start.
    """

    def __init__(self, embed_dim: int, n_outputs: int, *, keep_dt_init: bool = False) -> None:
        super().__init__()
        self.mamba_layers = nn.ModuleList(
            nn.Sequential(RMSNorm(embed_dim), _mixer(embed_dim), nn.Identity())
            for _ in range(MAMBA_LAYERS)
        )
        self.norm = RMSNorm(embed_dim)
        self.head = nn.Linear(embed_dim, n_outputs)
        step_biases = [part.dt_proj.bias for part in self.modules() if isinstance(part, Mamba1)]
        drawn = [bias.detach().clone() for bias in step_biases]
        start_small(self)
        if keep_dt_init:
            with torch.no_grad():
                for bias, value in zip(step_biases, drawn, strict=True):
                    bias.copy_(value)

    def forward(self, features: Tensor, real: Tensor | None = None) -> Tensor:
        """Return outputs (B, n_outputs).

        Args:
            features: Token features (B,K,E).
            real: Mask (B,K) of the tokens that count, padding last; None for all.
        """
        for layer in self.mamba_layers:
            features = features + layer(features)
        return cast(Tensor, self.head(self.norm(last_token(features, real))))


def _mixer(embed_dim: int) -> Mamba1:
    return Mamba1(embed_dim, head_state_size(embed_dim), MAMBA_TAPS, MAMBA_EXPAND)
