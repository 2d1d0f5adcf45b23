"""Random changes of training clips: a rigid-like move, noise, a little blur.

What is drawn for a clip is a function of its `draw` alone, so a resumed run, another batch size or
another device see the same changes. All frames of a clip move together in one resampling; noise is
new in every frame, because noise that repeats over frames is anatomy to a model. Voxels outside
the brain mask keep the background value, and with it every token keeps its place.

Shape letters: B clips, H W D space, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["affine", "intensity", "all"]

_ROTATION_RAD = 0.175  # ten degrees
_SCALING = 0.1
_NOISE_SD = 0.1
_BLUR_SIGMA = 0.5  # voxels, largest
_BLUR_CHANCE = 0.1
_TRUNCATE = 4.0  # sigmas of a kernel's reach
_MASK = (1 << 63) - 1


def augment_clips(
    clip: Tensor, brain: Tensor, draws: Sequence[int], *, kind: Kind, strength: float = 1.0
) -> Tensor:
    """Return changed copies of clips.

    In this order: with a chance of 0.5, rotation by up to 0.175 rad about each axis and scaling by
    up to 10 % along each, about the centre in voxel units, trilinear; with a chance of 0.3, normal
    noise of SD 0.1 in the clips' unit; with a chance of 0.1, Gaussian blur of up to half a voxel
    along each axis. A strength above 1 multiplies rotation and noise and raises the first two
    chances to 0.8, as in the family.

    Args:
        clip: Scaled clips (B, 1, H, W, D, T), any float type.
        brain: Masks (B, H, W, D), bool.
        draws: Seed of each clip.
        kind: affine, intensity (noise and blur), or all.
        strength: 1 or more.

    Returns:
        Like `clip`.
    """
    changed = [_augment(clip[i, 0], draw, kind, strength) for i, draw in enumerate(draws)]
    return torch.where(brain[:, None, ..., None], torch.stack(changed)[:, None], clip)


def _augment(clip_HWDT: Tensor, draw: int, kind: Kind, strength: float) -> Tensor:
    # On the CPU and in full before the first use: devices draw differently.
    random = torch.Generator().manual_seed(draw & _MASK)
    chance = torch.rand(3, generator=random).tolist()
    angles = (2 * torch.rand(3, generator=random) - 1) * _ROTATION_RAD * strength
    scales = 1 + (2 * torch.rand(3, generator=random) - 1) * _SCALING
    sigmas = (torch.rand(3, generator=random) * _BLUR_SIGMA).tolist()
    often = strength > 1
    moved = clip_HWDT
    if kind != "intensity" and chance[0] < (0.8 if often else 0.5):
        moved = resample(moved, rotation(angles) * scales)
    if kind != "affine" and chance[1] < (0.8 if often else 0.3):
        noise = torch.randn(moved.shape, generator=random)
        moved = moved + (_NOISE_SD * strength * noise).to(moved)
    if kind != "affine" and chance[2] < _BLUR_CHANCE:
        moved = blur(moved, sigmas)
    return moved


def rotation(angles: Tensor) -> Tensor:
    """Return the matrix (3, 3) that turns about the first, then second, then third axis.

    Args:
        angles: Radians (3,).
    """
    turned = torch.eye(3)
    for axis, angle in enumerate(angles.tolist()):
        i, j = [other for other in range(3) if other != axis]
        turn = torch.eye(3)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[j, i] = math.sin(angle)
        turn[i, j] = -turn[j, i]
        turned = turn @ turned
    return turned


def resample(clip_HWDT: Tensor, matrix: Tensor) -> Tensor:
    """Return a clip whose voxel at offset p from the centre shows the input at `matrix` p.

    Args:
        clip_HWDT: The clip (H, W, D, T); beyond its border the border is repeated.
        matrix: Map of voxel offsets (3, 3).

    Returns:
        Like the clip, trilinear.
    """
    *sizes, _ = clip_HWDT.shape
    half = torch.tensor([(size - 1) / 2 for size in sizes])
    axes = [torch.arange(size) - middle for size, middle in zip(sizes, half.tolist(), strict=True)]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    # The sampler wants -1..1 along each axis, the last axis first; one slice has no extent.
    places = (offsets @ matrix.T / half.clamp(min=0.5)).flip(-1)
    moved = F.grid_sample(
        clip_HWDT.float().permute(3, 0, 1, 2)[None],
        places[None].to(clip_HWDT.device),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return moved[0].permute(1, 2, 3, 0).to(clip_HWDT.dtype)


def blur(clip_HWDT: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return a clip smoothed in space by a Gaussian, frame by frame.

    Args:
        clip_HWDT: The clip (H, W, D, T); beyond its border the border is repeated.
        sigmas: SD along each axis, voxels.
    """
    blurred = clip_HWDT.float()
    for axis, sigma in enumerate(sigmas):
        reach = int(_TRUNCATE * sigma + 0.5)
        if reach == 0:
            continue
        weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-reach, reach + 1)]
        size = blurred.shape[axis]
        places = torch.arange(size, device=blurred.device)
        # A sum of shifted copies: a convolution with one channel is ten times slower on a CPU.
        total = torch.zeros_like(blurred)
        for step, weight in enumerate(weights, start=-reach):
            shifted = blurred.index_select(axis, (places + step).clamp(0, size - 1))
            total.add_(shifted, alpha=weight / sum(weights))
        blurred = total
    return blurred.to(clip_HWDT.dtype)
