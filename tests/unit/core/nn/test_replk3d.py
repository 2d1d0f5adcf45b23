"""Large kernels: the sum of two, the exact fold in every precision, and blocks step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurocli.core.errors import ExitCode, UsageError
from neurocli.core.nn.depthwise3d import DepthwiseConv3d
from neurocli.core.nn.layers3d import Style
from neurocli.core.nn.replk3d import (
    ConvFFN,
    DownRepLK,
    LargeKernel,
    RepLKBlock,
    Transition,
    fold_large_kernels,
)

SEVEN = Style(large_kernel=7)


def settled(model: nn.Module) -> nn.Module:
    """Return a model in evaluation whose norms are not those of the start."""
    torch.manual_seed(4)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm3d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.1, 3)
            nn.init.uniform_(part.weight, -2, 2)
            nn.init.normal_(part.bias)
    return model.eval()


def draw(*shape: int) -> Tensor:
    torch.manual_seed(5)
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("taps", [5, 7, 13])
def test_the_fold_is_exact_in_float64(taps: int) -> None:
    pair = settled(LargeKernel(3, Style(large_kernel=taps)).double())
    x = draw(2, 3, 6, 5, 8)
    folded = pair.folded()
    assert folded.weight.dtype == torch.float64
    assert folded.weight.shape == (3, 1, taps, taps, taps)
    # Two orders of the same sums: rounding of float64 alone.
    torch.testing.assert_close(folded(x), pair(x), atol=1e-12, rtol=1e-12)


def test_the_folded_kernel_by_hand() -> None:
    pair = settled(LargeKernel(2, Style(large_kernel=5)).double())
    kernel = torch.zeros(2, 5, 5, 5, dtype=torch.float64)
    offset = torch.zeros(2, dtype=torch.float64)
    for c in range(2):
        for conv, norm, margin in (
            (pair.large, pair.large_norm, 0),
            (pair.small, pair.small_norm, 1),
        ):
            # y = (conv(x) - mean) scale / sqrt(var + eps) + shift, one channel at a time.
            gain = norm.weight[c] / (norm.running_var[c] + norm.eps) ** 0.5
            inner = slice(margin, 5 - margin)
            kernel[c, inner, inner, inner] += conv.weight[c, 0] * gain
            offset[c] += norm.bias[c] - norm.running_mean[c] * gain
    folded = pair.folded()
    torch.testing.assert_close(folded.weight[:, 0], kernel)
    torch.testing.assert_close(folded.bias, offset)


def test_folding_rounds_once_in_lower_precision() -> None:
    pair = settled(LargeKernel(4, SEVEN))
    exact = LargeKernel(4, SEVEN).double()
    exact.load_state_dict(pair.state_dict())
    truth = exact.eval().folded()
    got = pair.folded()
    assert got.weight.dtype == torch.float32
    # The kernel of float64, rounded: not one bit further away.
    assert torch.equal(got.weight, truth.weight.float())
    assert torch.equal(got.bias, truth.bias.float())
    half = settled(LargeKernel(4, SEVEN)).to(torch.bfloat16)
    assert half.folded().weight.dtype == torch.bfloat16


def test_a_whole_stage_folded_in_float64_is_the_same_function() -> None:
    stage = settled(DownRepLK(4, 8, SEVEN).double())
    x = draw(1, 4, 9, 8, 7)
    want = stage(x)
    assert fold_large_kernels(stage) == 1
    torch.testing.assert_close(stage(x), want, atol=1e-12, rtol=1e-12)
    kept = [part for part in stage.modules() if isinstance(part, LargeKernel)]
    assert kept == []


def test_a_model_that_was_half_folded_is_finished() -> None:
    model = settled(nn.Sequential(RepLKBlock(4, SEVEN), RepLKBlock(4, SEVEN)))
    assert fold_large_kernels(model[0]) == 1
    assert fold_large_kernels(model) == 1
    assert fold_large_kernels(nn.Linear(2, 2)) == 0


@pytest.mark.parametrize(("norm", "kind"), [("in", "InstanceNorm3d"), ("gn", "GroupNorm")])
def test_the_refusal_names_the_norm_and_the_key(norm: str, kind: str) -> None:
    model = nn.Sequential(RepLKBlock(4, SEVEN), RepLKBlock(4, Style(norm=norm, large_kernel=5)))
    with pytest.raises(UsageError, match=f"a {kind} depends on each input") as caught:
        fold_large_kernels(model)
    assert (caught.value.where, caught.value.code) == ("model.norm", ExitCode.USAGE)
    assert caught.value.hint == "only models with norm bn can be folded"
    # All or nothing: the first block, which could be folded, is left as well.
    assert isinstance(model[0].depthwise, LargeKernel)


def test_a_batch_norm_without_statistics_cannot_be_folded() -> None:
    pair = LargeKernel(2, SEVEN)
    pair.small_norm = nn.BatchNorm3d(2, track_running_stats=False)
    with pytest.raises(UsageError, match="cannot be folded"):
        pair.folded()


def test_both_kernels_are_summed() -> None:
    pair = settled(LargeKernel(3, SEVEN).double())
    x = draw(1, 3, 6, 7, 5)
    large = functional.conv3d(x, pair.large.weight, padding=3, groups=3)
    small = functional.conv3d(x, pair.small.weight, padding=1, groups=3)
    torch.testing.assert_close(pair(x), pair.large_norm(large) + pair.small_norm(small))


def test_the_block_step_by_step() -> None:
    block = settled(RepLKBlock(4, SEVEN).double())
    # 1.5 times the channels between.
    assert block.expand[0].out_channels == 6
    x = draw(1, 4, 5, 6, 7)
    mixed = block.depthwise(block.expand(block.norm(x)))
    torch.testing.assert_close(block(x), x + block.project(mixed.clamp_min(0)))


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_the_feed_forward_layer_step_by_step(ratio: int) -> None:
    block = settled(ConvFFN(3, Style(ffn_ratio=ratio)).double())
    x = draw(2, 3, 3, 4, 2)
    first, norm, act, second, other = block.layers
    assert (first.out_channels, type(act)) == (3 * ratio, nn.GELU)
    # A 1x1x1 convolution is a matrix over channels.
    wide = torch.einsum("oc,bcdhw->bodhw", first.weight[..., 0, 0, 0], block.norm(x))
    narrow = torch.einsum("oc,bcdhw->bodhw", second.weight[..., 0, 0, 0], act(norm(wide)))
    torch.testing.assert_close(block(x), x + other(narrow))


@pytest.mark.parametrize(("grid", "halved"), [((6, 4, 8), (3, 2, 4)), ((5, 7, 3), (3, 4, 2))])
def test_a_transition_widens_before_it_halves(
    grid: tuple[int, int, int], halved: tuple[int, int, int]
) -> None:
    block = Transition(4, 6, Style())
    assert block(torch.randn(1, 4, *grid)).shape == (1, 6, *halved)
    depthwise = [part for part in block if isinstance(part, DepthwiseConv3d)]
    assert [(conv.in_channels, conv.stride) for conv in depthwise] == [(6, (2, 2, 2))]


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    style = Style(norm="in", act="silu", large_kernel=9)  # nine taps go through spectra
    block = RepLKBlock(2, style).double()
    x = torch.randn(1, 2, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,), fast_mode=True)
