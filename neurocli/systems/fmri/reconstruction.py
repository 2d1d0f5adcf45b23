"""A few slices of a predicted clip, kept small for reports: what was there, what was predicted.

A picture is (2, H, W, S) float16: the target and the prediction of one frame in the units of the
loss, NaN where nothing was predicted. Its name tells the run and the frame.

Letters: K kept tokens, F voxels of a token, H W D T the clip's grid, S slices.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurocli.systems.fmri.models.patches import unpatchify

Half = npt.NDArray[np.float16]
_N_SLICES = 3


class Gridded(Protocol):
    """Say how a clip is cut into tokens."""

    grid: tuple[int, int, int, int]
    patch_size: tuple[int, ...]


def next_picture(
    name: str, predicted_KF: Tensor, patches_KF: Tensor, index_K: Tensor, model: Gridded
) -> dict[str, Half]:
    """Return the picture of a forecast: after each token, the one that follows.

    Args:
        name: Of the run.
        predicted_KF: Prediction of the next kept token after each.
        patches_KF: The tokens, in the same units.
        index_K: Their places.
        model: The backbone.
    """
    return _picture(f"{name}.next", predicted_KF[:-1], patches_KF[1:], index_K[1:], model)


def hidden_picture(
    name: str, predicted_MF: Tensor, patches_MF: Tensor, index_M: Tensor, model: Gridded
) -> dict[str, Half]:
    """Return the picture of hidden tokens and what was predicted for them.

    Args:
        name: Of the run.
        predicted_MF: Predictions of the hidden tokens.
        patches_MF: The hidden tokens.
        index_M: Their places.
        model: The backbone.
    """
    return _picture(f"{name}.hidden", predicted_MF, patches_MF, index_M, model)


def _picture(
    name: str, predicted: Tensor, wanted: Tensor, index: Tensor, model: Gridded
) -> dict[str, Half]:
    clips = [_clip(values, index, model) for values in (wanted, predicted)]
    n_seen = np.isfinite(clips[0]).sum(axis=(0, 1, 2))
    # The frame with most predicted voxels, of equals the one in the middle of the clip.
    middle = np.abs(np.arange(len(n_seen)) - len(n_seen) / 2)
    frame = int(np.lexsort((middle, -n_seen))[0])
    depth = clips[0].shape[2]
    slices = [depth * part // (_N_SLICES + 3) for part in range(2, 2 + _N_SLICES)]
    shown = np.stack([clip[..., frame][..., slices] for clip in clips])
    return {f"{name}-frame-{frame}": shown.astype(np.float16)}


def _clip(values: Tensor, index: Tensor, model: Gridded) -> npt.NDArray[np.float32]:
    """Return values of tokens on the grid of the clip (H, W, D, T), NaN where there are none."""
    n_tokens = int(np.prod(model.grid))
    whole = torch.full((1, n_tokens, values.shape[-1]), float("nan"))
    whole[0, index.cpu()] = values.detach().float().cpu()
    clip: npt.NDArray[np.float32] = unpatchify(whole, model.grid, model.patch_size)[0, 0].numpy()
    return clip
