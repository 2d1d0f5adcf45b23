"""From weights alone to a model of the FMamba family: the shapes tell nearly all sizes.

Official checkpoints are Lightning files whose backbone stands under `model.` and whose head under
`output_head.`. No shape tells the patch and the clip: they come from the file's hyper-parameters
where it has them, a patch of a usual volume is taken for the usual one, and the rest is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor

from neurocli.core.engine.export import OfficialWeights
from neurocli.core.engine.weights import Recognised
from neurocli.core.errors import NeuroError

_BACKBONE, _HEAD, _OUTPUT = "model.", "output_head.", "output_layer."
_OWN = ("embedder.mask_token", "projection.")  # what the official code has no place for
_PROJECTION, _POSITIONS = "embedder.projection", "embedder.pos"
_BLOCK = "mamba_layers.{}.1."
# A tensor that only one head has; the linear head has none of them.
_HEADS = {
    "conv_blocks.0.weight": "fmamba_conv_mlp",
    "mamba_layers.0.0.A_log": "fmamba_mamba_head",
    "mamba_layers.0.1.A_log": "fmamba_mamba_head_fn",
    "head.weight": "fmamba_mlp",
}
_CLASS_OF = {model: version for version, model in (
    ("v1", "fmamba_mlp"), ("conv", "fmamba_conv_mlp"),
    ("mamba", "fmamba_mamba_head"), ("mamba_fn", "fmamba_mamba_head_fn"),
)}  # fmt: skip
_USUAL_PATCHES = ((6, 6, 6, 2), (6, 6, 6, 1))  # of the released models, and of the command line
_UNTOLD = ("patch_size", "pe_method", "pe_seed", "bidirectional")
# Names in the official hyper-parameters of keys that no shape tells.
_TOLD_AS = {"patch_size": "patch_size", "pe_method": "mamba_pe_method", "img_size": "img_size",
            "scaling": "input_scaling_method"}  # fmt: skip
_PARTS = ("A_log", "conv1d.weight", "norm.weight", "in_proj.weight")


def recognise(
    weights: Mapping[str, Tensor], told: Mapping[str, Any] | None = None
) -> Recognised | None:
    """Tell which model of the family weights are of.

    Args:
        weights: Tensors by name, with or without the prefix `model.` of the backbone.
        told: Hyper-parameters of the file, by their official names.

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
    shape = _positions(weights)
    found, notes = _told(told or {}, n_voxels, prod(shape[:-1]) if shape else 0)
    missing = {
        "patch_size": f"{n_voxels} voxels",
        "img_size": f"{prod(shape[:-1]) if shape else 0} patches of H, W, D voxels and T frames",
    }
    for key in found:
        missing.pop(key, None)
    return Recognised(head or "fmamba", {**sizes, **found}, missing, own, _UNTOLD, notes)


def _told(
    told: Mapping[str, Any], n_voxels: int, n_tokens: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what hyper-parameters tell, as far as it fits the shapes, and what is assumed."""
    given = {key: told.get(name) for key, name in _TOLD_AS.items()}
    found: dict[str, Any] = {
        key: value for key in ("pe_method", "scaling") if isinstance(value := given[key], str)
    }
    patch, grid = (_whole(given[key]) for key in ("patch_size", "img_size"))
    if patch is not None and prod(patch) == n_voxels:
        found["patch_size"] = patch
        if grid is not None and _n_patches(grid, patch) == n_tokens:
            found["img_size"] = grid
        return found, ()
    usual = next((patch for patch in _USUAL_PATCHES if prod(patch) == n_voxels), None)
    if usual is None:
        return found, ()
    note = f"patches of {n_voxels} voxels are taken to be {','.join(map(str, usual))}"
    return {**found, "patch_size": usual}, (note,)


def _whole(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        return None
    return tuple(value) if all(type(size) is int and size > 0 for size in value) else None


def _n_patches(grid: tuple[int, ...], patch: tuple[int, ...]) -> int:
    return prod(size // step for size, step in zip(grid, patch, strict=True))


def official_names(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], info: Mapping[str, Any]
) -> OfficialWeights:
    """Return weights of this room as the family's own code names them.

    Args:
        weights: Tensors by the names of a model here.
        config: The run's configuration as plain values; empty when unknown.
        info: What its data told; empty when unknown.

    Raises:
        NeuroError: The weights are of no model of the family.
    """
    match = recognise(weights)
    if match is None:
        raise NeuroError(
            "these are weights of no model of the family",
            hint="see `neuro models list` for the models that can be exported",
        )
    bare = {name.removeprefix(_BACKBONE): value for name, value in match.weights.items()}
    own = [name for name in bare if name.startswith(_OWN)]
    kept = {name: value for name, value in bare.items() if name not in own}
    model = config.get("model", {})
    hyper = {
        "embed_dim": match.sizes["embed_dim"],
        "depths": [match.sizes["depth"]],
        "in_chans": 1,
        "patch_size": list(model.get("patch_size", ())) or None,
        "img_size": list(info.get("img_size", ())) or None,
        "sequence_length": (list(info.get("img_size", ())) or [None])[-1],
        "mamba_pe_method": model.get("pe_method"),
        "input_scaling_method": info.get("scaling"),
        "clf_head_version": _CLASS_OF.get(match.model),
        "pretraining": match.model == "fmamba",
    }
    notes = []
    if model.get("bidirectional"):
        notes.append("the model reads both ways, the official code one way: outputs will differ")
    return OfficialWeights(
        bare=kept,
        wrapped={
            name if name.startswith(_HEAD) else _BACKBONE + name: value
            for name, value in kept.items()
        },
        hyper_parameters={key: value for key, value in hyper.items() if value is not None},
        left_out=tuple(own),
        notes=tuple(notes),
    )


def _positions(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    value = weights.get(_POSITIONS, weights.get(_BACKBONE + _POSITIONS))
    return () if value is None else tuple(value.shape)
