"""Depthwise convolutions through spectra against torch in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurocli.core.nn.depthwise3d import DepthwiseConv3d, depthwise_conv3d, quick_size

# (batch, channels, grid, kernel, dilation, stride, padding); None pads by half a kernel. The grid
# smaller than the kernel is what the bottom of a network sees.
CASES = [
    (1, 3, (9, 12, 7), 3, 1, 1, None),
    (2, 4, (9, 12, 7), 5, 2, 2, None),
    (2, 3, (16, 10, 11), 13, 1, 1, None),
    (1, 2, (4, 4, 4), 13, 1, 1, None),
    (1, 2, (6, 8, 5), 5, 5, 1, None),
    (1, 3, (12, 12, 12), 7, 1, 1, (0, 1, 5)),
    (2, 2, (20, 21, 22), 7, 1, 2, None),
]


def pair(
    case: tuple[int, int, tuple[int, int, int], int, int, int, object],
) -> tuple[list[Tensor], list[Tensor]]:
    """Return [result, gradients of x, weight, bias] by us in float32 and by torch in float64."""
    batch, channels, grid, kernel, dilation, stride, padding = case
    torch.manual_seed(0)
    half = (kernel - 1) * dilation // 2
    sizes = {
        "stride": (stride,) * 3,
        "padding": padding or (half,) * 3,
        "dilation": (dilation,) * 3,
    }
    leaves = [
        torch.randn(batch, channels, *grid),
        torch.randn(channels, 1, kernel, kernel, kernel),
        torch.randn(channels),
    ]
    ours = [leaf.clone().requires_grad_() for leaf in leaves]
    exact = [leaf.double().requires_grad_() for leaf in leaves]
    got = depthwise_conv3d(*ours, **sizes)  # type: ignore[arg-type]
    want = functional.conv3d(*exact, groups=channels, **sizes)  # type: ignore[call-overload]
    weight = torch.randn_like(got)
    return (
        [got.detach(), *torch.autograd.grad(got, ours, weight)],
        [want.detach(), *torch.autograd.grad(want, exact, weight.double())],
    )


@pytest.mark.parametrize("case", CASES)
def test_result_and_gradients_are_torchs(
    case: tuple[int, int, tuple[int, int, int], int, int, int, object],
) -> None:
    for ours, exact in zip(*pair(case), strict=True):
        assert float((ours - exact).abs().max() / exact.abs().max()) < 1e-6


def test_many_channels_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = pair(CASES[2])
    monkeypatch.setattr("neurocli.core.nn.depthwise3d._BLOCK", 1)
    blocks, _ = pair(CASES[2])
    for one, other in zip(whole, blocks, strict=True):
        torch.testing.assert_close(one, other)


def test_without_gradients_the_result_is_the_same() -> None:
    conv = DepthwiseConv3d(2, 13, bias=True)
    x = torch.randn(1, 2, 9, 9, 9)
    trained = conv(x)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), trained)
    exact = functional.conv3d(x, conv.weight, conv.bias, padding=6, groups=2)
    torch.testing.assert_close(trained, exact, atol=1e-5, rtol=1e-5)


def test_only_wanted_gradients_are_made() -> None:
    weight = torch.randn(2, 1, 5, 5, 5, requires_grad=True)
    depthwise_conv3d(torch.randn(1, 2, 6, 6, 6), weight, padding=(2, 2, 2)).sum().backward()
    assert weight.grad is not None


def test_lower_precision_comes_back_in_its_own_type() -> None:
    torch.manual_seed(0)
    conv, x = DepthwiseConv3d(2, 5), torch.randn(1, 2, 8, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    exact = torch.autograd.grad(conv(x).sum(), x)[0]
    torch.testing.assert_close(x.grad, exact, atol=2e-2, rtol=2e-2)


def test_quick_sizes() -> None:
    for n in range(1, 200):
        size = quick_size(n)
        assert size >= n
        assert size % 2 == 0
        for factor in (2, 3, 5):
            while size % factor == 0:
                size //= factor
        assert size == 1
