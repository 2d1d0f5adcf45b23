"""From weights alone to a model of the FMamba family: the shapes tell nearly all sizes.

Official checkpoints are Lightning files whose backbone stands under `model.` and whose head under
`output_head.`. They keep no positions' projection and no grid, so the patch and the clip cannot be
read off them: the caller gives both.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor

from neurocli.core.engine.weights import Recognised

_BACKBONE, _HEAD, _OUTPUT = "model.", "output_head.", "output_layer."
_PROJECTION, _POSITIONS = "embedder.projection", "embedder.pos"
_BLOCK = "mamba_layers.{}.1."
# A tensor that only one head has; the linear head has none of them.
_HEADS = {
    "conv_blocks.0.weight": "fmamba_conv_mlp",
    "mamba_layers.0.0.A_log": "fmamba_mamba_head",
    "mamba_layers.0.1.A_log": "fmamba_mamba_head_fn",
    "head.weight": "fmamba_mlp",
}
_PARTS = ("A_log", "conv1d.weight", "norm.weight", "in_proj.weight")


def recognise(weights: Mapping[str, Tensor]) -> Recognised | None:
    """Tell which model of the family weights are of.

    Args:
        weights: Tensors by name, with or without the prefix `model.` of the backbone.

    Returns:
        The model and its sizes, or None when a tensor of the family is missing.
    """
    own = {name.removeprefix(_BACKBONE): value for name, value in weights.items()}
    first = _BLOCK.format(0)
    wanted = [_PROJECTION, _POSITIONS, *(first + part for part in _PARTS)]
    if any(name not in own for name in wanted) or own[_PROJECTION].ndim != 2:
        return None
    n_voxels, width = own[_PROJECTION].shape
    channels, _, taps = own[first + "conv1d.weight"].shape
    inner = own[first + "norm.weight"].shape[0]
    depth = 0
    while _BLOCK.format(depth) + "A_log" in own:
        depth += 1
    sizes: dict[str, Any] = {
        "embed_dim": width,
        "depth": depth,
        "d_state": (channels - inner) // 2,
        "d_conv": taps,
        "expand": inner // width,
    }
    head = next((model for name, model in _HEADS.items() if _HEAD + name in own), None)
    if head is not None:
        sizes["n_outputs"] = own[_HEAD + "head.weight"].shape[0]
        own = {
            name if name.startswith(_HEAD) else _BACKBONE + name: value
            for name, value in own.items()
            if not name.startswith(_OUTPUT)  # pretraining's own, of no use under a head
        }
    n_tokens = prod(weight_shape[:-1]) if (weight_shape := _positions(weights)) else 0
    missing = {
        "patch_size": f"{n_voxels} voxels",
        "img_size": f"{n_tokens} patches of H, W, D voxels and T frames",
    }
    return Recognised(head or "fmamba", sizes, missing, own)


def _positions(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    value = weights.get(_POSITIONS, weights.get(_BACKBONE + _POSITIONS))
    return () if value is None else tuple(value.shape)
