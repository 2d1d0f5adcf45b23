"""Large depthwise kernels in 3D, trained beside a small one and folded into one kernel.

After Ding et al. 2022 (arXiv 2203.06717): a 13^3 depthwise convolution learns better with a 3^3
one beside it, each with a batch norm of its own. In evaluation both, with their norms, are one
linear map, so `fold_large_kernels` replaces them by a single convolution with the same result.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.errors import UsageError
from neurocli.core.nn.depthwise3d import DepthwiseConv3d
from neurocli.core.nn.layers3d import Style, conv_norm, conv_norm_act, depthwise_norm

SMALL_KERNEL = 3
_WIDENING = 1.5


class Transition(nn.Sequential):
    """Widen by a 1x1x1 convolution and halve the grid by a depthwise 3x3x3 one of stride 2."""

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        super().__init__(
            *conv_norm_act(c_in, c_out, style),
            *depthwise_norm(c_out, style, stride=2),
            style.activation(),
        )


class LargeKernel(nn.Module):
    """Sum a large and a small depthwise convolution, each with its norm.

    Args:
        channels: C.
        style: Its `norm` and `large_kernel` are read.
    """

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        self.large, self.large_norm = depthwise_norm(channels, style, kernel=style.large_kernel)
        self.small, self.small_norm = depthwise_norm(channels, style, kernel=SMALL_KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both, (B,C,D,H,W) as x."""
        large, small = self.large_norm(self.large(x)), self.small_norm(self.small(x))
        total: Tensor = large + small
        return total

    def folded(self) -> DepthwiseConv3d:
        """Return one convolution that gives what this does in evaluation.

        Raises:
            UsageError: Its norms depend on the input, so they cannot be folded.
        """
        large, offset = _with_norm(self.large, self.large_norm)
        small, other = _with_norm(self.small, self.small_norm)
        margin = (large.shape[-1] - small.shape[-1]) // 2
        conv = DepthwiseConv3d(large.shape[0], large.shape[-1], bias=True)
        conv = conv.to(next(self.large.parameters()))
        with torch.no_grad():
            conv.weight.copy_(large + F.pad(small, [margin] * 6))
            assert conv.bias is not None  # asked for three lines above
            conv.bias.copy_(offset + other)
        return conv


def _with_norm(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return kernel (C,1,k,k,k) and offset (C,) of a convolution and its batch norm, in float64."""
    if not isinstance(norm, nn.BatchNorm3d) or norm.running_mean is None:
        raise UsageError(
            f"a {type(norm).__name__} depends on each input and cannot be folded into a kernel",
            where="model.norm",
            hint="only models with norm bn can be folded",
        )
    assert isinstance(conv, DepthwiseConv3d)
    assert norm.running_var is not None
    # Rounded once, when both kernels are summed.
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    kernel = conv.weight.double() * scale.view(-1, 1, 1, 1, 1)
    offset = norm.bias.double() - norm.running_mean.double() * scale
    return kernel, offset


class RepLKBlock(nn.Module):
    """Mix space by a large kernel between two 1x1x1 convolutions, around a residual.

    Args:
        channels: C.
        style: Its `norm`, `act` and `large_kernel` are read.
    """

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        hidden = round(_WIDENING * channels)
        self.norm = style.normed(channels)
        self.expand = nn.Sequential(*conv_norm_act(channels, hidden, style))
        self.depthwise: nn.Module = LargeKernel(hidden, style)
        self.act = style.activation()
        self.project = nn.Sequential(*conv_norm(hidden, channels, style))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,C,D,H,W) as x."""
        mixed = self.depthwise(self.expand(self.norm(x)))
        total: Tensor = x + self.project(self.act(mixed))
        return total


class ConvFFN(nn.Module):
    """Mix channels by two 1x1x1 convolutions with a GELU between them, around a residual.

    Args:
        channels: C.
        style: Its `norm` and `ffn_ratio` are read.
    """

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        hidden = channels * style.ffn_ratio
        self.norm = style.normed(channels)
        self.layers = nn.Sequential(
            *conv_norm(channels, hidden, style),
            nn.GELU(),
            *conv_norm(hidden, channels, style),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B,C,D,H,W) as x."""
        total: Tensor = x + self.layers(self.norm(x))
        return total


class DownRepLK(nn.Sequential):
    """Halve the grid, then mix space by a large kernel and channels by a feed-forward layer."""

    def __init__(self, c_in: int, c_out: int, style: Style) -> None:
        super().__init__(
            Transition(c_in, c_out, style), RepLKBlock(c_out, style), ConvFFN(c_out, style)
        )


def fold_large_kernels(model: nn.Module) -> int:
    """Replace every pair of a large and a small kernel by one; return how many were replaced.

    Results in evaluation stay equal within rounding; the model cannot be trained as before.

    Args:
        model: Changed in place.

    Raises:
        UsageError: The norms depend on the input; the model is left as it was.

    >>> model = RepLKBlock(2, Style()).eval()
    >>> fold_large_kernels(model)
    1
    """
    pairs = [part for part in model.modules() if isinstance(part, RepLKBlock)]
    kernels = [
        (part, part.depthwise.folded()) for part in pairs if isinstance(part.depthwise, LargeKernel)
    ]
    for part, kernel in kernels:
        part.depthwise = kernel
    return len(kernels)
