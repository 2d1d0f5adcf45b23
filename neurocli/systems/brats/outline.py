"""A multi-branch network drawn as rows: every stage with its block, channels, grid and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurocli.core.config.run import RunConfig
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.cost import patch_grid, stage_costs


def outline(config: RunConfig, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per stage, in the order in which a volume passes them.

    Args:
        config: Configuration of a model of this room.
        info: `img_size` [D, H, W], else the config's patch; `n_classes`.

    Returns:
        Rows with stage, block, reads, channels, grid, params and macs; none for a network that is
        not put together from stages.
    """
    model = config.model
    if not isinstance(model, BranchNetConfig):
        return []
    costs = stage_costs(model, info, patch_grid(config, info))
    filled = model.filled(patch_grid(config, info))
    rows = []
    for name, block, reads, channels, level in _stages(model, info):
        grid = "x".join(str(size // 2**level) for size in filled)
        rows.append(
            {
                "stage": name,
                "block": block,
                "reads": reads,
                "channels": channels,
                "grid": grid,
                "params": costs[name].params,
                "macs": costs[name].macs,
            }
        )
    return rows


def _stages(
    model: BranchNetConfig, info: Mapping[str, Any]
) -> list[tuple[str, str, str, int, int]]:
    """Return (stage, block, what it reads, channels it gives, level) of every stage."""
    rows = _encoder(model)
    channels = model.skip_channels()
    below = " + ".join(row[0] for row in rows if row[4] == model.branch_stages)
    for level in range(model.branch_stages + 1, model.n_stages):
        block = model.fused.split("/")[level - model.branch_stages - 1 if "/" in model.fused else 0]
        rows.append((f"down{level + 1}", block, below, channels[level], level))
        below = f"down{level + 1}"
    for place, size in enumerate(model.decoder, start=1):
        level = model.n_stages - 1 - place
        joins = f"{below}, skip {channels[level]}"
        attended = f" @{model.decoder_attention[place - 1]}" if model.decoder_attention else ""
        rows.append((f"up{place}", f"up{attended}", joins, size * model.total_width, level))
        below = f"up{place}"
    rows.append(("outc", "1x1x1", below, int(info.get("n_classes", 4)), 0))
    return rows


def _encoder(model: BranchNetConfig) -> list[tuple[str, str, str, int, int]]:
    one = model.branches == "one"
    labels = ["enc"] if one else [f"_{name}" for name in model.modalities]
    texts = model.encoder * len(labels) if len(model.encoder) == 1 else model.encoder
    rows: list[tuple[str, str, str, int, int]] = []
    for label, text, reads in zip(
        labels,
        texts,
        ["+".join(model.modalities)] if one else model.modalities,
        strict=True,
    ):
        blocks = text.split("/") if "/" in text else [text] * model.branch_stages
        name = "enc1" if one else f"stem{label}"
        rows.append((name, model.stem, reads, model.width, 0))
        for level, block in enumerate(blocks, start=1):
            stage = f"{label}{level + 1}" if one else f"branch{label}{level + 1}"
            rows.append((stage, block, name, model.width * 2**level, level))
            name = stage
    for level in sorted(set(model.modality_attention)):
        names = " + ".join(row[0] for row in rows if row[4] == level - 1)
        rows.append((f"attn{level}", "modality attention", names, model.n_branches, level - 1))
    return rows
