"""The small change of 3D networks: how blocks normalise and activate, and conv-norm-act.

Blocks take a `Style`, so that a whole network changes its norm or its activation in one place.
Letters: B batch, C channels, D H W space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from neurocli.core.names import lookup
from neurocli.core.nn.conv3d import Conv3d
from neurocli.core.nn.depthwise3d import DepthwiseConv3d


def _group_norm(channels: int) -> nn.Module:
    groups = next(groups for groups in (8, 4, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)


NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "bn": nn.BatchNorm3d,
    "in": lambda channels: nn.InstanceNorm3d(channels, affine=True),
    "gn": _group_norm,
}
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
}


@dataclass(frozen=True)
class Style:
    """Say how blocks of a network are made; a block reads what concerns it.

    Args:
        norm: A name of `NORMS`; bn is batch, in instance, gn group norm.
        act: A name of `ACTIVATIONS`.
        expand: Widening of inverted residuals.
        ffn_ratio: Widening of the feed-forward layer behind a large kernel.
        large_kernel: Taps along an axis of the large depthwise kernel, odd.
        reduction: Of the channel attention in each inverted residual; None has none.
        dilations: Of the last inverted residual of a stage; each adds a depthwise convolution.
        repeats: Inverted residuals in a stage, all but the first with stride 1.
        fusion: How a MobileViT block joins its halves: "3x3" or "1x1".
    """

    norm: str = "bn"
    act: str = "relu"
    expand: int = 4
    ffn_ratio: int = 2
    large_kernel: int = 13
    reduction: int | None = None
    dilations: tuple[int, ...] = (1,)
    repeats: int = 1
    fusion: str = "3x3"

    def normed(self, channels: int) -> nn.Module:
        """Return a new norm over channels.

        Raises:
            UsageError: The name of the norm is unknown.
        """
        return lookup("norm", self.norm, NORMS)(channels)

    def activation(self) -> nn.Module:
        """Return a new activation.

        Raises:
            UsageError: The name of the activation is unknown.
        """
        return lookup("activation", self.act, ACTIVATIONS)()


def conv_norm(
    c_in: int, c_out: int, style: Style, *, kernel: int = 1, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    """Return a convolution without offset that keeps the grid at stride 1, and its norm."""
    padding = (kernel - 1) * dilation // 2
    conv = Conv3d(c_in, c_out, kernel, stride, padding, dilation, bias=False)
    return [conv, style.normed(c_out)]


def conv_norm_act(
    c_in: int, c_out: int, style: Style, *, kernel: int = 1, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    """Return a convolution without offset, its norm and the activation."""
    layers = conv_norm(c_in, c_out, style, kernel=kernel, stride=stride, dilation=dilation)
    return [*layers, style.activation()]


def depthwise_norm(
    channels: int, style: Style, *, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    """Return a depthwise convolution without offset, and its norm."""
    conv = DepthwiseConv3d(channels, kernel, stride=stride, dilation=dilation)
    return [conv, style.normed(channels)]


class DoubleConv(nn.Sequential):
    """Twice [3x3x3 convolution, norm, activation]; (B,c_in,D,H,W) -> (B,c_out,D,H,W)."""

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        super().__init__(
            *conv_norm_act(c_in, c_out, style, kernel=3),
            *conv_norm_act(c_out, c_out, style, kernel=3),
        )


class ChannelAttention(nn.Module):
    """Scale channels by what their mean and their maximum say (Woo et al. 2018).

    Both pass one shared pair of linear layers without offsets; the sum goes through a sigmoid.

    Args:
        channels: C.
        reduction: The layer between has C / reduction channels, at least one.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.excite = nn.Linear(hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B,C,D,H,W) with each channel scaled by a number in (0,1)."""
        asked = self._vote(x.mean((2, 3, 4))) + self._vote(x.amax((2, 3, 4)))
        return x * asked.sigmoid()[:, :, None, None, None]

    def _vote(self, pooled: Tensor) -> Tensor:
        voted: Tensor = self.excite(self.act(self.squeeze(pooled)))
        return voted
