"""The cost of the tumour room's networks: learned numbers and operations of one patch.

Multi-branch networks have a closed form over their axes, stage by stage, without torch. The four
transformer networks are counted by torch on tensors without values, which needs torch but computes
nothing; their learned numbers at default sizes stand in a table that a test holds equal to the
built networks, so that listing them stays light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.load import load_config
from neurocli.core.config.run import RunConfig
from neurocli.core.errors import UsageError
from neurocli.systems.brats.block_cost import Tally, Widening, down_cost, stem_cost, total, up_cost
from neurocli.systems.brats.blocks import BratsDataBlock
from neurocli.systems.brats.config import N_CLASSES, BranchNetConfig, SegmentationConfig

# At default sizes, two modalities and four classes.
DEFAULT_PARAMETERS: Mapping[str, int] = {
    "unetr": 96_157_380,
    "swin_unetr": 15_703_918,
    "mobile_unetr": 14_054_194,
    "mobile_unetr_3d": 13_368_810,
}


def default_info(config: RunConfig, input_shape: Sequence[int] | None = None) -> dict[str, Any]:
    """Return what building a network must know when no data are opened.

    Args:
        config: Configuration of a model of this room.
        input_shape: D, H, W of a patch in voxels, or H, W of a slice for a 2D network; None takes
            the config's patch.

    Raises:
        UsageError: `input_shape` has another number of sizes, or one below 1.
    """
    n_axes = _n_axes(config)
    if input_shape is None:
        input_shape = cast(BratsDataBlock, config.data).patch[:n_axes]
    if len(input_shape) != n_axes or min(input_shape) < 1:
        raise UsageError(
            f"'{','.join(map(str, input_shape))}' is no patch size for {config.model.name}",
            where="--input-shape",
            hint=f"give {n_axes} sizes, for example {','.join(['128'] * n_axes)}",
        )
    return {
        "img_size": [int(size) for size in input_shape],
        "modalities": list(cast(SegmentationConfig, config.model).modalities),
        "n_classes": N_CLASSES,
        "dims": n_axes,
    }


def _n_axes(config: RunConfig) -> int:
    return 2 if "2d" in find_model(config.model.name)[1].tags else 3


def sample_shape(config: RunConfig, info: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape (1, C, *grid) of one sample as the network takes it."""
    modalities = info.get("modalities", cast(SegmentationConfig, config.model).modalities)
    return (1, len(modalities), *patch_grid(config, info))


def patch_grid(config: RunConfig, info: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the voxels of a patch: what the data tell, else what the config asks for."""
    patch = cast(BratsDataBlock, config.data).patch[: _n_axes(config)]
    return tuple(int(size) for size in info.get("img_size", patch))


def count_parameters(config: RunConfig, info: Mapping[str, Any]) -> int:
    """Return how many numbers a network learns.

    Args:
        config: Configuration of a model of this room.
        info: `n_classes`, 4 when absent.
    """
    model = config.model
    if isinstance(model, BranchNetConfig):
        return total(stage_costs(model, info, (model.divisor,) * 3)).params
    is_default = int(info.get("n_classes", N_CLASSES)) == N_CLASSES and (
        model == load_config(model=model.name).model
    )
    if is_default:
        return DEFAULT_PARAMETERS[model.name]
    return sum(weight.numel() for weight in _on_meta(config, info).parameters())


def clip_cost(config: RunConfig, info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one patch costs, forward and in a training step.

    A training step is the forward pass and twice as much backwards, without the gradient to the
    images, which nobody needs.

    Args:
        config: Configuration of a model of this room.
        info: `img_size` [D, H, W], else the config's patch; `n_classes`, 4 when absent.

    Returns:
        params, macs, flops, flops_train_step (operations), tokens (None), input_shape, components
        (forward operations by stage), and notes.
    """
    grid = patch_grid(config, info)
    if not isinstance(config.model, BranchNetConfig):
        return _counted(config, info, grid)
    stages = stage_costs(config.model, info, grid)
    whole = total(stages)
    return {
        "params": whole.params,
        "macs": whole.macs,
        "flops": 2 * whole.macs,
        "flops_train_step": 6 * whole.macs - 2 * whole.first_macs,
        "tokens": None,
        "input_shape": list(grid),
        "components": {name: 2 * tally.macs for name, tally in stages.items()},
        "notes": ["convolutions, linear layers and attention; norms and activations are free"],
    }


def stage_costs(
    model: BranchNetConfig, info: Mapping[str, Any], grid: Sequence[int]
) -> dict[str, Tally]:
    """Return the cost of every stage of a multi-branch network, under the stages' names.

    Args:
        model: Every axis of the network.
        info: `n_classes`, 4 when absent.
        grid: Voxels of a patch; filled as the network fills it.
    """
    filled = model.filled(grid)
    grids = [tuple(size // 2**level for size in filled) for level in range(model.n_stages)]
    wide = Widening(model.expand, model.ffn_ratio, model.large_kernel, model.mvit_fusion)
    stages = _branch_costs(model, grids, wide)
    channels = model.skip_channels()
    for place, plan in enumerate(model.fused_plans()):
        level = model.branch_stages + 1 + place
        stages[f"down{level + 1}"] = down_cost(
            plan, channels[level - 1], channels[level], grids[level - 1], wide
        )
    stages.update(_decoder_costs(model, grids, int(info.get("n_classes", N_CLASSES))))
    return stages


def _branch_costs(
    model: BranchNetConfig, grids: Sequence[tuple[int, ...]], wide: Widening
) -> dict[str, Tally]:
    one = model.branches == "one"
    labels = ["enc"] if one else [f"_{name}" for name in model.modalities]
    stages: dict[str, Tally] = {}
    for label, plans in zip(labels, model.branch_plans(), strict=True):
        c_in = len(model.modalities) if one else 1
        stem = stem_cost(model.stem_plan(), c_in, model.width, grids[0], wide)
        stages["enc1" if one else f"stem{label}"] = stem
        for level, plan in enumerate(plans, start=1):
            width = model.width * 2 ** (level - 1)
            name = f"{label}{level + 1}" if one else f"branch{label}{level + 1}"
            stages[name] = down_cost(plan, width, 2 * width, grids[level - 1], wide)
    for level in sorted(set(model.modality_attention)):
        width = model.width * 2 ** (level - 1)
        tally = stages[f"attn{level}"] = Tally()
        tally.linear(width * model.n_branches, width, 1)
        tally.linear(width, model.n_branches, 1)
    return stages


def _decoder_costs(
    model: BranchNetConfig, grids: Sequence[tuple[int, ...]], n_classes: int
) -> dict[str, Tally]:
    *skips, c_in = model.skip_channels()
    squeezed = None if model.skip_width is None else model.skip_width * model.total_width
    stages: dict[str, Tally] = {}
    widths = [model.total_width * size for size in model.decoder]
    for place, c_out in enumerate(widths):
        c_skip = skips[-1 - place]
        stages[f"up{place + 1}"] = up_cost(
            c_in,
            c_skip,
            c_out,
            grids[-1 - place],
            reduction=model.decoder_attention[place] if model.decoder_attention else None,
            c_squeezed=None if squeezed == c_skip else squeezed,
        )
        c_in = c_out
    stages["outc"] = Tally()
    stages["outc"].conv(c_in, n_classes, 1, grids[0], bias=True)
    if model.deep_supervision:
        for place in range(len(widths) - 1, 0, -1):
            # Not computed in evaluation, so only its numbers are counted.
            head = stages[f"head{place}"] = Tally()
            head.params = widths[place - 1] * n_classes + n_classes
    return stages


def _on_meta(config: RunConfig, info: Mapping[str, Any]) -> Any:
    from neurocli.core.cost.shadow import build_on_meta

    _, card = find_model(config.model.name)
    return build_on_meta(lambda: resolve(card.build)(config, info)).eval()


def _counted(config: RunConfig, info: Mapping[str, Any], grid: Sequence[int]) -> dict[str, Any]:
    import torch

    from neurocli.core.cost.flops import count_forward, count_train_step

    model = _on_meta(config, info)
    example = torch.empty(sample_shape(config, info), device="meta")
    forward, train = count_forward(model, example), count_train_step(model, example)
    return {
        "params": sum(weight.numel() for weight in model.parameters()),
        "macs": forward // 2,
        "flops": forward,
        "flops_train_step": train,
        "tokens": None,
        "input_shape": list(grid),
        "components": {},
        "notes": ["this family has no closed formula: counted by torch on tensors without values"],
    }
