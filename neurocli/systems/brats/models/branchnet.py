"""One network for all multi-branch U-nets: stems, branches, fusion, decoder.

Every branch reads one modality (or all read by one branch) and keeps its own maps up to the
fusion; skips are the maps of all branches side by side. Stages are children with telling names:
`stem_flair`, `branch_flair2`, `down4`, `up1`, `outc`; with one branch `enc1` to `enc5`.

Letters: B batch, C modalities of the data, K classes, D H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from neurocli.core.nn.blocks3d import DOWNS, STEMS, Up
from neurocli.core.nn.conv3d import Conv3d
from neurocli.core.nn.layers3d import Style
from neurocli.systems.brats.config import N_CLASSES, BranchNetConfig
from neurocli.systems.brats.models.routing import Routed, cut_grid, fill_grid
from neurocli.systems.brats.stages import StagePlan


class ModalityAttention(nn.Module):
    """Weigh each modality by what all of them hold: one number in (0,1) for each.

    Means over space pass two linear layers with a ReLU between and a sigmoid behind.

    Args:
        channels: Channels of one branch.
        n_modalities: Branches.
    """

    def __init__(self, channels: int, n_modalities: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels * n_modalities, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, n_modalities),
            nn.Sigmoid(),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return weights (B, n_modalities) of maps (B,C,D,H,W), one for each branch."""
        means = torch.cat([part.mean((2, 3, 4)) for part in maps], 1)
        weights: Tensor = self.layers(means)
        return weights


class BranchNet(Routed):
    """Segment volumes by a U-net with one or more encoder branches.

    Args:
        config: Every axis of the network.
        info: What the data tell: `modalities` in channel order, `n_classes`.

    Attributes:
        branch_names: Names of the stages of each branch, stem first.
    """

    def __init__(self, config: BranchNetConfig, info: Mapping[str, Any]) -> None:
        super().__init__(config.modalities, info)
        self.config = config
        n_classes = int(info.get("n_classes", N_CLASSES))
        style = Style(
            norm=config.norm,
            act=config.act,
            expand=config.expand,
            ffn_ratio=config.ffn_ratio,
            large_kernel=config.large_kernel,
            fusion=config.mvit_fusion,
        )
        self.branch_names = self._add_branches(style)
        self._attentions = self._add_attentions()
        self._fused = self._add_fused(style)
        self._ups = self._add_decoder(replace(style, act="relu"))
        fine = config.total_width * config.decoder[-1]
        self.outc = Conv3d(fine, n_classes, 1)
        self._heads = self._add_heads(n_classes) if config.deep_supervision else []

    def _add(self, name: str, stage: nn.Module) -> str:
        self.add_module(name, stage)
        return name

    def _add_branches(self, style: Style) -> list[list[str]]:
        """Add the stages of every branch; return their names, branch by branch."""
        config = self.config
        one = config.branches == "one"
        c_in = len(config.modalities) if one else 1
        labels = ["enc"] if one else [f"_{name}" for name in config.modalities]
        names: list[list[str]] = []
        for label, plans in zip(labels, config.branch_plans(), strict=True):
            stem = _make(STEMS, config.stem_plan(), c_in, config.width, style)
            stages = [self._add("enc1" if one else f"stem{label}", stem)]
            for level, plan in enumerate(plans, start=1):
                channels = config.width * 2 ** (level - 1)
                stage = _make(DOWNS, plan, channels, 2 * channels, style)
                prefix = label if one else f"branch{label}"
                stages.append(self._add(f"{prefix}{level + 1}", stage))
            names.append(stages)
        return names

    def _add_attentions(self) -> dict[int, str]:
        """Add the weighing of modalities; return the names by level."""
        config = self.config
        names: dict[int, str] = {}
        for level in sorted(set(config.modality_attention)):
            channels = config.width * 2 ** (level - 1)
            stage = ModalityAttention(channels, config.n_branches)
            names[level] = self._add(f"attn{level}", stage)
        return names

    def _add_fused(self, style: Style) -> list[str]:
        channels = self.config.skip_channels()
        names: list[str] = []
        for plan in self.config.fused_plans():
            level = self.config.branch_stages + 1 + len(names)
            stage = _make(DOWNS, plan, channels[level - 1], channels[level], style)
            names.append(self._add(f"down{level + 1}", stage))
        return names

    def _add_decoder(self, style: Style) -> list[str]:
        config = self.config
        *skips, c_in = config.skip_channels()
        reductions: Sequence[int | None] = config.decoder_attention or [None] * len(config.decoder)
        squeezed = None if config.skip_width is None else config.skip_width * config.total_width
        names = []
        rows = zip(config.decoder, reversed(skips), reductions, strict=True)
        for place, (size, c_skip, reduction) in enumerate(rows, start=1):
            c_out = config.total_width * size
            stage = Up(
                c_in,
                c_skip,
                c_out,
                style,
                reduction=reduction,
                c_squeezed=None if squeezed == c_skip else squeezed,
            )
            names.append(self._add(f"up{place}", stage))
            c_in = c_out
        return names

    def _add_heads(self, n_classes: int) -> list[str]:
        """Add output layers to all decoder stages but the finest, fine to coarse."""
        sizes = self.config.decoder[:-1]
        return [
            self._add(
                f"head{place}", Conv3d(self.config.total_width * sizes[place - 1], n_classes, 1)
            )
            for place in range(len(sizes), 0, -1)
        ]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return logits (B,K,D,H,W).

        With deep supervision and in training mode a list of logits, fine to coarse, each of half
        the size (rounded up) of the one before.

        Args:
            x: Volumes (B,C,D,H,W) of any size, channels as the data told.

        Raises:
            NeuroError: Another number of channels.
        """
        grid = x.shape[2:]
        maps, _ = self._encode(fill_grid(self.route(x), self.config.divisor))
        decoded = self._decode(maps)
        logits = cut_grid(self.outc(decoded[-1]), grid)
        if not (self.training and self._heads):
            return logits
        coarse = zip(self._heads, reversed(decoded[:-1]), strict=True)
        outputs = [logits]
        for level, (head, features) in enumerate(coarse, start=1):
            kept = [-(-size // 2**level) for size in grid]
            outputs.append(cut_grid(self._stage(head)(features), kept))
        return outputs

    def modality_weights(self, x: Tensor) -> dict[str, Tensor]:
        """Return how strongly each modality is let through.

        Args:
            x: Volumes (B,C,D,H,W) of any size.

        Returns:
            Weights (B, modalities) in (0,1) by stage, `stage2` and so on, in the order of
            `modalities`, and their mean as `average`; empty for a network without attention.

        Raises:
            NeuroError: Another number of channels.
        """
        _, weights = self._encode(fill_grid(self.route(x), self.config.divisor))
        found = {f"stage{level}": weight for level, weight in weights.items()}
        if found:
            found["average"] = torch.stack(list(found.values())).mean(0)
        return found

    def _stage(self, name: str) -> Callable[..., Tensor]:
        return cast(Callable[..., Tensor], getattr(self, name))

    def _encode(self, x: Tensor) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Return the map of every level, full size first, and the weights of modalities."""
        parts = [x] if self.config.branches == "one" else list(torch.split(x, 1, 1))
        maps, weights = [], {}
        for level in range(1, self.config.branch_stages + 2):
            parts = [
                self._stage(names[level - 1])(part)
                for names, part in zip(self.branch_names, parts, strict=True)
            ]
            if level in self._attentions:
                weights[level] = self._stage(self._attentions[level])(parts)
                scales = torch.split(weights[level], 1, 1)
                parts = [
                    part * scale[:, :, None, None, None]
                    for part, scale in zip(parts, scales, strict=True)
                ]
            maps.append(parts[0] if len(parts) == 1 else torch.cat(parts, 1))
        for name in self._fused:
            maps.append(self._stage(name)(maps[-1]))
        return maps, weights

    def _decode(self, maps: list[Tensor]) -> list[Tensor]:
        """Return what every decoder stage gives, coarse first; `maps` is used up."""
        x = maps.pop()
        decoded: list[Tensor] = []
        keeps_all = self.training and bool(self._heads)
        for name in self._ups:
            # Popped, so that a map is freed as soon as its skip is used.
            x = self._stage(name)(x, maps.pop())
            decoded = [*decoded, x] if keeps_all else [x]
        return decoded


def _make(
    registry: Mapping[str, Callable[[int, int, Style], nn.Module]],
    plan: StagePlan,
    c_in: int,
    c_out: int,
    style: Style,
) -> nn.Module:
    adjusted = replace(style, repeats=plan.repeats, reduction=plan.reduction, dilations=plan.rates)
    return registry[plan.block](c_in, c_out, adjusted)
