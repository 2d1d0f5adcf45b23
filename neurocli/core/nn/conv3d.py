"""3D convolutions that torch computes on its fast path at every size.

On a CPU torch leaves oneDNN for its own im2col convolution when the input is one float32 sample
with C*D*H <= 20480 (a rule made for images), several times slower. The same products, written as
two groups that each read the whole input and give half of the outputs, are not subject to it.
Transposed convolutions whose blocks do not overlap are one matrix product.

Letters: B batch, C channels, D H W space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.errors import UsageError

SMALL_INPUT = 20480
"""C*D*H up to which torch takes its slow path for one float32 sample on a CPU."""


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] | str = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Tensor:
    """Convolve as `torch.nn.functional.conv3d` does, never on torch's slow path.

    Args:
        x: Input (B,C,D,H,W).
        weight: Kernels (K, C/groups, kd, kh, kw).
        bias: (K,), or None.
        stride: Step along each axis.
        padding: Zeros on both sides of each axis, or "same".
        dilation: Distance of taps along each axis.
        groups: Groups of channels.

    >>> conv3d(torch.ones(1, 2, 3, 3, 3), torch.ones(1, 2, 3, 3, 3)).shape
    torch.Size([1, 1, 1, 1, 1])
    """
    stride, dilation = tuple(stride), tuple(dilation)
    padding = padding if isinstance(padding, str) else tuple(padding)
    if not takes_slow_path(x, weight, groups):
        return F.conv3d(x, weight, bias, stride, padding, dilation, groups)
    twice = torch.cat([x, x], 1)
    if weight.shape[0] % 2 == 0:
        return F.conv3d(twice, weight, bias, stride, padding, dilation, 2)
    # One output more makes two equal groups; it is computed and dropped.
    weight = torch.cat([weight, weight[:1]])
    bias = None if bias is None else torch.cat([bias, bias[:1]])
    return F.conv3d(twice, weight, bias, stride, padding, dilation, 2)[:, :-1]


def takes_slow_path(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Return whether torch would leave oneDNN for this convolution and lose by it.

    A 1x1x1 kernel is one matrix product on either path.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.ndim == 5
        and x.shape[0] == 1
        and groups == 1
        and weight[0, 0].numel() > 1
        and not (weight.shape[-1] > 3 and weight.shape[-2] > 3)
        and x.shape[1] * x.shape[2] * x.shape[3] <= SMALL_INPUT
    )


class Conv3d(nn.Conv3d):
    """Convolve volumes; parameters, arguments and results are those of `torch.nn.Conv3d`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0, 0, 0)
        return conv3d(
            input,
            weight,
            bias,
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class UpConv3d(nn.ConvTranspose3d):
    """Double each axis: a transposed convolution of 2x2x2 blocks that do not overlap.

    Parameters are those of `torch.nn.ConvTranspose3d(c_in, c_out, 2, stride=2)`. Each input voxel
    gives one output block, so all of it is one matrix product.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        bias: Whether channels have an offset.
    """

    def __init__(self, c_in: int, c_out: int, *, bias: bool = True) -> None:
        super().__init__(c_in, c_out, kernel_size=2, stride=2, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return (B, c_out, 2D, 2H, 2W) of (B, c_in, D, H, W).

        Args:
            input: The volume.
            output_size: Only None: the size is always doubled.

        Raises:
            UsageError: Another size is asked for.
        """
        if output_size is not None:
            raise UsageError(f"output_size {output_size}: the size is always doubled")
        if input.device.type != "cpu":
            return F.conv_transpose3d(input, self.weight, self.bias, 2)
        batch, c_in, depth, height, width = input.shape
        blocks = torch.matmul(self.weight.reshape(c_in, -1).t(), input.reshape(batch, c_in, -1))
        blocks = blocks.reshape(batch, -1, 2, 2, 2, depth, height, width)
        volume = blocks.permute(0, 1, 5, 2, 6, 3, 7, 4)
        volume = volume.reshape(batch, -1, 2 * depth, 2 * height, 2 * width)
        return volume if self.bias is None else volume + self.bias.view(-1, 1, 1, 1)


def use_fast_convolutions(model: nn.Module) -> nn.Module:
    """Let the plain 3D convolutions inside a foreign model take the fast path, and return it.

    Parameters, names and results stay; only exact `torch.nn.Conv3d` modules are changed.

    Args:
        model: Any model.
    """
    for module in model.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Conv3d
    return model
