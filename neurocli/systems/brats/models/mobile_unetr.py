"""MobileUNETR: a MobileViT encoder and a decoder of the same light blocks, in 2D and 3D.

The 2D network is that of Perera et al. 2024 (arXiv 2409.03062), without the expanding layer of its
encoder whose output nobody reads. The 3D network keeps the encoder down to 1/32 (at 1/64 a patch
would hold eight tokens), joins a skip at every level and doubles by learned steps to full size.

Letters: B batch, C modalities of the data, K classes, D H W space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.systems.brats.config import N_CLASSES, MobileUnetr2dConfig, MobileUnetrConfig
from neurocli.systems.brats.models.mobile_parts import (
    Axes,
    DecoderMixer,
    EncoderMixer,
    rounded,
)
from neurocli.systems.brats.models.routing import Routed, cut_grid, fill_grid

_DEPTHS = (2, 4, 3)
_COLOURS = 3


@dataclass(frozen=True)
class Widths:
    """Hold the channels of one variant.

    Args:
        levels: Channels of the stem and of the maps at 1/2, 1/4, 1/8, 1/16 and 1/32.
        tokens: Widths of tokens at 1/8, 1/16 and 1/32.
        bottom: Channels at 1/64.
        expand: Widening of the encoder's inverted residuals.
    """

    levels: tuple[int, int, int, int, int, int]
    tokens: tuple[int, int, int]
    bottom: int
    expand: int


VARIANTS: Mapping[str, Widths] = {
    "s": Widths((16, 32, 64, 96, 128, 160), (144, 192, 240), 196, 4),
    "xs": Widths((16, 32, 48, 64, 80, 96), (96, 120, 144), 128, 4),
    "xxs": Widths((16, 16, 24, 48, 64, 80), (64, 80, 96), 96, 2),
}


class Encoder(nn.Module):
    """Give maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the grid, attention in the last three.

    Args:
        axes: Makes the layers.
        widths: Channels.
    """

    def __init__(self, axes: Axes, widths: Widths) -> None:
        super().__init__()
        stem, half, quarter, *deep = widths.levels

        def residual(c_in: int, c_out: int, stride: int = 1) -> nn.Module:
            return axes.residual(c_in, c_out, stride=stride, hidden=rounded(c_in * widths.expand))

        first = nn.Sequential(axes.conv_act(_COLOURS, stem, 3, stride=2), residual(stem, half))
        second = nn.Sequential(
            residual(half, quarter, 2), residual(quarter, quarter), residual(quarter, quarter)
        )
        stages: list[nn.Module] = [first, second]
        c_in = quarter
        for c_out, width, depth in zip(deep, widths.tokens, _DEPTHS, strict=True):
            mixer = EncoderMixer(axes, c_out, width, depth)
            stages.append(nn.Sequential(residual(c_in, c_out, 2), mixer))
            c_in = c_out
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the five maps of x (B,3,*grid), fine first."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class UpStage(nn.Module):
    """Double the grid, join a skip, narrow, and mix where a mixer is given.

    Args:
        axes: Makes the layers.
        c_in: Channels from below.
        c_out: Channels of the skip and of the output.
        mixer: Applied last.
    """

    def __init__(
        self, axes: Axes, c_in: int, c_out: int, *, mixer: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.up = axes.up(c_in, c_out)
        self.reduce = axes.residual(2 * c_out, c_out)
        self.mixer = nn.Identity() if mixer is None else mixer

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B,c_out,*grid) on the grid of the skip."""
        joined = torch.cat([self.up(x), skip], 1)
        result: Tensor = self.mixer(self.reduce(joined))
        return result


class _MobileUnetr(Routed):
    """What both networks share: routing, three colours, encoder, decoder stages."""

    def __init__(
        self, config: MobileUnetrConfig, info: Mapping[str, Any], axes: Axes, divisor: int
    ) -> None:
        super().__init__(config.modalities, info)
        self.divisor = divisor
        # Three channels, as the public weights of MobileViT read.
        self.adapter = axes.conv(len(config.modalities), _COLOURS, 1)
        self.encoder = Encoder(axes, VARIANTS[config.variant])

    def _add_ups(self, axes: Axes, c_in: int, rows: Sequence[tuple[int, nn.Module | None]]) -> None:
        stages = []
        for c_out, mixer in rows:
            stages.append(UpStage(axes, c_in, c_out, mixer=mixer))
            c_in = c_out
        self.ups = nn.ModuleList(stages)

    def _climb(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B,K,*grid) of x (B,C,*grid) of any size.

        Raises:
            NeuroError: Another number of channels than the data told.
        """
        grid = x.shape[2:]
        return cut_grid(self._logits(fill_grid(self.route(x), self.divisor)), grid)

    def _logits(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class MobileUnetr2d(_MobileUnetr):
    """Segment slices; a volume is cut into slices that are segmented one by one.

    Args:
        config: Variant and axis of slices.
        info: What the data tell: `modalities` in channel order, `n_classes`.
    """

    def __init__(self, config: MobileUnetr2dConfig, info: Mapping[str, Any]) -> None:
        axes, widths = Axes(2), VARIANTS[config.variant]
        # At 1/64 the patches of attention need two places along each axis.
        super().__init__(config, info, axes, 128)
        self.slice_axis = config.slice_axis
        half, quarter, eighth, sixteenth, deepest = widths.levels[1:]
        token_8, token_16, token_32 = widths.tokens
        self.bottleneck = nn.Sequential(
            axes.residual(deepest, widths.bottom, stride=2),
            DecoderMixer(axes, widths.bottom, token_32, 3, 4),
        )
        rows: list[tuple[int, nn.Module | None]] = [
            (deepest, DecoderMixer(axes, deepest, token_32, _DEPTHS[0], 2)),
            (sixteenth, DecoderMixer(axes, sixteenth, token_16, _DEPTHS[1], 4)),
            (eighth, DecoderMixer(axes, eighth, token_8, _DEPTHS[2], 4)),
            (quarter, None),
        ]
        self._add_ups(axes, widths.bottom, rows)
        self.mix = axes.conv_act(quarter + half, quarter, 3)
        self.dropout = nn.Dropout(config.dropout)
        self.outc = axes.conv(quarter, int(info.get("n_classes", N_CLASSES)), 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of slices (B,C,H,W), or of volumes (B,C,D,H,W) slice by slice.

        Raises:
            NeuroError: Another number of channels than the data told.
        """
        if x.ndim == 4:
            return super().forward(x)
        slices = x.movedim(2 + self.slice_axis, 1)
        logits = super().forward(slices.flatten(0, 1))
        stacked = logits.reshape(*slices.shape[:2], *logits.shape[1:])
        return stacked.movedim(1, 2 + self.slice_axis)

    def _logits(self, x: Tensor) -> Tensor:
        half, *skips = self.encoder(self.adapter(x))
        x = self._climb(self.bottleneck(skips[-1]), skips)
        x = _twice(x)
        x = self.outc(self.dropout(self.mix(torch.cat([x, half], 1))))
        return _twice(x)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)


class MobileUnetr3d(_MobileUnetr):
    """Segment volumes.

    Args:
        config: Variant.
        info: What the data tell: `modalities` in channel order, `n_classes`.
    """

    def __init__(self, config: MobileUnetrConfig, info: Mapping[str, Any]) -> None:
        axes, widths = Axes(3), VARIANTS[config.variant]
        super().__init__(config, info, axes, 32)
        half, quarter, eighth, sixteenth, deepest = widths.levels[1:]
        token_8, token_16, _ = widths.tokens
        rows: list[tuple[int, nn.Module | None]] = [
            (sixteenth, DecoderMixer(axes, sixteenth, token_16, _DEPTHS[1], 4)),
            (eighth, DecoderMixer(axes, eighth, token_8, _DEPTHS[2], 4)),
            (quarter, None),
            (half, None),
        ]
        self._add_ups(axes, deepest, rows)
        self.grow = nn.Sequential(axes.double(half), axes.normed(half), nn.SiLU(inplace=True))
        self.mix = axes.conv_act(half + _COLOURS, half, 3)
        self.dropout = nn.Dropout(config.dropout)
        self.outc = axes.conv(half, int(info.get("n_classes", N_CLASSES)), 1, bias=True)

    def _logits(self, x: Tensor) -> Tensor:
        colours = self.adapter(x)
        *skips, deepest = self.encoder(colours)
        x = self.grow(self._climb(deepest, skips))
        logits: Tensor = self.outc(self.dropout(self.mix(torch.cat([x, colours], 1))))
        return logits
