"""Convolutions whose axes differ: by slow loops, by finite differences, on both CPU paths."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurocli.core.nn.conv3d import SMALL_INPUT, Conv3d, UpConv3d, conv3d, takes_slow_path
from neurocli.core.nn.depthwise3d import DepthwiseConv3d, depthwise_conv3d


def slow(
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """Return a depthwise convolution as a sum over taps, each a shifted cut of the input."""
    padded = functional.pad(x, [p for size in reversed(padding) for p in (size, size)])
    spans = [(k - 1) * d for k, d in zip(weight.shape[2:], dilation, strict=True)]
    sizes = [
        (n - s - 1) // step + 1 for n, s, step in zip(padded.shape[2:], spans, stride, strict=True)
    ]
    total = x.new_zeros(*x.shape[:2], *sizes)
    for tap in itertools.product(*map(range, weight.shape[2:])):
        cut = padded
        for axis in range(3):
            start = tap[axis] * dilation[axis]
            stop = start + (sizes[axis] - 1) * stride[axis] + 1
            cut = cut[(slice(None),) * (2 + axis) + (slice(start, stop, stride[axis]),)]
        total = total + weight[:, 0, tap[0], tap[1], tap[2]].view(-1, 1, 1, 1) * cut
    return total


@pytest.mark.parametrize(
    # Anisotropic everything; 3 x 5 x 7 = 105 taps go through spectra backwards, 9^3 also forwards.
    ("taps", "stride", "padding", "dilation"),
    [
        ((3, 5, 7), (1, 1, 1), (1, 2, 3), (1, 1, 1)),
        ((3, 5, 7), (1, 2, 1), (0, 3, 1), (2, 1, 1)),
        ((5, 5, 5), (1, 1, 1), (2, 0, 4), (1, 2, 1)),
        ((9, 9, 9), (1, 1, 1), (4, 4, 8), (1, 1, 1)),
    ],
)
def test_axes_that_differ_are_the_slow_sum(
    taps: tuple[int, int, int],
    stride: tuple[int, int, int],
    padding: tuple[int, int, int],
    dilation: tuple[int, int, int],
) -> None:
    torch.manual_seed(0)
    leaves = [
        torch.randn(2, 2, 9, 10, 11, dtype=torch.float64, requires_grad=True),
        torch.randn(2, 1, *taps, dtype=torch.float64, requires_grad=True),
    ]
    sizes = {"stride": stride, "padding": padding, "dilation": dilation}
    got = depthwise_conv3d(*leaves, **sizes)  # type: ignore[arg-type]
    want = slow(*leaves, stride, padding, dilation)
    torch.testing.assert_close(got, want)
    seed = torch.randn_like(want)
    for ours, exact in zip(
        torch.autograd.grad(got, leaves, seed), torch.autograd.grad(want, leaves, seed), strict=True
    ):
        torch.testing.assert_close(ours, exact)


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 2), (9, 1)])
def test_gradients_are_those_of_finite_differences(kernel: int, dilation: int) -> None:
    torch.manual_seed(0)
    conv = DepthwiseConv3d(2, kernel, dilation=dilation, bias=True).double()
    x = torch.randn(1, 2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, (x,), fast_mode=True)

    def of_weights(weight: Tensor, bias: Tensor) -> Tensor:
        half = ((kernel - 1) * dilation // 2,) * 3
        return depthwise_conv3d(x.detach(), weight, bias, padding=half, dilation=(dilation,) * 3)

    assert torch.autograd.gradcheck(of_weights, tuple(conv.parameters()), fast_mode=True)


def test_a_gradient_of_a_gradient_is_refused_and_never_wrong() -> None:
    conv, x = DepthwiseConv3d(1, 5), torch.randn(1, 1, 6, 6, 6, requires_grad=True)
    (first,) = torch.autograd.grad(conv(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


@pytest.mark.parametrize(
    # C x D x H against the rule's 20480; what torch would do well is left to it.
    ("shape", "weight", "groups", "slow_path"),
    [
        ((1, 5, 64, 64, 2), (2, 5, 3, 3, 3), 1, True),  # 5 x 64 x 64 = 20480 exactly
        ((1, 5, 64, 65, 2), (2, 5, 3, 3, 3), 1, False),
        ((2, 5, 4, 4, 4), (2, 5, 3, 3, 3), 1, False),  # two samples
        ((1, 4, 4, 4, 4), (4, 1, 3, 3, 3), 4, False),  # groups
        ((1, 5, 4, 4, 4), (2, 5, 1, 1, 1), 1, False),  # a matrix product
        ((1, 5, 4, 8, 8), (2, 5, 1, 5, 5), 1, False),  # large in both of the last axes
        ((1, 5, 4, 8, 8), (2, 5, 5, 3, 5), 1, True),
    ],
)
def test_which_inputs_are_slow(
    shape: tuple[int, ...], weight: tuple[int, ...], groups: int, slow_path: bool
) -> None:
    assert SMALL_INPUT == 20480
    x, kernel = torch.zeros(shape), torch.zeros(weight)
    assert takes_slow_path(x, kernel, groups) is slow_path
    assert not takes_slow_path(x.double(), kernel, groups)


@pytest.mark.parametrize("c_out", [1, 2, 3])
def test_the_trick_of_two_groups_at_same_padding(c_out: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 3, 5, 4, 6), torch.randn(c_out, 3, 3, 1, 3), torch.randn(c_out)
    got = conv3d(x, weight, bias, padding="same")
    exact = functional.conv3d(x.double(), weight.double(), bias.double(), padding="same")
    torch.testing.assert_close(got.double(), exact, atol=1e-5, rtol=1e-5)


def test_doubling_by_a_slow_loop() -> None:
    torch.manual_seed(0)
    layer = UpConv3d(3, 2).double()
    x = torch.randn(2, 3, 2, 3, 2, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (2, 2, 4, 6, 4)
    for at in itertools.product(range(4), range(6), range(4)):
        # Each output voxel has one source and one tap.
        source, tap = [a // 2 for a in at], [a % 2 for a in at]
        want = x[:, :, source[0], source[1], source[2]] @ layer.weight[:, :, tap[0], tap[1], tap[2]]
        torch.testing.assert_close(y[:, :, at[0], at[1], at[2]], want + layer.bias)


def test_gradients_of_dense_convolutions_by_finite_differences() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(UpConv3d(2, 2).double(), (x,), fast_mode=True)
    assert torch.autograd.gradcheck(Conv3d(2, 3, 3, 2, 1).double(), (x,), fast_mode=True)
