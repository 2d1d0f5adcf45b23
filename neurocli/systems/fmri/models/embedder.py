"""Turn patches into tokens: a learned projection plus a fixed position per place of the grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurocli.core.nn.positions import features, mesh
from neurocli.core.nn.shapes import ShapeError


class TokenEmbedder(nn.Module):
    """Project patches to tokens and add the position of each.

    The positional features go through a random, fixed projection (cpe does not). Only the result
    is kept, as the buffer `pos`, so a checkpoint is tied to its grid.

    Args:
        n_voxels: Voxels F of one patch.
        embed_dim: Width E.
        grid: Tokens along H, W, D, T.
        pe_method: nerf, ff, cpe or none.
    """

    pos: Tensor

    def __init__(
        self, n_voxels: int, embed_dim: int, *, grid: Sequence[int], pe_method: str
    ) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(n_voxels, embed_dim))
        raw = features(pe_method, mesh(grid), dim=embed_dim).flatten(0, -2)
        pos = raw if pe_method == "cpe" else raw @ torch.randn(raw.shape[-1], embed_dim)
        self.register_buffer("pos", pos.unsqueeze(0))
        self.grid = tuple(grid)

    def forward(self, patches: Tensor, places: Tensor) -> Tensor:
        """Return tokens (..., E).

        Args:
            patches: Patches (..., F).
            places: Their indices in the full raster, broadcastable to (...).
        """
        return patches @ self.projection + self.pos[0, places]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}pos")
        if saved is not None and saved.shape != self.pos.shape:
            raise ShapeError(
                f"the checkpoint has positions for {tuple(saved.shape[1:])} (tokens, width), this "
                f"model's grid {self.grid} needs {tuple(self.pos.shape[1:])}",
                where=f"{prefix}pos",
                hint="use the img_size, patch_size and embed_dim the checkpoint was trained with",
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
