"""Depthwise 3D convolutions through the Fourier transform, where that is quicker.

torch's backward pass of a depthwise convolution with k^3 taps costs far more than k^3 products
per voxel; as a product of spectra both gradients cost a few transforms, whatever k is. Forwards
the same holds for large or dilated kernels. With N the grid and p the padding, circles of N + p
voxels are long enough: what wraps around meets zeros. Channels are taken in blocks whose spectra
stay small, so that a full-size volume needs little memory beyond its result.

Letters: B batch, C channels, D H W space; k taps along an axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Triple = tuple[int, int, int]

_FEW_PRODUCTS = 20
"""Products per input voxel below which torch's own backward pass is quick enough."""
_LARGE_KERNEL = 9**3
"""Taps from which spectra are quicker forwards too; dilated kernels of 5^3 are as slow."""
_DILATED_KERNEL = 5**3
_BLOCK = 1 << 21
"""Complex numbers in the spectrum of one block of channels: 16 MiB."""
_FACTORS = (2, 3, 5)


def depthwise_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Triple = (1, 1, 1),
    padding: Triple = (0, 0, 0),
    dilation: Triple = (1, 1, 1),
) -> Tensor:
    """Convolve each channel with a kernel of its own.

    The result is that of `torch.nn.functional.conv3d` with as many groups as channels. On a CPU
    the gradients of kernels with many taps, and the result of large ones, come from spectra; they
    are those of torch within 1e-6 of their largest value.

    Args:
        x: Input (B,C,D,H,W).
        weight: Kernels (C,1,k,k,k).
        bias: (C,), or None.
        stride: Step along each axis.
        padding: Zeros on both sides of each axis.
        dilation: Distance of taps along each axis.

    >>> x, weight = torch.ones(1, 2, 4, 4, 4), torch.ones(2, 1, 3, 3, 3)
    >>> float(depthwise_conv3d(x, weight, padding=(1, 1, 1))[0, 0, 0, 0, 0])
    8.0
    """
    wanted = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    many = prod(weight.shape[2:]) > _FEW_PRODUCTS * prod(stride)
    large = _is_large(weight, stride, dilation) and x.dtype in (torch.float32, torch.float64)
    if x.device.type != "cpu" or not (large or (wanted and many)):
        return F.conv3d(x, weight, bias, stride, padding, dilation, weight.shape[0])
    result: Tensor = _Depthwise.apply(x, weight, bias, stride, padding, dilation)  # type: ignore[no-untyped-call]
    return result


class DepthwiseConv3d(nn.Conv3d):
    """Hold a depthwise convolution; parameters are those of `torch.nn.Conv3d` with groups.

    Args:
        channels: Channels in and out.
        kernel: Taps along an axis, odd.
        stride: Step.
        dilation: Distance of taps.
        bias: Whether channels have an offset.

    The grid keeps its size at stride 1: padding is half of what a kernel spans.
    """

    def __init__(
        self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, bias: bool = False
    ) -> None:
        super().__init__(
            channels,
            channels,
            kernel,
            stride=stride,
            padding=(kernel - 1) * dilation // 2,
            dilation=dilation,
            groups=channels,
            bias=bias,
        )

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = _triple(self.padding)
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0, 0, 0)
        return depthwise_conv3d(
            input,
            weight,
            bias,
            stride=_triple(self.stride),
            padding=padding,
            dilation=_triple(self.dilation),
        )


def _triple(sizes: Any) -> Triple:
    depth, height, width = sizes
    return int(depth), int(height), int(width)


class _Depthwise(torch.autograd.Function):
    """Forward by torch, or by spectra for a large kernel; backward by spectra."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Triple,
        padding: Triple,
        dilation: Triple,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sizes = stride, padding, dilation
        if _is_large(weight, stride, dilation) and x.dtype in (torch.float32, torch.float64):
            return _by_spectra(x, weight, bias, padding, dilation)
        return F.conv3d(x, weight, bias, stride, padding, dilation, weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.sizes
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_bias = grad.sum((0, 2, 3, 4)).to(weight.dtype) if needs_bias else None
        grad_x = torch.empty_like(x) if needs_x else None
        grad_weight = torch.empty_like(weight) if needs_weight else None
        lattice = _Lattice(x.shape[2:], weight.shape[2:], padding, dilation)
        for part in lattice.blocks(x):
            spread = lattice.spectrum(_spread(grad[:, part], stride, lattice.out_size))
            if grad_x is not None:
                grad_x[:, part] = lattice.grad_x(spread, weight[part])
            if grad_weight is not None:
                grad_weight[part] = lattice.grad_weight(spread, x[:, part])
        return grad_x, grad_weight, grad_bias, None, None, None


def _is_large(weight: Tensor, stride: Triple, dilation: Triple) -> bool:
    taps = prod(weight.shape[2:])
    dilated = dilation != (1, 1, 1) and taps >= _DILATED_KERNEL
    return stride == (1, 1, 1) and (dilated or taps >= _LARGE_KERNEL)


def _by_spectra(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Triple, dilation: Triple
) -> Tensor:
    lattice = _Lattice(x.shape[2:], weight.shape[2:], padding, dilation)
    result = x.new_empty(*x.shape[:2], *lattice.out_size)
    for part in lattice.blocks(x):
        result[:, part] = lattice.forward(x[:, part], weight[part])
    return result if bias is None else result.add_(bias.view(-1, 1, 1, 1))


class _Lattice:
    """Transform volumes to circles on which a convolution is a product, and back."""

    def __init__(
        self, grid: Sequence[int], taps: Sequence[int], padding: Triple, dilation: Triple
    ) -> None:
        self.grid = tuple(grid)
        self.taps, self.padding, self.dilation = tuple(taps), padding, dilation
        spans = [(k - 1) * d for k, d in zip(taps, dilation, strict=True)]
        pairs = list(zip(grid, padding, spans, strict=True))
        self.out_size = tuple(n + 2 * p - span for n, p, span in pairs)
        # Inputs are shifted by the padding, so that every sum starts at 0. What runs over the end
        # of a circle of n + p meets the zeros before the input; a grid smaller than the kernel
        # needs a circle that still holds every tap.
        self.circle = tuple(
            quick_size(max(n + p, out, span + 1))
            for (n, p, span), out in zip(pairs, self.out_size, strict=True)
        )
        self.ends = tuple(span + 1 for span in spans)

    def blocks(self, x: Tensor) -> Iterator[slice]:
        """Yield ranges of channels whose spectra stay small together."""
        depth, height, width = self.circle
        step = max(1, _BLOCK // (x.shape[0] * depth * height * (width // 2 + 1)))
        for start in range(0, x.shape[1], step):
            yield slice(start, start + step)

    def spectrum(self, x: Tensor, shift: Triple = (0, 0, 0)) -> Tensor:
        """Return the spectrum (..., D', H', W'/2+1) of volumes in float32 or float64.

        Args:
            x: (..., D, H, W).
            shift: Zeros before each axis.
        """
        real = x if x.dtype == torch.float64 else x.float()
        sides: list[int] = []
        for size, before, length in zip(x.shape[-3:], shift, self.circle, strict=True):
            sides = [before, length - size - before, *sides]
        spectrum: Tensor = torch.fft.rfftn(F.pad(real, sides), dim=(-3, -2, -1))
        return spectrum

    def volume(
        self, spectrum: Tensor, size: Sequence[int], start: Sequence[int] = (0, 0, 0)
    ) -> Tensor:
        """Return a box of the circle, each axis cut as soon as it is transformed."""
        (a, b, c), (d, h, w) = start, size
        part: Tensor = torch.fft.ifft(spectrum, dim=-3)[..., a : a + d, :, :]
        part = torch.fft.ifft(part, dim=-2)[..., b : b + h, :]
        part = torch.fft.irfft(part, n=self.circle[2], dim=-1)
        return part[..., c : c + w]

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return sum_k weight[k] x[i + dilation k - padding] for every output voxel i."""
        kernel = self.spectrum(self._dilated(weight[:, 0]))
        product = self.spectrum(x, self.padding).mul_(kernel.conj())
        return self.volume(product, self.out_size)

    def grad_x(self, grad: Tensor, weight: Tensor) -> Tensor:
        """Return sum_k weight[k] grad[j - dilation k + padding] for every input voxel j."""
        kernel = self.spectrum(self._dilated(weight[:, 0]))
        return self.volume(grad * kernel, self.grid, self.padding)

    def grad_weight(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return sum_i grad[i] x[i + dilation k - padding] for every tap k."""
        product = self.spectrum(x, self.padding).mul_(grad.conj()).sum(0)
        lags = self.volume(product, self.ends)
        depth, height, width = self.dilation
        return lags[:, None, ::depth, ::height, ::width]

    def _dilated(self, weight: Tensor) -> Tensor:
        return _spread(weight, self.dilation, self.ends)


def _spread(x: Tensor, step: Sequence[int], size: Sequence[int]) -> Tensor:
    """Return x with its voxels `step` apart on a grid of zeros."""
    if tuple(step) == (1, 1, 1):
        return x
    wide = x.new_zeros(*x.shape[:-3], *size)
    wide[..., :: step[0], :: step[1], :: step[2]] = x
    return wide


def quick_size(n: int) -> int:
    """Return the smallest even size >= n whose transform is quick: a product of 2, 3 and 5.

    >>> quick_size(38), quick_size(22)
    (40, 24)
    """
    n += n % 2
    while True:
        rest = n
        for factor in _FACTORS:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 2
