"""ConvNeXt in three dimensions (Liu et al. 2022, arXiv 2201.03545)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurocli.core.nn.conv3d import Conv3d
from neurocli.core.nn.depthwise3d import DepthwiseConv3d
from neurocli.core.nn.layers3d import Style

_KERNEL = 7
_WIDENING = 4
_FIRST_SCALE = 1e-6


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7x7, norm, widen, GELU, narrow, scale each channel, add the input.

    Args:
        channels: C.
        style: Its `norm` is read.
    """

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        hidden = _WIDENING * channels
        self.layers = nn.Sequential(
            DepthwiseConv3d(channels, _KERNEL, bias=True),
            style.normed(channels),
            Conv3d(channels, hidden, 1),
            nn.GELU(),
            Conv3d(hidden, channels, 1),
        )
        self.scale = nn.Parameter(torch.full((channels,), _FIRST_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,C,D,H,W) as x."""
        result: Tensor = x + self.scale.view(-1, 1, 1, 1) * self.layers(x)
        return result


class DownConvNeXt(nn.Sequential):
    """Norm, halve the grid by a 2x2x2 convolution, then two blocks."""

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        super().__init__(
            style.normed(c_in),
            Conv3d(c_in, c_out, 2, 2),
            ConvNeXtBlock(c_out, style),
            ConvNeXtBlock(c_out, style),
        )
