"""UNETR and Swin UNETR: MONAI's networks, with modalities by name and inputs of any size.

Importing this module imports MONAI, which takes seconds, so only their builders do. Weights lie
under `net.` with MONAI's own names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unetr import UNETR
from monai.utils.module import OptionalImportError
from torch import Tensor

from neurocli.core.errors import MissingDependencyError
from neurocli.core.nn.conv3d import use_fast_convolutions
from neurocli.systems.brats.config import N_CLASSES, SwinUnetrConfig, UnetrConfig
from neurocli.systems.brats.models.routing import Routed, cut_grid, fill_grid

_PATCH = 16
_SWIN_DIVISOR = 32
_POSITIONS = "vit.patch_embedding.position_embeddings"


class Unetr(Routed):
    """Segment volumes by a vision transformer over patches of 16^3 voxels.

    Positions are learned on one grid; on another they are interpolated.

    Args:
        config: Sizes.
        info: What the data tell: `modalities` in channel order, `n_classes`.
    """

    def __init__(self, config: UnetrConfig, info: Mapping[str, Any]) -> None:
        super().__init__(config.modalities, info)
        self.learned_grid = tuple(size // _PATCH for size in config.img_size)
        net = _built(
            UNETR,
            in_channels=len(config.modalities),
            out_channels=int(info.get("n_classes", N_CLASSES)),
            img_size=config.img_size,
            feature_size=config.feature_size,
            hidden_size=config.hidden_size,
            mlp_dim=config.mlp_dim,
            num_heads=config.num_heads,
            proj_type="conv",
            norm_name="instance",
            res_block=True,
        )
        self.net = _without_unread(use_fast_convolutions(net))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B,K,D,H,W) of x (B,C,D,H,W) of any size.

        Raises:
            NeuroError: Another number of channels than the data told.
        """
        grid = x.shape[2:]
        x = fill_grid(self.route(x), _PATCH)
        tokens = tuple(size // _PATCH for size in x.shape[2:])
        self.net.proj_view_shape = [*tokens, self.net.hidden_size]
        if tokens == self.learned_grid:
            logits: Tensor = self.net(x)
        else:
            positions = {_POSITIONS: self._positions_on(tokens)}
            logits = torch.func.functional_call(self.net, positions, (x,))
        return cut_grid(logits, grid)

    def _positions_on(self, tokens: Sequence[int]) -> Tensor:
        learned = self.net.get_parameter(_POSITIONS)
        width = learned.shape[-1]
        volume = learned.reshape(1, *self.learned_grid, width).permute(0, 4, 1, 2, 3)
        resized = F.interpolate(volume, size=list(tokens), mode="trilinear", align_corners=False)
        return resized.permute(0, 2, 3, 4, 1).reshape(1, -1, width)


def _built(make: Any, **sizes: Any) -> Any:
    """Return a network of MONAI, or say which package it lacks."""
    try:
        return make(**sizes)
    except OptionalImportError as error:
        raise MissingDependencyError(
            f"MONAI's {make.__name__} needs another package: {str(error).splitlines()[0]}",
            where="model",
            hint="pip install einops",
        ) from error


def _without_unread(net: Any) -> Any:
    """Return a UNETR without the attention over text that its blocks hold and never run."""
    for block in net.vit.blocks:
        for name in ("norm_cross_attn", "cross_attn"):
            if hasattr(block, name) and not getattr(block, "with_cross_attention", False):
                setattr(block, name, torch.nn.Identity())
    return net


class SwinUnetr(Routed):
    """Segment volumes by attention in shifted windows.

    Args:
        config: Sizes.
        info: What the data tell: `modalities` in channel order, `n_classes`.
    """

    def __init__(self, config: SwinUnetrConfig, info: Mapping[str, Any]) -> None:
        super().__init__(config.modalities, info)
        net = _built(
            SwinUNETR,
            in_channels=len(config.modalities),
            out_channels=int(info.get("n_classes", N_CLASSES)),
            depths=config.depths,
            num_heads=config.num_heads,
            window_size=config.window_size,
            feature_size=config.feature_size,
            norm_name="instance",
            use_v2=config.use_v2,
        )
        self.net = use_fast_convolutions(net)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B,K,D,H,W) of x (B,C,D,H,W) of any size.

        Raises:
            NeuroError: Another number of channels than the data told.
        """
        grid = x.shape[2:]
        logits: Tensor = self.net(fill_grid(self.route(x), _SWIN_DIVISOR))
        return cut_grid(logits, grid)
