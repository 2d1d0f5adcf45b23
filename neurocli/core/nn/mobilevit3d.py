"""MobileViT in three dimensions: attention between voxels at the same place of every patch.

After Mehta and Rastegari 2022 (arXiv 2110.02178). A grid is cut into patches of p^3 voxels; the
first voxels of all patches attend to each other, the second ones too, and so on, so that attention
costs p^3 times (voxels / p^3)^2. It has no positions, so it moves with its input.

Letters: B batch, C channels, D H W space, P voxels of a patch, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.names import lookup
from neurocli.core.nn.layers3d import Style, conv_norm, conv_norm_act
from neurocli.core.nn.replk3d import Transition

FUSIONS = {
    "3x3": "concat with the input, one dense 3x3x3 convolution",
    "1x1": "join local and global features by a 1x1x1 convolution, add the input",
}


def unfold(x: Tensor, patch: int) -> Tensor:
    """Return (B P, N, C): one sequence for each place inside a patch.

    Axes that the patch does not divide are filled with zeros at their end.

    Args:
        x: (B, C, *grid) with one to three axes.
        patch: Voxels of a patch along an axis.
    """
    grid = x.shape[2:]
    x = F.pad(x, [side for size in reversed(grid) for side in (0, -size % patch)])
    batch, channels, n_axes = x.shape[0], x.shape[1], len(grid)
    cut = [part for size in x.shape[2:] for part in (size // patch, patch)]
    x = x.reshape(batch, channels, *cut)
    counts, places = range(2, 2 + 2 * n_axes, 2), range(3, 3 + 2 * n_axes, 2)
    return x.permute(0, *places, *counts, 1).reshape(batch * patch**n_axes, -1, channels)


def fold(tokens: Tensor, grid: Sequence[int], patch: int) -> Tensor:
    """Return the volume (B, C, *grid) whose `unfold` the sequences are; what was filled is cut.

    Args:
        tokens: (B P, N, C).
        grid: Sizes of the volume's axes.
        patch: Voxels of a patch along an axis.
    """
    n_axes, channels = len(grid), tokens.shape[-1]
    counts = [-(-size // patch) for size in grid]
    x = tokens.reshape(-1, *[patch] * n_axes, *counts, channels)
    order = [
        axis
        for pair in zip(range(1 + n_axes, 1 + 2 * n_axes), range(1, 1 + n_axes), strict=True)
        for axis in pair
    ]
    x = x.permute(0, 1 + 2 * n_axes, *order)
    x = x.reshape(x.shape[0], channels, *[count * patch for count in counts])
    for axis, size in enumerate(grid, start=2):
        x = x.narrow(axis, 0, size)
    return x


class SelfAttention(nn.Module):
    """Attend between all tokens of a sequence.

    Args:
        width: C.
        heads: Heads.
        inner: Width of all heads together; None is C.
        with_offsets: Whether queries, keys and values have offsets.
    """

    def __init__(
        self, width: int, heads: int, *, inner: int | None = None, with_offsets: bool = True
    ) -> None:
        super().__init__()
        inner = width if inner is None else inner
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * inner, bias=with_offsets)
        self.project = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (S,N,C) as x."""
        n_sequences, n_tokens, _ = x.shape
        parts = self.qkv(x).reshape(n_sequences, n_tokens, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return result


class TransformerLayer(nn.Module):
    """Attend, then mix channels; both behind a layer norm and around a residual.

    Args:
        attention: Maps (S,N,C) to itself.
        width: C.
        mlp: Width of the layer between.
        act: Activation between.
    """

    def __init__(
        self, attention: nn.Module, width: int, *, mlp: int, act: type[nn.Module] = nn.GELU
    ) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), attention)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, mlp), act(), nn.Linear(mlp, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (S,N,C) as x."""
        x = x + self.attention(x)
        result: Tensor = x + self.mlp(x)
        return result


class MobileViT3d(nn.Module):
    """Local features by a convolution, global ones by attention, both joined.

    Args:
        channels: C, divisible by `heads`.
        style: Its `norm`, `act` and `fusion` are read.
        depth: Transformer layers.
        heads: Heads.
        patch: Voxels of a patch along an axis.
    """

    def __init__(
        self, channels: int, style: Style, *, depth: int = 2, heads: int = 4, patch: int = 2
    ) -> None:
        super().__init__()
        lookup("fusion", style.fusion, FUSIONS)
        self.patch = patch
        self.adds_input = style.fusion == "1x1"
        self.local = nn.Sequential(
            *conv_norm_act(channels, channels, style, kernel=3),
            *conv_norm(channels, channels, style),
        )
        self.layers = nn.Sequential(
            *[
                TransformerLayer(SelfAttention(channels, heads), channels, mlp=2 * channels)
                for _ in range(depth)
            ]
        )
        self.project = nn.Sequential(*conv_norm(channels, channels, style))
        kernel = 1 if self.adds_input else 3
        self.fuse = nn.Sequential(*conv_norm_act(2 * channels, channels, style, kernel=kernel))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,C,D,H,W) as x."""
        local = self.local(x)
        tokens = self.layers(unfold(local, self.patch))
        spread = self.project(fold(tokens, x.shape[2:], self.patch))
        if self.adds_input:
            total: Tensor = x + self.fuse(torch.cat([local, spread], 1))
            return total
        fused: Tensor = self.fuse(torch.cat([x, spread], 1))
        return fused


class DownMobileViT(nn.Sequential):
    """Halve the grid, then join local and global features."""

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        super().__init__(Transition(c_in, c_out, style), MobileViT3d(c_out, style))
