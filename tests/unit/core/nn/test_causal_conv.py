"""The causal convolution against torch's own and against separate pieces."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from neurocli.core.nn.causal_conv import causal_conv


def arguments(n_taps: int, length: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(2, length, 3), (3, n_taps), (3,)]
    return [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("n_taps", [1, 2, 4, 6])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_equals_torch(n_taps: int, length: int) -> None:
    # Expected: torch's depthwise convolution of the left-padded sequence, and its gradients.
    x, weight, bias = arguments(n_taps, length)
    padded = F.pad(x.transpose(1, 2), (n_taps - 1, 0))
    want = F.conv1d(padded, weight.unsqueeze(1), bias, groups=3).transpose(1, 2)
    got = causal_conv(x, weight, bias)
    torch.testing.assert_close(got, want)
    grads = [torch.autograd.grad(y.sin().sum(), (x, weight, bias)) for y in (got, want)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_segments_equal_separate_pieces() -> None:
    # Expected: each piece convolved alone.
    x, weight, bias = arguments(4, 9)
    pieces = [1, 2, 6]
    segments = torch.repeat_interleave(torch.arange(3), torch.tensor(pieces)).expand(2, -1)
    want = torch.cat([causal_conv(part, weight, bias) for part in x.split(pieces, 1)], 1)
    got = causal_conv(x, weight, bias, segments=segments)
    torch.testing.assert_close(got, want)
    grads = [torch.autograd.grad(y.sin().sum(), (x, weight, bias)) for y in (got, want)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_gradcheck_with_segments() -> None:
    # Expected: finite differences, first and second order.
    x, weight, bias = arguments(3, 5)
    segments = torch.tensor([[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]])

    def run(*values: torch.Tensor) -> torch.Tensor:
        return causal_conv(*values, segments=segments)

    assert torch.autograd.gradcheck(run, (x, weight, bias))
    assert torch.autograd.gradgradcheck(run, (x, weight, bias))


def test_sums_are_taken_in_float32() -> None:
    # Expected: the float32 sum of the rounded numbers, rounded once.
    x, weight, bias = (value.detach().bfloat16() for value in arguments(4, 10))
    want = causal_conv(x.float(), weight.float(), bias.float())
    got = causal_conv(x, weight, bias)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, want.bfloat16())


def test_no_bias_is_a_zero_bias() -> None:
    x, weight, bias = arguments(4, 5)
    torch.testing.assert_close(
        causal_conv(x, weight, None), causal_conv(x, weight, torch.zeros_like(bias))
    )
