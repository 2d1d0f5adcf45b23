"""Norms, activations and the layers of a convolution, against torch's own functions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from neurocli.core.errors import ExitCode, UsageError
from neurocli.core.nn.conv3d import Conv3d
from neurocli.core.nn.depthwise3d import DepthwiseConv3d
from neurocli.core.nn.layers3d import (
    ACTIVATIONS,
    NORMS,
    ChannelAttention,
    DoubleConv,
    Style,
    conv_norm,
    conv_norm_act,
    depthwise_norm,
)

# Each activation as torch's plain function, which shares no code with our table.
FUNCTIONS = {
    "relu": lambda x: x.clamp_min(0),
    "relu6": lambda x: x.clamp(0, 6),
    "hardswish": lambda x: x * (x + 3).clamp(0, 6) / 6,
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "silu": lambda x: x * x.sigmoid(),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_are_their_formulas(name: str) -> None:
    x = torch.linspace(-9, 9, 61, dtype=torch.float64)
    layer = Style(act=name).activation()
    torch.testing.assert_close(layer(x.clone()), FUNCTIONS[name](x))


def test_the_tables_hold_no_name_that_is_not_tested() -> None:
    assert set(FUNCTIONS) == set(ACTIVATIONS)
    assert set(NORMS) == {"bn", "in", "gn"}


@pytest.mark.parametrize(
    # The most groups of 8, 4 and 1 that divide the channels.
    ("channels", "groups"),
    [(8, 8), (24, 8), (4, 4), (12, 4), (20, 4), (6, 1), (1, 1), (7, 1)],
)
def test_groups_divide_the_channels(channels: int, groups: int) -> None:
    layer = Style(norm="gn").normed(channels)
    assert isinstance(layer, nn.GroupNorm)
    assert (layer.num_groups, layer.num_channels) == (groups, channels)


@pytest.mark.parametrize("norm", ["bn", "in", "gn"])
def test_norms_have_mean_zero_and_variance_one_over_their_part(norm: str) -> None:
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(3, 8, 4, 5, 6, dtype=torch.float64)
    y = Style(norm=norm).normed(8).double()(x)
    # Batch norm: over samples and space; instance norm, and group norm of 8 groups: over space.
    axes = (0, 2, 3, 4) if norm == "bn" else (2, 3, 4)
    assert float(y.detach().mean(axes).abs().max()) < 1e-12
    # The norms' epsilon of 1e-5 beside a variance of about 4.
    torch.testing.assert_close(
        y.var(axes, unbiased=False).mean(), torch.tensor(1.0).double(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("norm", ["bn", "in", "gn"])
def test_every_norm_learns_a_scale_and_an_offset(norm: str) -> None:
    # Closed costs count two numbers per channel, so instance norm must be affine as well.
    assert [tuple(w.shape) for w in Style(norm=norm).normed(12).parameters()] == [(12,), (12,)]


def test_wrong_words_name_the_nearest_and_end_with_code_2() -> None:
    with pytest.raises(UsageError, match="unknown activation 'hardswisch'; did you mean") as act:
        Style(act="hardswisch").activation()
    assert act.value.hint == "choices: relu, relu6, hardswish, gelu, silu"
    assert act.value.code == ExitCode.USAGE
    with pytest.raises(UsageError, match="unknown norm 'ln'") as norm:
        Style(norm="ln").normed(4)
    assert norm.value.hint == "choices: bn, in, gn"


def test_layers_come_in_order_and_without_offsets() -> None:
    style = Style(act="gelu")
    assert [type(part) for part in conv_norm(2, 4, style)] == [Conv3d, nn.BatchNorm3d]
    assert [type(part) for part in conv_norm_act(2, 4, style)] == [
        Conv3d,
        nn.BatchNorm3d,
        nn.GELU,
    ]
    assert [type(part) for part in depthwise_norm(4, style)] == [
        DepthwiseConv3d,
        nn.BatchNorm3d,
    ]
    for layers in (conv_norm(2, 4, style), depthwise_norm(4, style)):
        assert layers[0].bias is None


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_grids_are_kept_at_stride_1_and_halved_upwards_at_2(kernel: int, dilation: int) -> None:
    style, x = Style(), torch.randn(1, 4, 7, 6, 5)
    for stride, grid in ((1, (7, 6, 5)), (2, (4, 3, 3))):
        sizes = {"kernel": kernel, "stride": stride, "dilation": dilation}
        dense = conv_norm(4, 2, style, **sizes)[0]
        depthwise = depthwise_norm(4, style, **sizes)[0]
        assert dense(x).shape == (1, 2, *grid)
        assert depthwise(x).shape == (1, 4, *grid)


def test_two_convolutions_step_by_step() -> None:
    torch.manual_seed(0)
    block = DoubleConv(2, 3, Style(norm="in")).double()
    x = torch.randn(2, 2, 4, 5, 3, dtype=torch.float64)
    want = x
    for at in (0, 3):
        want = functional.conv3d(want, block[at].weight, padding=1)
        mean = want.mean((2, 3, 4), keepdim=True)
        variance = want.var((2, 3, 4), unbiased=False, keepdim=True)
        want = ((want - mean) / (variance + 1e-5).sqrt()).clamp_min(0)
    torch.testing.assert_close(block(x), want)


def test_attention_scales_every_voxel_of_a_channel_alike() -> None:
    torch.manual_seed(0)
    layer = ChannelAttention(6, 2)
    x = torch.rand(2, 6, 3, 4, 5) + 0.5
    ratio = (layer(x) / x).flatten(2)
    assert bool(((ratio > 0) & (ratio < 1)).all())
    torch.testing.assert_close(ratio.amax(2), ratio.amin(2))
    # Without votes the sigmoid of 0 halves every channel.
    nn.init.zeros_(layer.excite.weight)
    torch.testing.assert_close(layer(x), x / 2)


@pytest.mark.parametrize(
    # floor(C / reduction), at least one.
    ("channels", "reduction", "hidden"),
    [(16, 8, 2), (16, 5, 3), (4, 4, 1), (4, 16, 1)],
)
def test_the_layer_between_is_never_empty(channels: int, reduction: int, hidden: int) -> None:
    layer = ChannelAttention(channels, reduction)
    assert layer.squeeze.weight.shape == (hidden, channels)
    assert sum(weight.numel() for weight in layer.parameters()) == 2 * channels * hidden


def test_attention_has_the_gradient_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = ChannelAttention(4, 2).double()
    x = torch.randn(1, 4, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
