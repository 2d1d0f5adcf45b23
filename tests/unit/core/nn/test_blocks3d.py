"""Blocks of 3D networks: shapes, exact folding, exact unfolding, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.nn.blocks3d import DOWNS, STEMS, Up, fill_to
from neurocli.core.nn.layers3d import ChannelAttention, Style
from neurocli.core.nn.light3d import InvertedResidual, shuffle
from neurocli.core.nn.mobilevit3d import MobileViT3d, SelfAttention, fold, unfold
from neurocli.core.nn.replk3d import DownRepLK, RepLKBlock, fold_large_kernels

STYLE = Style()


def settle(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and scales that are not those of the start."""
    torch.manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return model.eval()


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("norm", ["bn", "in", "gn"])
def test_stems_keep_the_grid(name: str, norm: str) -> None:
    block = STEMS[name](2, 8, Style(norm=norm))
    assert block(torch.randn(2, 2, 6, 8, 4)).shape == (2, 8, 6, 8, 4)


@pytest.mark.parametrize("name", DOWNS)
def test_downs_halve_the_grid(name: str) -> None:
    block = DOWNS[name](8, 16, STYLE)
    assert block(torch.randn(2, 8, 12, 8, 4)).shape == (2, 16, 6, 4, 2)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UsageError, match="norm"):
        Style(norm="batch").normed(4)
    with pytest.raises(UsageError, match="activation"):
        Style(act="reul").activation()
    with pytest.raises(UsageError, match="fusion"):
        MobileViT3d(4, Style(fusion="2x2"))


def test_folding_leaves_the_result() -> None:
    model = settle(nn.Sequential(DownRepLK(4, 8, STYLE), RepLKBlock(8, STYLE)))
    x = torch.randn(2, 4, 12, 10, 8)
    before, n_before = model(x), sum(p.numel() for p in model.parameters())
    assert fold_large_kernels(model) == 2
    # Bounds of rounding in float32, at values of about 10.
    torch.testing.assert_close(model(x), before, atol=1e-4, rtol=1e-4)
    assert sum(p.numel() for p in model.parameters()) < n_before
    assert fold_large_kernels(model) == 0


@pytest.mark.parametrize("norm", ["in", "gn"])
def test_norms_of_the_input_cannot_be_folded(norm: str) -> None:
    model = RepLKBlock(4, Style(norm=norm))
    keys = set(model.state_dict())
    with pytest.raises(UsageError, match="cannot be folded"):
        fold_large_kernels(model)
    assert set(model.state_dict()) == keys


@pytest.mark.parametrize("grid", [(4, 4), (5, 7), (4, 6, 8), (5, 3, 7)])
def test_unfold_and_fold_are_inverse(grid: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *grid)
    tokens = unfold(x, 2)
    assert tokens.shape == (2 * 2 ** len(grid), np.prod([-(-s // 2) for s in grid]), 3)
    assert torch.equal(fold(tokens, grid, 2), x)


def test_sequences_hold_the_same_place_of_every_patch() -> None:
    # A grid numbered by place inside its patch: every sequence must hold one number.
    place = torch.arange(8.0).reshape(2, 2, 2).repeat(3, 2, 4)[None, None]
    tokens = unfold(place, 2)
    assert torch.equal(tokens[..., 0], torch.arange(8.0)[:, None].expand(8, 24))


def test_attention_is_softmax_of_products() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(8, 2), torch.randn(3, 5, 8)
    query, key, value = layer.qkv(x).reshape(3, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    mixed = (query @ key.mT / 2).softmax(-1) @ value
    want = layer.project(mixed.transpose(1, 2).reshape(3, 5, 8))
    torch.testing.assert_close(layer(x), want)


def test_channel_attention_by_hand() -> None:
    layer, x = ChannelAttention(4, 16), torch.randn(2, 4, 3, 3, 3)
    assert layer.squeeze.out_features == 1  # never none
    mean, top = x.mean((2, 3, 4)), x.flatten(2).max(2).values
    votes = sum(layer.squeeze(part).relu() @ layer.excite.weight.T for part in (mean, top))
    torch.testing.assert_close(layer(x), x * votes.sigmoid()[..., None, None, None])


def test_residuals_join_only_equal_shapes() -> None:
    assert InvertedResidual(8, 8, STYLE).is_residual
    assert not InvertedResidual(8, 8, STYLE, stride=2).is_residual
    assert not InvertedResidual(4, 8, STYLE).is_residual


def test_shuffle_is_a_permutation_of_order_two_groups() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1, 1)
    assert shuffle(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_decoders_fill_one_voxel_and_never_cut() -> None:
    up = Up(8, 4, 4, STYLE)
    skip = torch.randn(2, 4, 7, 6, 5)
    assert up(torch.randn(2, 8, 3, 3, 2), skip).shape == (2, 4, 7, 6, 5)
    for wrong in ((4, 3, 3), (2, 3, 2)):  # would be cut; lacks three voxels
        with pytest.raises(NeuroError, match="does not fit a skip"):
            fill_to(torch.randn(2, 4, *[2 * size for size in wrong]), skip)
