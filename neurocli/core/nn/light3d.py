"""Light 3D blocks that split a dense convolution: inverted residuals, ghosts, shuffled halves.

Sandler et al. 2018 (MobileNetV2), Han et al. 2020 (GhostNet), Ma et al. 2018 (ShuffleNetV2), each
carried to three dimensions. Letters: B batch, C channels, D H W space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurocli.core.nn.layers3d import (
    ChannelAttention,
    Style,
    conv_norm,
    conv_norm_act,
    depthwise_norm,
)


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, perhaps attend, narrow; a residual where shapes agree.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        style: Its `norm`, `act` and `expand` are read.
        stride: Of the first depthwise convolution.
        dilations: One depthwise 3x3x3 convolution for each.
        reduction: Of the channel attention; None has none.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        style: Style,
        *,
        stride: int = 1,
        dilations: tuple[int, ...] = (1,),
        reduction: int | None = None,
    ) -> None:
        super().__init__()
        hidden = max(c_out, c_in * style.expand)
        layers = [] if hidden == c_in else conv_norm_act(c_in, hidden, style)
        for place, dilation in enumerate(dilations):
            step = 1 if place else stride
            layers += depthwise_norm(hidden, style, stride=step, dilation=dilation)
            layers.append(style.activation())
        if reduction is not None:
            layers.append(ChannelAttention(hidden, reduction))
        self.layers = nn.Sequential(*layers, *conv_norm(hidden, c_out, style))
        self.is_residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,c_out,D,H,W), halved at stride 2."""
        result: Tensor = self.layers(x)
        return x + result if self.is_residual else result


class Ghost(nn.Module):
    """Make half of the channels by a convolution and the rest from them by a depthwise one.

    Args:
        c_in: Input channels.
        c_out: Output channels, even.
        style: Its `norm` and `act` are read.
        stride: Of the convolution.
    """

    def __init__(self, c_in: int, c_out: int, style: Style, *, stride: int = 1) -> None:
        super().__init__()
        half = c_out // 2
        self.primary = nn.Sequential(*conv_norm_act(c_in, half, style, kernel=3, stride=stride))
        self.cheap = nn.Sequential(*depthwise_norm(half, style), style.activation())

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,c_out,D,H,W), halved at stride 2."""
        made = self.primary(x)
        return torch.cat([made, self.cheap(made)], 1)


class GhostBottleneck(nn.Module):
    """Two ghost modules; at stride 2 a depthwise shortcut is added, as the paper does.

    Args:
        c_in: Input channels.
        c_out: Output channels, divisible by 4.
        style: Its `norm` and `act` are read.
        stride: 1 has no shortcut where channels change.
    """

    def __init__(self, c_in: int, c_out: int, style: Style, *, stride: int = 2) -> None:
        super().__init__()
        self.ghosts = nn.Sequential(
            Ghost(c_in, c_out // 2, style, stride=stride), Ghost(c_out // 2, c_out, style)
        )
        self.shortcut: nn.Module | None = None
        if stride == 2:
            self.shortcut = nn.Sequential(
                *depthwise_norm(c_in, style, stride=2), *conv_norm(c_in, c_out, style)
            )
        elif c_in == c_out:
            self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,c_out,D,H,W), halved at stride 2."""
        result: Tensor = self.ghosts(x)
        return result if self.shortcut is None else result + self.shortcut(x)


def shuffle(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels of (B,C,D,H,W), so that they mix later on.

    >>> shuffle(torch.arange(4.0).reshape(1, 4, 1, 1, 1)).flatten().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """
    batch, channels, *grid = x.shape
    halves = x.reshape(batch, 2, channels // 2, *grid)
    return halves.transpose(1, 2).reshape(batch, channels, *grid)


def _separable(c_in: int, c_out: int, style: Style, **depthwise: int) -> list[nn.Module]:
    return [*depthwise_norm(c_in, style, **depthwise), *conv_norm_act(c_in, c_out, style)]


def _plain_half(half: int, style: Style, kernel: int) -> list[nn.Module]:
    """Return depthwise, 1x1x1, depthwise, 1x1x1 with an activation behind all but the third."""
    first = [*depthwise_norm(half, style, kernel=kernel), style.activation()]
    return [
        *first,
        *conv_norm_act(half, half, style),
        *_separable(half, half, style, kernel=kernel),
    ]


def _dilated_half(half: int, style: Style, rates: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for rate in rates:
        layers += [*depthwise_norm(half, style, kernel=5, dilation=rate), style.activation()]
        layers += conv_norm_act(half, half, style)
    return layers


class ShuffleUnit(nn.Module):
    """Keep one half of the channels, convolve the other, interleave them.

    Args:
        channels: C, even.
        style: Its `norm` and `act` are read.
        kernel: Taps of the depthwise convolutions.
        rates: Dilations of 5x5x5 kernels that replace them; empty keeps them.
    """

    def __init__(
        self, channels: int, style: Style, *, kernel: int = 3, rates: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        half = channels // 2
        layers = _dilated_half(half, style, rates) if rates else _plain_half(half, style, kernel)
        self.convolve = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,C,D,H,W) as x."""
        kept, changed = x.chunk(2, 1)
        return shuffle(torch.cat([kept, self.convolve(changed)], 1))


class ShuffleDownUnit(nn.Module):
    """Halve the grid on two paths that give half of the channels each, interleaved.

    Args:
        c_in: Input channels.
        c_out: Output channels, even.
        style: Its `norm` and `act` are read.
        kernel: Taps of the depthwise convolutions.
    """

    def __init__(self, c_in: int, c_out: int, style: Style, *, kernel: int = 3) -> None:
        super().__init__()
        half = c_out // 2
        self.short = nn.Sequential(*_separable(c_in, half, style, kernel=kernel, stride=2))
        self.long = nn.Sequential(
            *conv_norm_act(c_in, c_in, style),
            *_separable(c_in, half, style, kernel=kernel, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,c_out,D/2,H/2,W/2)."""
        return shuffle(torch.cat([self.short(x), self.long(x)], 1))
