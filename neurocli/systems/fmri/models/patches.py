"""Cut a 4D clip into tokens, put it together again, and tell brain from background.

Token order is a raster in which time runs fastest: n = ((ih gW + iw) gD + id) gT + it. Inside a
token the voxels are in (h, w, d, t) row-major order, channel last.

Letters: B batch, C channel, H W D space, T time, g* tokens along an axis, p* voxels of a patch,
N = gH gW gD gT tokens, F = pH pW pD pT C voxels of one token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurocli.core.errors import UsageError
from neurocli.core.nn.shapes import ShapeError, expect_shape
from neurocli.core.nn.values import has_values

AXES = ("H", "W", "D", "T")


def token_grid(img_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, int, int, int]:
    """Return how many tokens lie along H, W, D and T.

    Args:
        img_size: Voxels along H, W, D and frames along T.
        patch_size: The same for one patch.

    Returns:
        Tokens along H, W, D, T.

    Raises:
        UsageError: A size is missing or below 1, or a patch does not divide its axis; the axis,
            both numbers and the nearest sizes that fit are named.

    >>> token_grid((96, 96, 96, 20), (6, 6, 6, 2))
    (16, 16, 16, 10)
    """
    for name, sizes in (("img_size", img_size), ("patch_size", patch_size)):
        if len(sizes) != len(AXES) or min(sizes, default=0) < 1:
            raise UsageError(
                f"{name} is {tuple(sizes)}, expected four sizes of at least 1: H, W, D, T",
                where=f"model.{name}",
            )
    for axis, size, patch in zip(AXES, img_size, patch_size, strict=True):
        if size % patch:
            fitting = [p for p in range(1, size + 1) if size % p == 0]
            fitting = sorted(fitting, key=lambda divisor: abs(divisor - patch))[:3]
            patches = ", ".join(str(divisor) for divisor in sorted(fitting))
            low = size // patch * patch
            images = " or ".join(str(length) for length in (low, low + patch) if length)
            raise UsageError(
                f"patch size {patch} does not divide {axis} = {size}",
                where="model.patch_size",
                hint=f"patch sizes that divide {size}: {patches}; or bring {axis} to {images}",
            )
    height, width, depth, frames = (
        int(size) // int(patch) for size, patch in zip(img_size, patch_size, strict=True)
    )
    return height, width, depth, frames


def check_clip(x: Tensor, expected: Sequence[int]) -> None:
    """Check that a batch of clips fits a model and is finite.

    Args:
        x: Clips, to be (B,C,H,W,D,T).
        expected: C, H, W, D, T of the model.

    Raises:
        ShapeError: A size differs, or a voxel is NaN or infinite; the axis or sample is named.
    """
    wanted = f"(C, H, W, D, T) = {tuple(expected)}"
    if x.ndim != 6 or x.shape[0] < 1:
        raise ShapeError(
            f"clip has shape {tuple(x.shape)}, expected (B, C, H, W, D, T) with {wanted}", where="x"
        )
    for axis, got, want in zip(("C", *AXES), x.shape[1:], expected, strict=True):
        if got != want:
            raise ShapeError(
                f"clip has {axis} = {got}, the model was built for {axis} = {want}",
                where="x",
                hint=f"expected {wanted}, got {tuple(x.shape[1:])}",
            )
    if not has_values(x):
        return
    if bool(torch.isfinite(x.sum())):  # one fast pass; a sum of finite voxels may leave the range
        return
    finite = torch.isfinite(x).flatten(1)
    bad = (~finite.all(1)).nonzero()
    if bad.numel():
        sample = int(bad[0])
        n_bad = int((~finite[sample]).sum())
        raise ShapeError(
            f"sample {sample} of the batch holds {n_bad} NaN or infinite voxels", where="x"
        )


def patchify(x: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Cut clips into patches.

    Args:
        x: Clips (B,C,H,W,D,T); the patch divides the last four axes.
        patch_size: pH, pW, pD, pT.

    Returns:
        Patches (B,N,F) in raster order, time fastest.

    Raises:
        UsageError: The patch does not divide an axis.
        ShapeError: x has not six axes.

    >>> patchify(torch.arange(4.0).view(1, 1, 2, 1, 1, 2), (1, 1, 1, 2)).tolist()
    [[[0.0, 1.0], [2.0, 3.0]]]
    """
    if x.ndim != 6:
        raise ShapeError(f"x has shape {tuple(x.shape)}, expected (B, C, H, W, D, T)", where="x")
    grid = token_grid(x.shape[2:], patch_size)
    for axis in range(4):
        x = torch.unflatten(x, 2 + 2 * axis, (grid[axis], patch_size[axis]))
    return x.permute(0, 2, 4, 6, 8, 3, 5, 7, 9, 1).flatten(5).flatten(1, 4)


def unpatchify(patches: Tensor, grid: Sequence[int], patch_size: Sequence[int]) -> Tensor:
    """Put patches together again: the inverse of `patchify`.

    Args:
        patches: Patches (B,N,F) of the whole grid.
        grid: gH, gW, gD, gT.
        patch_size: pH, pW, pD, pT.

    Returns:
        Clips (B,C,H,W,D,T).

    Raises:
        ShapeError: N is not the grid's number of tokens, or F no multiple of the patch's voxels.
    """
    n_tokens, n_voxels = _product(grid), _product(patch_size)
    if patches.ndim != 3 or patches.shape[1] != n_tokens or patches.shape[2] % n_voxels:
        raise ShapeError(
            f"patches have shape {tuple(patches.shape)}, expected (B, {n_tokens}, {n_voxels} * C) "
            f"for grid {tuple(grid)} and patch {tuple(patch_size)}",
            where="patches",
        )
    x = torch.unflatten(patches, 2, (*patch_size, -1))
    x = torch.unflatten(x, 1, tuple(grid)).permute(0, 9, 1, 5, 2, 6, 3, 7, 4, 8)
    for axis in range(4):
        x = x.flatten(2 + axis, 3 + axis)
    return x


def foreground_tokens(patches: Tensor, *, minimum_is_background: bool) -> Tensor:
    """Say which tokens hold a voxel that differs from the background value.

    Args:
        patches: Patches (B,N,F).
        minimum_is_background: The background value is the sample's minimum (scaling
            `znorm_minback`); otherwise it is 0.

    Returns:
        Mask (B,N), bool. The comparison is exact, as in the reference.
    """
    if minimum_is_background:
        return (patches != patches.amin((1, 2), keepdim=True)).any(-1)
    return (patches != 0).any(-1)


def brain_tokens(
    brain: Tensor, n_samples: int, grid: Sequence[int], patch_size: Sequence[int]
) -> Tensor:
    """Say which tokens hold a brain voxel, from stored voxel masks.

    Args:
        brain: Voxel masks (B,H,W,D), bool.
        n_samples: Clips B in the batch.
        grid: gH, gW, gD, gT.
        patch_size: pH, pW, pD, pT.

    Returns:
        Mask (B,N), bool, the same for all times of a place.

    Raises:
        ShapeError: `brain` is not boolean or not on the grid.
    """
    height, width, depth = (grid[axis] * patch_size[axis] for axis in range(3))
    sizes = {"B": n_samples, "H": height, "W": width, "D": depth}
    expect_shape("brain", brain, sizes, "the clips")
    if brain.dtype != torch.bool:
        raise ShapeError(f"brain has dtype {brain.dtype}, expected bool", where="brain")
    for axis in range(3):
        brain = torch.unflatten(brain, 1 + axis, (grid[axis], patch_size[axis])).any(2 + axis)
    return brain.unsqueeze(-1).expand(-1, -1, -1, -1, grid[3]).flatten(1)


def check_token_mask(name: str, mask: Tensor, tokens: Tensor) -> None:
    """Check a mask over the full raster.

    Args:
        name: The argument's name, for the error.
        mask: To be (B,N), bool.
        tokens: What has the same first two axes (B,N), patches or another mask.

    Raises:
        ShapeError: The shape or the dtype differs.
    """
    sizes = {"B": tokens.shape[0], "N": tokens.shape[1]}
    expect_shape(name, mask, sizes, "the clips and the token grid")
    if mask.dtype != torch.bool:
        raise ShapeError(f"{name} has dtype {mask.dtype}, expected bool", where=name)


def kept_index(token_mask: Tensor) -> Tensor:
    """Number the kept tokens by their place in the full raster.

    Args:
        token_mask: Mask (N,) shared by a batch, or (B,N) one per sample.

    Returns:
        int64 indices: (K,), or (B,K) padded at the end with -1 where a sample keeps fewer.

    >>> kept_index(torch.tensor([[False, True, True], [False, False, True]])).tolist()
    [[1, 2], [2, -1]]
    """
    if not has_values(token_mask):  # nothing is known to be background
        places = torch.arange(token_mask.shape[-1], device=token_mask.device)
        return places.expand(token_mask.shape)
    if token_mask.ndim == 1:
        return token_mask.nonzero().squeeze(1)
    n_kept = int(token_mask.sum(1).max())
    order = token_mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :n_kept]
    return order.masked_fill(~token_mask.gather(1, order), -1)


def kept_pairs(token_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return sample and place of the tokens that are kept, sample after sample.

    Args:
        token_mask: Mask (B,N).

    Returns:
        Two int64 tensors (M,) for M kept tokens.

    >>> [part.tolist() for part in kept_pairs(torch.tensor([[False, True], [True, True]]))]
    [[0, 1, 1], [1, 0, 1]]
    """
    if not has_values(token_mask):
        n_samples, n_places = token_mask.shape
        every = torch.arange(n_samples * n_places, device=token_mask.device)
        return every // n_places, every % n_places
    sample, place = token_mask.nonzero(as_tuple=True)
    return sample, place


def _product(sizes: Sequence[int]) -> int:
    return int(torch.Size(sizes).numel())
