"""Turn patches into tokens: a learned projection plus a fixed position per place of the grid.

Letters: N tokens of the grid, F voxels of a patch, E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neurocli.core.errors import UsageError
from neurocli.core.nn.positions import encode, encoded_grid
from neurocli.core.nn.shapes import ShapeError

_MASK_STD = 0.02


class TokenEmbedder(nn.Module):
    """Project patches to tokens and add the position of each.

    Only the positions themselves are kept, as the buffer `pos` (1,N,E). Their random projection
    comes from `pe_seed`, so weights of this package load on another grid, where the positions are
    computed anew. An official file has positions of an unknown projection: it loads on its own
    grid only.

    Args:
        n_voxels: Voxels F of one patch.
        embed_dim: Width E.
        grid: Tokens along H, W, D, T.
        pe_method: nerf, ff, cpe or none.
        pe_seed: Seed of the random projection; cpe has none.
        mask_token: Learn a vector that stands in for hidden patches.
    """

    pos: Tensor
    mask_token: nn.Parameter | None

    def __init__(
        self,
        n_voxels: int,
        embed_dim: int,
        *,
        grid: Sequence[int],
        pe_method: str,
        pe_seed: int = 0,
        mask_token: bool = False,
    ) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.pe_method, self.pe_seed = pe_method, pe_seed
        self.projection = nn.Parameter(torch.randn(n_voxels, embed_dim))
        positions = encode(pe_method, self.grid, dim=embed_dim, seed=pe_seed)
        self.register_buffer("pos", positions.unsqueeze(0))
        hidden = nn.Parameter(torch.randn(embed_dim) * _MASK_STD) if mask_token else None
        self.register_parameter("mask_token", hidden)

    def forward(self, patches: Tensor, places: Tensor, masked: Tensor | None = None) -> Tensor:
        """Return tokens (..., E).

        Args:
            patches: Patches (..., F).
            places: Their indices in the full raster, broadcastable to (...).
            masked: Which of them (...) are hidden: they keep only their position. None for none.

        Raises:
            UsageError: Patches are hidden from a model without a mask token.
        """
        tokens = patches @ self.projection
        if masked is not None:
            if self.mask_token is None:
                raise UsageError(
                    "this FMamba has no mask token, so no patch can be hidden from it",
                    where="masked",
                    hint="build it with mask_token=True",
                )
            tokens = torch.where(masked.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        return tokens + self.pos[0, places]

    def fitted_positions(self, saved: Tensor) -> Tensor:
        """Return what positions become when weights with the positions `saved` are loaded.

        They stay as saved on the grid they were saved on, and whenever nothing tells that grid.
        Otherwise they are computed anew for the grid of this model.

        Args:
            saved: Positions (1,M,E) of a checkpoint.

        Returns:
            Positions (1,N,E).

        Raises:
            ShapeError: The width differs, or another grid was saved with a random projection that
                `pe_seed` does not give, as in an official file.
        """
        own = self.pos.detach().cpu()
        if saved.ndim != own.ndim or saved.shape[::2] != own.shape[::2]:
            raise ShapeError(
                f"the checkpoint has positions of shape {tuple(saved.shape)}, embed_dim "
                f"{own.shape[-1]} needs (1, tokens, {own.shape[-1]})",
                where="model.embed_dim",
                hint="use the model.embed_dim the checkpoint was trained with",
            )
        grid = encoded_grid(self.pe_method, saved[0].cpu(), seed=self.pe_seed)
        if grid == self.grid or (grid is None and saved.shape == own.shape):
            return saved
        if grid is None and self.pe_method != "cpe":
            raise ShapeError(
                f"the checkpoint has positions of {saved.shape[1]} tokens, the grid {self.grid} of "
                f"this model has {own.shape[1]}, and the random projection of a {self.pe_method} "
                "code is not in the file",
                where="embedder.pos",
                hint="use the img_size, patch_size, sequence_length, pe_method and pe_seed the "
                "checkpoint was trained with",
            )
        fresh = encode(self.pe_method, self.grid, dim=own.shape[-1], seed=self.pe_seed)
        return fresh.unsqueeze(0).to(saved.dtype)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        name = f"{prefix}pos"
        if name in state_dict:
            # The dictionary is torch's own copy: what a caller passed in stays as it is.
            state_dict[name] = self.fitted_positions(state_dict[name])
        super()._load_from_state_dict(state_dict, prefix, *args)
