"""Light blocks written out step by step with torch's functions, and their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurocli.core.nn.depthwise3d import DepthwiseConv3d
from neurocli.core.nn.layers3d import ChannelAttention, Style
from neurocli.core.nn.light3d import (
    Ghost,
    GhostBottleneck,
    InvertedResidual,
    ShuffleDownUnit,
    ShuffleUnit,
    shuffle,
)

RELU = Style()


def settled(block: nn.Module) -> nn.Module:
    """Return a block in float64 and evaluation whose norms do something."""
    torch.manual_seed(1)
    for part in block.modules():
        if isinstance(part, nn.BatchNorm3d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias)
    return block.double().eval()


def draw(*shape: int) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(*shape, dtype=torch.float64)


def normed(x: Tensor, norm: nn.BatchNorm3d) -> Tensor:
    """Return a batch norm in evaluation, by its formula."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (x - norm.running_mean.view(-1, 1, 1, 1)) * scale.view(-1, 1, 1, 1) + norm.bias.view(
        -1, 1, 1, 1
    )


def run(layers: list[nn.Module], x: Tensor) -> Tensor:
    """Return what layers give, each by a function of torch or a formula, none by itself."""
    for layer in layers:
        if isinstance(layer, DepthwiseConv3d):
            x = functional.conv3d(
                x, layer.weight, None, layer.stride, layer.padding, layer.dilation, x.shape[1]
            )
        elif isinstance(layer, nn.Conv3d):
            x = functional.conv3d(x, layer.weight, None, layer.stride, layer.padding)
        elif isinstance(layer, nn.BatchNorm3d):
            x = normed(x, layer)
        elif isinstance(layer, nn.ReLU):
            x = x.clamp_min(0)
        else:
            assert isinstance(layer, ChannelAttention)
            pooled = (x.mean((2, 3, 4)), x.amax((2, 3, 4)))
            votes = [(p @ layer.squeeze.weight.T).clamp_min(0) for p in pooled]
            asked = sum(vote @ layer.excite.weight.T for vote in votes)
            x = x * torch.sigmoid(asked)[..., None, None, None]
    return x


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("reduction", [None, 4])
@pytest.mark.parametrize("dilations", [(1,), (1, 2)])
def test_an_inverted_residual_step_by_step(
    stride: int, reduction: int | None, dilations: tuple[int, ...]
) -> None:
    block = settled(
        InvertedResidual(4, 4, RELU, stride=stride, dilations=dilations, reduction=reduction)
    )
    x = draw(2, 4, 5, 6, 7)
    want = run(list(block.layers), x)  # type: ignore[arg-type]
    # Narrowing has no activation behind it, and the input is added only where grids agree.
    want = want + x if stride == 1 else want
    torch.testing.assert_close(block(x), want)
    assert block(x).shape[2:] == ((5, 6, 7) if stride == 1 else (3, 3, 4))


@pytest.mark.parametrize(
    # hidden = max(c_out, expand c_in); without widening there is no first 1x1x1 convolution.
    ("c_in", "c_out", "expand", "hidden"),
    [(4, 8, 4, 16), (4, 8, 1, 8), (8, 8, 1, 8), (8, 4, 1, 8), (1, 8, 4, 8), (3, 6, 2, 6)],
)
def test_hidden_channels(c_in: int, c_out: int, expand: int, hidden: int) -> None:
    block = InvertedResidual(c_in, c_out, Style(expand=expand))
    convs = [part for part in block.modules() if isinstance(part, nn.Conv3d)]
    widths = [(conv.in_channels, conv.out_channels) for conv in convs]
    first = [] if hidden == c_in else [(c_in, hidden)]
    assert widths == [*first, (hidden, hidden), (hidden, c_out)]


def test_each_dilation_adds_a_depthwise_convolution_and_only_the_first_has_the_stride() -> None:
    block = InvertedResidual(2, 4, RELU, stride=2, dilations=(1, 2, 5))
    found = [part for part in block.modules() if isinstance(part, DepthwiseConv3d)]
    assert [conv.dilation[0] for conv in found] == [1, 2, 5]
    assert [conv.stride[0] for conv in found] == [2, 1, 1]


def test_the_last_layer_is_linear() -> None:
    # An activation of the residual's end would leave nothing below zero.
    block, x = settled(InvertedResidual(2, 4, RELU)), draw(1, 2, 4, 4, 4)
    assert float(block(x).detach().min()) < 0


def test_a_ghost_keeps_its_first_half_and_makes_the_second_from_it() -> None:
    block, x = settled(Ghost(3, 8, RELU)), draw(1, 3, 4, 5, 6)
    made = run(list(block.primary), x)  # type: ignore[arg-type]
    cheap = run(list(block.cheap), made)  # type: ignore[arg-type]
    torch.testing.assert_close(block(x), torch.cat([made, cheap], 1))


def test_ghost_bottlenecks_have_three_kinds_of_shortcut() -> None:
    x = draw(1, 4, 6, 4, 8)
    halved = settled(GhostBottleneck(4, 8, RELU))
    shortcut = run(list(halved.shortcut), x)  # type: ignore[arg-type]
    torch.testing.assert_close(halved(x), halved.ghosts(x) + shortcut)
    assert halved(x).shape == (1, 8, 3, 2, 4)
    same = settled(GhostBottleneck(4, 4, RELU, stride=1))
    torch.testing.assert_close(same(x), same.ghosts(x) + x)
    wider = settled(GhostBottleneck(4, 8, RELU, stride=1))
    assert wider.shortcut is None
    torch.testing.assert_close(wider(x), wider.ghosts(x))


@pytest.mark.parametrize("channels", [2, 4, 6, 10])
def test_shuffling_undone_by_a_slow_loop(channels: int) -> None:
    x = draw(2, channels, 2, 3, 2)
    y, half = shuffle(x), channels // 2
    for at in range(channels):
        # Channel 2i comes from the first half, 2i + 1 from the second.
        assert torch.equal(y[:, at], x[:, at // 2 + (half if at % 2 else 0)])


def test_a_shuffle_unit_keeps_one_half_as_it_is() -> None:
    unit, x = settled(ShuffleUnit(6, RELU)), draw(1, 6, 4, 5, 3)
    y = unit(x)
    assert torch.equal(y[:, 0::2], x[:, :3])
    torch.testing.assert_close(y[:, 1::2], run(list(unit.convolve), x[:, 3:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "taps"),
    [
        ({}, [(3, 1), (3, 1)]),
        ({"kernel": 7}, [(7, 1), (7, 1)]),
        # Dilated halves have kernels of five taps, one for each rate, and ignore `kernel`.
        ({"rates": (1, 2, 5)}, [(5, 1), (5, 2), (5, 5)]),
    ],
)
def test_kernels_of_shuffle_units(sizes: dict[str, object], taps: list[tuple[int, int]]) -> None:
    unit = ShuffleUnit(4, RELU, **sizes)  # type: ignore[arg-type]
    found = [part for part in unit.modules() if isinstance(part, DepthwiseConv3d)]
    assert [(conv.kernel_size[0], conv.dilation[0]) for conv in found] == taps


def test_halving_on_two_paths_step_by_step() -> None:
    unit, x = settled(ShuffleDownUnit(3, 8, RELU)), draw(2, 3, 6, 5, 4)
    y = unit(x)
    assert y.shape == (2, 8, 3, 3, 2)
    torch.testing.assert_close(y[:, 0::2], run(list(unit.short), x))  # type: ignore[arg-type]
    torch.testing.assert_close(y[:, 1::2], run(list(unit.long), x))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "block",
    [
        InvertedResidual(2, 2, Style(act="silu", norm="in", expand=2), reduction=2),
        GhostBottleneck(2, 4, Style(act="silu", norm="in")),
        ShuffleUnit(4, Style(act="silu", norm="in")),
        ShuffleDownUnit(2, 4, Style(act="silu", norm="in")),
    ],
    ids=lambda block: type(block).__name__,
)
def test_gradients_are_those_of_finite_differences(block: nn.Module) -> None:
    # A smooth activation and norms without a state, so that differences are exact enough.
    x = draw(1, 4 if isinstance(block, ShuffleUnit) else 2, 4, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(block.double(), (x,), fast_mode=True)
