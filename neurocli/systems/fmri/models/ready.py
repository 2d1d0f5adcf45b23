"""Patches that were cut beforehand: what a model takes instead of whole clips.

A batch of them is (B, K + 1, F): each clip's own patches in raster order, filled up with patches of
background, the last of which is always there. A mask (B, N) says which tokens of the raster a
clip's own patches are.

Letters: B clips, N tokens of the grid, K most own patches of a clip, M own patches of all clips, F
voxels of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurocli.core.nn.shapes import ShapeError, expect_shape


def check_ready(x: Tensor, tokens: Tensor | None, n_tokens: int, n_voxels: int) -> Tensor:
    """Check that ready patches fit a model and are finite.

    Args:
        x: Patches, to be (B,K+1,F).
        tokens: Mask of their tokens, to be (B,N), bool.
        n_tokens: N of the model.
        n_voxels: F of the model.

    Returns:
        `tokens`.

    Raises:
        ShapeError: A size or a count differs, or a value is NaN or infinite.
    """
    if tokens is None or tokens.dtype != torch.bool:
        raise ShapeError("ready patches need the mask of their tokens (B, N), bool", where="brain")
    expect_shape("x", x, {"B": None, "K + 1": None, "F": n_voxels}, "the patches of the model")
    expect_shape("brain", tokens, {"B": x.shape[0], "N": n_tokens}, "the patches and the grid")
    most = int(tokens.sum(1).max())
    if most >= x.shape[1]:
        raise ShapeError(f"a clip keeps {most} tokens of {x.shape[1] - 1} patches", where="x")
    # One sum is cheaper than a look at each value, and only a finite one proves anything.
    if not bool(torch.isfinite(x.sum(dtype=torch.float32))) and not bool(torch.isfinite(x).all()):
        raise ShapeError("the batch holds NaN or infinite voxels", where="x")
    return tokens


def own_patches(x: Tensor, tokens: Tensor) -> Tensor:
    """Return the own patches of all clips one behind the other, (M,F).

    Args:
        x: Ready patches (B,K+1,F).
        tokens: Mask (B,N) of their tokens.
    """
    counts = tokens.sum(1)
    if len(counts) == 1:
        return x[0, : int(counts[0])]
    return x[torch.arange(x.shape[1], device=x.device) < counts.unsqueeze(1)]


def whole_raster(x: Tensor, tokens: Tensor) -> Tensor:
    """Return all patches of the grid (B,N,F), background where a clip has none of its own.

    Args:
        x: Ready patches (B,K+1,F).
        tokens: Mask (B,N) of their tokens.
    """
    raster = x[:, -1:].expand(-1, tokens.shape[1], -1).clone()
    raster[tokens] = own_patches(x, tokens)
    return raster
