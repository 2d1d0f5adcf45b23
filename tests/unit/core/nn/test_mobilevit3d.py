"""Attention over places of patches against a loop that gathers them voxel by voxel."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.errors import UsageError
from neurocli.core.nn.layers3d import Style
from neurocli.core.nn.mobilevit3d import (
    FUSIONS,
    DownMobileViT,
    MobileViT3d,
    SelfAttention,
    TransformerLayer,
    fold,
    unfold,
)


def slow_unfold(x: Tensor, patch: int) -> Tensor:
    """Return `unfold` written as a loop over places and patches; x has three axes."""
    batch, channels, *grid = x.shape
    counts = [-(-size // patch) for size in grid]
    places = list(itertools.product(range(patch), repeat=3))
    rows = []
    for sample, place in itertools.product(range(batch), places):
        tokens = []
        for cell in itertools.product(*map(range, counts)):
            at = [c * patch + p for c, p in zip(cell, place, strict=True)]
            inside = all(a < size for a, size in zip(at, grid, strict=True))
            token = x[sample, :, at[0], at[1], at[2]] if inside else x.new_zeros(channels)
            tokens.append(token)
        rows.append(torch.stack(tokens))
    return torch.stack(rows)


@pytest.mark.parametrize(("grid", "patch"), [((4, 2, 6), 2), ((3, 4, 5), 2), ((4, 3, 7), 3)])
def test_unfolding_is_the_slow_loop(grid: tuple[int, int, int], patch: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *grid)
    assert torch.equal(unfold(x, patch), slow_unfold(x, patch))


@pytest.mark.parametrize("grid", [(6,), (5,), (7, 3), (3, 5, 4)])
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_folding_undoes_it_over_any_axes_and_patches(grid: tuple[int, ...], patch: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *grid)
    assert torch.equal(fold(unfold(x, patch), grid, patch), x)


def test_what_is_filled_is_zero_and_the_rest_is_there_once() -> None:
    tokens = unfold(torch.ones(1, 1, 3, 3, 3), 2)
    # 27 voxels in 8 places x 8 patches of a filled grid of 4^3.
    assert tokens.shape == (8, 8, 1)
    assert float(tokens.sum()) == 27


def slow_attention(layer: SelfAttention, x: Tensor) -> Tensor:
    """Return attention token by token and head by head."""
    n_sequences, n_tokens, _ = x.shape
    inner = layer.project.in_features
    width = inner // layer.heads
    q, k, v = (layer.qkv(x)[..., at * inner : (at + 1) * inner] for at in range(3))
    mixed = torch.zeros(n_sequences, n_tokens, inner, dtype=x.dtype)
    for s, t, head in itertools.product(range(n_sequences), range(n_tokens), range(layer.heads)):
        part = slice(head * width, (head + 1) * width)
        scores = torch.stack([q[s, t, part] @ k[s, u, part] for u in range(n_tokens)])
        weights = (scores / width**0.5).exp()
        mixed[s, t, part] = (weights[:, None] * v[s, :, part]).sum(0) / weights.sum()
    return layer.project(mixed)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("width", "heads", "inner", "with_offsets"), [(4, 2, None, True), (6, 3, 12, False)]
)
def test_attention_is_the_slow_loop(
    width: int, heads: int, inner: int | None, with_offsets: bool
) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(width, heads, inner=inner, with_offsets=with_offsets).double()
    x = torch.randn(2, 5, width, dtype=torch.float64)
    assert (layer.qkv.bias is not None) == with_offsets
    torch.testing.assert_close(layer(x), slow_attention(layer, x))


def test_attention_has_no_positions() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(4, 2).double()
    x, order = torch.randn(1, 6, 4, dtype=torch.float64), torch.randperm(6)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


def test_a_layer_adds_twice() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(SelfAttention(4, 2), 4, mlp=6).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    norm, attend = layer.attention
    middle = x + attend(norm(x))
    other, widen, act, narrow = layer.mlp
    assert isinstance(act, nn.GELU)
    torch.testing.assert_close(layer(x), middle + narrow(act(widen(other(middle)))))


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_the_block_joins_local_and_global_features(fusion: str) -> None:
    torch.manual_seed(0)
    block = MobileViT3d(4, Style(fusion=fusion), heads=2).double().eval()
    x = torch.randn(1, 4, 5, 4, 3, dtype=torch.float64)
    local = block.local(x)
    tokens = slow_unfold(local, 2)
    spread = block.project(fold(block.layers(tokens), (5, 4, 3), 2))
    if fusion == "3x3":
        want = block.fuse(torch.cat([x, spread], 1))
    else:
        want = x + block.fuse(torch.cat([local, spread], 1))
    torch.testing.assert_close(block(x), want)


def test_a_1x1_fusion_has_fewer_parameters_by_the_taps() -> None:
    sizes = [
        sum(w.numel() for w in MobileViT3d(4, Style(fusion=fusion)).parameters())
        for fusion in ("3x3", "1x1")
    ]
    # One convolution from 2C to C channels: 27 taps against one.
    assert sizes[0] - sizes[1] == 26 * 2 * 4 * 4


def test_the_block_moves_with_its_input_by_whole_patches() -> None:
    # No positions and no norm over space: a pattern far from the border moves with the output.
    torch.manual_seed(0)
    block = MobileViT3d(4, Style(), heads=2).double().eval()
    x = torch.zeros(1, 4, 12, 8, 8, dtype=torch.float64)
    x[:, :, 4:6, 4:6, 4:6] = torch.randn(1, 4, 2, 2, 2, dtype=torch.float64)
    here, there = block(x), block(x.roll(2, 2))
    torch.testing.assert_close(here[:, :, 2:8, 2:7, 2:7], there[:, :, 4:10, 2:7, 2:7])


def test_an_unknown_fusion_lists_both() -> None:
    with pytest.raises(UsageError, match="unknown fusion '5x5'") as caught:
        MobileViT3d(4, Style(fusion="5x5"))
    assert caught.value.hint == "choices: 3x3, 1x1"


def test_halving_takes_odd_grids() -> None:
    block = DownMobileViT(4, 8, Style())
    # A depthwise convolution of stride 2 rounds up.
    assert block(torch.randn(1, 4, 5, 7, 6)).shape == (1, 8, 3, 4, 3)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    block = MobileViT3d(4, Style(act="silu", norm="in"), depth=1).double()
    x = torch.randn(1, 4, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,), fast_mode=True)
