"""Parts of MobileUNETR for slices and volumes alike: the same blocks over two or three axes.

Letters: B batch, C channels; grids are (H,W) or (D,H,W).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from neurocli.core.nn.conv3d import Conv3d, UpConv3d
from neurocli.core.nn.depthwise3d import DepthwiseConv3d
from neurocli.core.nn.mobilevit3d import SelfAttention, TransformerLayer, fold, unfold

PATCH = 2
_MULTIPLE = 8


def rounded(channels: int) -> int:
    """Return the nearest multiple of 8 that is not much smaller, as MobileNets round widths.

    >>> rounded(12), rounded(64)
    (16, 64)
    """
    near = max(_MULTIPLE, (channels + _MULTIPLE // 2) // _MULTIPLE * _MULTIPLE)
    return near + _MULTIPLE if near < 0.9 * channels else near


class Axes:
    """Make the layers of a network over two or three axes.

    Args:
        n_axes: 2 or 3.
    """

    def __init__(self, n_axes: int) -> None:
        self.n_axes = n_axes

    def conv(
        self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, bias: bool = False
    ) -> nn.Module:
        """Return a convolution that keeps the grid at stride 1."""
        make: Callable[..., nn.Module] = Conv3d if self.n_axes == 3 else nn.Conv2d
        return make(c_in, c_out, kernel, stride, kernel // 2, bias=bias)

    def depthwise(self, channels: int, stride: int) -> nn.Module:
        """Return a depthwise convolution of three taps along each axis."""
        if self.n_axes == 3:
            return DepthwiseConv3d(channels, 3, stride=stride)
        return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)

    def double(self, channels: int) -> nn.Module:
        """Return a transposed convolution that doubles each axis."""
        if self.n_axes == 3:
            return UpConv3d(channels, channels, bias=False)
        return nn.ConvTranspose2d(channels, channels, 2, 2, bias=False)

    def normed(self, channels: int) -> nn.Module:
        """Return a batch norm."""
        return nn.BatchNorm3d(channels) if self.n_axes == 3 else nn.BatchNorm2d(channels)

    def conv_act(self, c_in: int, c_out: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
        """Return convolution, norm and SiLU."""
        conv = self.conv(c_in, c_out, kernel, stride=stride)
        return nn.Sequential(conv, self.normed(c_out), nn.SiLU(inplace=True))

    def residual(
        self, c_in: int, c_out: int, *, stride: int = 1, hidden: int | None = None
    ) -> nn.Module:
        """Return an inverted residual with SiLU; `hidden` is four times the input when None."""
        return Residual(self, c_in, c_out, stride, 4 * c_in if hidden is None else hidden)

    def up(self, c_in: int, c_out: int) -> nn.Module:
        """Return a doubling of each axis, then an inverted residual's layers."""
        first = nn.Sequential(self.double(c_in), self.normed(c_in), nn.SiLU(inplace=True))
        return nn.Sequential(first, Residual(self, c_in, c_out, 1, 4 * c_in, adds=False))


class Residual(nn.Module):
    """Widen, convolve each channel, narrow; a residual where shapes agree.

    Args:
        axes: Makes the layers.
        c_in: Input channels.
        c_out: Output channels.
        stride: Of the depthwise convolution.
        hidden: Channels between.
        adds: False never adds the input.
    """

    def __init__(
        self, axes: Axes, c_in: int, c_out: int, stride: int, hidden: int, *, adds: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *axes.conv_act(c_in, hidden, 1),
            axes.depthwise(hidden, stride),
            axes.normed(hidden),
            nn.SiLU(inplace=True),
            axes.conv(hidden, c_out, 1),
            axes.normed(c_out),
        )
        self.is_residual = adds and stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,c_out,*grid), halved at stride 2."""
        result: Tensor = self.layers(x)
        return x + result if self.is_residual else result


class _Mixer(nn.Module):
    """Local features, attention at the same place of all patches, both joined."""

    local: nn.Module
    layers: nn.Module
    project: nn.Module
    fuse: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,C,*grid) as x."""
        tokens = self.layers(unfold(self.local(x), PATCH))
        spread = self.project(fold(tokens, x.shape[2:], PATCH))
        fused: Tensor = self.fuse(torch.cat(self._joined(x, spread), 1))
        return fused

    def _joined(self, x: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        return x, spread


class EncoderMixer(_Mixer):
    """Mix as the encoder of MobileViT does: heads as wide as the tokens, a norm at the end.

    Args:
        axes: Makes the layers.
        channels: C.
        width: Width of a token.
        depth: Transformer layers.
    """

    def __init__(self, axes: Axes, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.local = nn.Sequential(
            axes.conv_act(channels, channels, 3), axes.conv(channels, width, 1)
        )
        layers = [
            TransformerLayer(SelfAttention(width, 4), width, mlp=2 * width, act=nn.SiLU)
            for _ in range(depth)
        ]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(width))
        self.project = axes.conv_act(width, channels, 1)
        self.fuse = axes.conv_act(2 * channels, channels, 3)


class DecoderMixer(_Mixer):
    """Mix as the decoder of MobileUNETR does: four heads of eight channels.

    Args:
        axes: Makes the layers.
        channels: C.
        width: Width of a token.
        depth: Transformer layers.
        mlp: Width of the layer between, in token widths.
    """

    def __init__(self, axes: Axes, channels: int, width: int, depth: int, mlp: int) -> None:
        super().__init__()
        self.local = nn.Sequential(
            axes.conv_act(channels, channels, 3), axes.conv_act(channels, width, 1)
        )
        layers = [
            TransformerLayer(
                SelfAttention(width, 4, inner=32, with_offsets=False),
                width,
                mlp=mlp * width,
                act=nn.SiLU,
            )
            for _ in range(depth)
        ]
        self.layers = nn.Sequential(*layers)
        self.project = axes.conv_act(width, channels, 1)
        self.fuse = axes.conv_act(2 * channels, channels, 3)

    def _joined(self, x: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        return spread, x
