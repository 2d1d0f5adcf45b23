"""ConvNeXt blocks step by step, and that they begin near the identity."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from neurocli.core.nn.convnext3d import ConvNeXtBlock, DownConvNeXt
from neurocli.core.nn.layers3d import Style


def test_a_fresh_block_is_nearly_the_identity() -> None:
    torch.manual_seed(0)
    block, x = ConvNeXtBlock(4, Style()), torch.randn(1, 4, 4, 5, 6)
    # The scale of each channel starts at 1e-6 (Liu et al. 2022, layer scale).
    assert block.scale.tolist() == pytest.approx([1e-6] * 4)
    assert 0 < float((block(x) - x).detach().abs().max()) < 1e-4


@pytest.mark.parametrize("norm", ["bn", "in", "gn"])
def test_the_block_step_by_step(norm: str) -> None:
    torch.manual_seed(0)
    block = ConvNeXtBlock(4, Style(norm=norm)).double().eval()
    nn.init.normal_(block.scale)
    x = torch.randn(2, 4, 5, 3, 4, dtype=torch.float64)
    depthwise, normed, widen, _, narrow = block.layers
    y = normed(functional.conv3d(x, depthwise.weight, depthwise.bias, padding=3, groups=4))
    y = torch.einsum("oc,bcdhw->bodhw", widen.weight[..., 0, 0, 0], y)
    y = functional.gelu(y + widen.bias.view(-1, 1, 1, 1))
    y = torch.einsum("oc,bcdhw->bodhw", narrow.weight[..., 0, 0, 0], y)
    y = y + narrow.bias.view(-1, 1, 1, 1)
    torch.testing.assert_close(block(x), x + block.scale.view(-1, 1, 1, 1) * y)


def test_parameters_by_hand() -> None:
    n = sum(weight.numel() for weight in ConvNeXtBlock(8, Style()).parameters())
    # 7^3 taps and an offset per channel; norm; C -> 4C -> C with offsets; one scale each.
    assert n == 8 * 344 + 2 * 8 + (8 * 32 + 32) + (32 * 8 + 8) + 8


def test_halving_takes_blocks_of_voxels_that_do_not_overlap() -> None:
    torch.manual_seed(0)
    stage = DownConvNeXt(2, 4, Style(norm="in")).double()
    x = torch.randn(1, 2, 4, 6, 5, dtype=torch.float64)
    normed, conv = stage[0](x), stage[1]
    want = torch.zeros(1, 4, 2, 3, 2, dtype=torch.float64)
    for d, h, w in ((d, h, w) for d in range(2) for h in range(3) for w in range(2)):
        part = normed[0, :, 2 * d : 2 * d + 2, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2]
        want[0, :, d, h, w] = (conv.weight * part).sum((1, 2, 3, 4)) + conv.bias
    torch.testing.assert_close(conv(normed), want)
    # An odd size loses its last voxel here, so networks fill their input first.
    assert stage(x).shape == (1, 4, 2, 3, 2)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    block = ConvNeXtBlock(2, Style(norm="in")).double()
    nn.init.normal_(block.scale)
    x = torch.randn(1, 2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,), fast_mode=True)
