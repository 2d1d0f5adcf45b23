"""Which patches of a clip are hidden from the model: drawn from a seed, the same on any machine.

Masks are drawn on a grid of mask patches, each one or several of the model's patches, and spread
over the token grid (SimMIM, arXiv 2111.09886; tubes, arXiv 2203.12602).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neurocli.core.errors import UsageError

_AXES = "HWDT"


def mask_grid(
    grid: Sequence[int], patch_size: Sequence[int], mask_patch: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many mask patches lie along each axis, and the tokens of one along each axis.

    Args:
        grid: Tokens along H, W, D, T.
        patch_size: Voxels and frames of a token.
        mask_patch: Voxels and frames of a mask patch; None for one token.

    Raises:
        UsageError: A mask patch is no multiple of the model's patch or does not divide the clip;
            the axis is named.
    """
    counts, tokens = [], []
    for axis, n_tokens, patch, mask in zip(
        _AXES, grid, patch_size, mask_patch or patch_size, strict=True
    ):
        if mask % patch or mask < patch or n_tokens % (mask // patch):
            fitting = [patch * n for n in range(1, n_tokens + 1) if n_tokens % n == 0]
            raise UsageError(
                f"a mask patch of {mask} along {axis} does not fit a clip of {n_tokens * patch} "
                f"in patches of {patch}",
                where="task.mask_patch_size",
                hint=f"along {axis} these fit: {', '.join(map(str, fitting))}",
            )
        tokens.append(mask // patch)
        counts.append(n_tokens // (mask // patch))
    return tuple(counts), tuple(tokens)


def draw_mask(
    draw: int, counts: Sequence[int], tokens: Sequence[int], *, ratio: float, kind: str
) -> NDArray[np.bool_]:
    """Draw the hidden tokens of one clip.

    Args:
        draw: Seed, >= 0.
        counts: Mask patches along H, W, D, T.
        tokens: Tokens of a mask patch along H, W, D, T.
        ratio: Share of mask patches that is hidden, rounded up.
        kind: random: any; tube: the same places at all times; temporal: the last times.

    Returns:
        (N,) bool in raster order, time fastest.

    Raises:
        UsageError: Nothing would be left to see.
    """
    coarse = np.zeros(tuple(counts), dtype=bool)
    free = coarse[..., 0] if kind == "tube" else coarse[0, 0, 0] if kind == "temporal" else coarse
    n_free = free.size
    n_hidden = math.ceil(ratio * n_free)
    if n_hidden >= n_free:
        raise UsageError(
            f"a mask ratio of {ratio} hides all {n_free} mask patches there are to choose from",
            where="task.mask_ratio",
            hint="lower it, use a smaller task.mask_patch_size, or another task.mask_type",
        )
    if kind == "temporal":
        coarse[..., n_free - n_hidden :] = True
    else:
        # The raw words of the bit stream are fixed; numpy's higher draws are not.
        order = np.argsort(np.random.PCG64(draw).random_raw(n_free), kind="stable")
        chosen = np.zeros(n_free, dtype=bool)
        chosen[order[:n_hidden]] = True
        chosen = chosen.reshape(free.shape)
        coarse[:] = chosen[..., None] if kind == "tube" else chosen
    for axis, repeats in enumerate(tokens):
        coarse = coarse.repeat(repeats, axis)
    return coarse.reshape(-1)
