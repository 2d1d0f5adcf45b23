"""The blocks that 3D encoders and decoders are put together from, found by name.

`STEMS` begin a branch at full size; `DOWNS` halve the grid and widen. Each row is called as
`make(c_in, c_out, style)` and returns a module (B,c_in,D,H,W) -> (B,c_out,D',H',W').
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.errors import NeuroError
from neurocli.core.nn.conv3d import Conv3d, UpConv3d
from neurocli.core.nn.convnext3d import ConvNeXtBlock, DownConvNeXt
from neurocli.core.nn.layers3d import (
    ChannelAttention,
    DoubleConv,
    Style,
    conv_norm_act,
)
from neurocli.core.nn.light3d import (
    GhostBottleneck,
    InvertedResidual,
    ShuffleDownUnit,
    ShuffleUnit,
)
from neurocli.core.nn.mobilevit3d import DownMobileViT
from neurocli.core.nn.replk3d import DownRepLK

Make = Callable[[int, int, Style], nn.Module]

_RATES = (1, 2, 5)
_LARGE_SHUFFLE = 7


class DownPool(nn.Sequential):
    """Halve the grid by the maximum of 2x2x2 voxels, then convolve twice."""

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        super().__init__(nn.MaxPool3d(2), *DoubleConv(c_in, c_out, style))


class DownStride(nn.Sequential):
    """Halve the grid by a 3x3x3 convolution of stride 2, then convolve once more."""

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        super().__init__(
            *conv_norm_act(c_in, c_out, style, kernel=3, stride=2),
            *conv_norm_act(c_out, c_out, style, kernel=3),
        )


class DownDilated(nn.Sequential):
    """Halve the grid, then convolve with taps 2 and 5 voxels apart: rates 1, 2, 5 without gaps."""

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        layers: list[nn.Module] = []
        for place, rate in enumerate(_RATES):
            source, stride = (c_out, 1) if place else (c_in, 2)
            layers += conv_norm_act(source, c_out, style, kernel=3, stride=stride, dilation=rate)
        super().__init__(*layers)


def _residuals(c_in: int, c_out: int, style: Style, stride: int) -> nn.Module:
    """Chain inverted residuals; the first changes shape, the last carries the dilations."""
    layers = []
    for place in range(style.repeats):
        is_last = place == style.repeats - 1
        layers.append(
            InvertedResidual(
                c_out if place else c_in,
                c_out,
                style,
                stride=1 if place else stride,
                dilations=style.dilations if is_last else (1,),
                reduction=style.reduction,
            )
        )
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _down_shuffle(kernel: int = 3, rates: tuple[int, ...] = ()) -> Make:
    # The unit that halves keeps small taps where the others are dilated.
    def make(c_in: int, c_out: int, style: Style) -> nn.Module:
        return nn.Sequential(
            ShuffleDownUnit(c_in, c_out, style, kernel=kernel),
            ShuffleUnit(c_out, style, kernel=kernel, rates=rates),
        )

    return make


def _stem_shuffle(kernel: int = 3, rates: tuple[int, ...] = ()) -> Make:
    def make(c_in: int, c_out: int, style: Style) -> nn.Module:
        return nn.Sequential(
            *conv_norm_act(c_in, c_out, style, kernel=3),
            ShuffleUnit(c_out, style, kernel=kernel, rates=rates),
        )

    return make


def _stem_convnext(c_in: int, c_out: int, style: Style) -> nn.Module:
    return nn.Sequential(Conv3d(c_in, c_out, 3, padding=1), ConvNeXtBlock(c_out, style))


STEMS: Mapping[str, Make] = {
    "conv": DoubleConv,
    "mobilenetv2": lambda c_in, c_out, style: _residuals(c_in, c_out, style, 1),
    "ghost": lambda c_in, c_out, style: GhostBottleneck(c_in, c_out, style, stride=1),
    "convnext": _stem_convnext,
    "shufflenetv2": _stem_shuffle(),
    "shufflenetv2_dilated": _stem_shuffle(rates=_RATES),
    "shufflenetv2_lk": _stem_shuffle(_LARGE_SHUFFLE),
}
DOWNS: Mapping[str, Make] = {
    "conv": DownPool,
    "stride": DownStride,
    "dilated": DownDilated,
    "replk": DownRepLK,
    "mobilenetv2": lambda c_in, c_out, style: _residuals(c_in, c_out, style, 2),
    "mobilevit": DownMobileViT,
    "ghost": GhostBottleneck,
    "convnext": DownConvNeXt,
    "shufflenetv2": _down_shuffle(),
    "shufflenetv2_dilated": _down_shuffle(rates=_RATES),
    "shufflenetv2_lk": _down_shuffle(_LARGE_SHUFFLE),
}


class Up(nn.Module):
    """Double the grid, join the skip, convolve twice.

    Nothing is ever cut: where the doubled map is larger than the skip, the two are misaligned and
    that is an error; where it is one voxel smaller (an odd size was halved) it is filled.

    Args:
        c_in: Channels from below.
        c_skip: Channels of the skip.
        c_out: Output channels.
        style: Passed on to the convolutions.
        reduction: Of a channel attention over what was joined; None has none.
        c_squeezed: The skip is first narrowed to so many channels; None leaves it.
    """

    def __init__(
        self,
        c_in: int,
        c_skip: int,
        c_out: int,
        style: Style,
        *,
        reduction: int | None = None,
        c_squeezed: int | None = None,
    ) -> None:
        super().__init__()
        self.up = UpConv3d(c_in, c_in // 2)
        self.squeeze: nn.Module = nn.Identity()
        if c_squeezed is not None:
            self.squeeze = nn.Sequential(*conv_norm_act(c_skip, c_squeezed, style))
            c_skip = c_squeezed
        joined = c_skip + c_in // 2
        self.attention: nn.Module = (
            nn.Identity() if reduction is None else ChannelAttention(joined, reduction)
        )
        self.conv = DoubleConv(joined, c_out, style)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B,c_out,D,H,W) on the grid of the skip.

        Args:
            x: From below, (B,c_in,D',H',W').
            skip: (B,c_skip,D,H,W).

        Raises:
            NeuroError: The doubled map and the skip do not lie on the same voxels.
        """
        x = fill_to(self.up(x), skip)
        joined = torch.cat([self.squeeze(skip), x], 1)
        return cast(Tensor, self.conv(self.attention(joined)))


def fill_to(x: Tensor, skip: Tensor) -> Tensor:
    """Return x with at most one voxel of zeros behind each axis, on the grid of the skip.

    Raises:
        NeuroError: Something would have to be cut, or more than one voxel is missing.
    """
    missing = [want - have for want, have in zip(skip.shape[2:], x.shape[2:], strict=True)]
    if not all(0 <= size <= 1 for size in missing):
        raise NeuroError(
            f"a map of {list(x.shape[2:])} voxels does not fit a skip of {list(skip.shape[2:])}",
            where="decoder",
            hint="every stage must halve the grid exactly once",
        )
    if not any(missing):
        return x
    return F.pad(x, [side for size in reversed(missing) for side in (0, size)])
