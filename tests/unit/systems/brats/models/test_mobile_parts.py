"""Parts of MobileUNETR over two and three axes: the same layers, by one loop over planes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.load import load_config
from neurocli.core.errors import NeuroError, UsageError
from neurocli.systems.brats.models.mobile_parts import (
    Axes,
    DecoderMixer,
    EncoderMixer,
    Residual,
    rounded,
)
from neurocli.systems.brats.models.mobile_unetr import VARIANTS, Encoder, UpStage


def test_widths_are_rounded_to_eights_and_never_lose_a_tenth() -> None:
    for channels in range(1, 400):
        got = rounded(channels)
        assert got % 8 == 0
        assert got >= 8
        assert got >= 0.9 * channels
        # The nearest multiple, or the one above where that would lose too much.
        nearest = {size for size in range(8, 416, 8) if abs(size - channels) <= 4}
        assert got in nearest or got - 8 in nearest or channels < 4


@pytest.mark.parametrize(
    # By hand: 18 rounds to 16, which is below 0.9 x 18 = 16.2; 17 keeps 16 (15.3); 20 ties upwards.
    ("channels", "want"),
    [(1, 8), (8, 8), (11, 8 + 8), (12, 16), (17, 16), (18, 24), (20, 24), (64, 64), (68, 72)],
)
def test_widths_by_hand(channels: int, want: int) -> None:
    assert rounded(channels) == want


@pytest.mark.parametrize("n_axes", [2, 3])
def test_layers_keep_halve_and_double_every_axis(n_axes: int) -> None:
    axes, grid = Axes(n_axes), (6, 4, 8)[:n_axes]
    x = torch.randn(2, 4, *grid)
    halved, doubled = tuple(s // 2 for s in grid), tuple(s * 2 for s in grid)
    assert axes.conv(4, 6, 3)(x).shape == (2, 6, *grid)
    assert axes.conv(4, 6, 3, stride=2)(x).shape == (2, 6, *halved)
    assert axes.depthwise(4, 2)(x).shape == (2, 4, *halved)
    assert axes.double(4)(x).shape == (2, 4, *doubled)
    assert axes.residual(4, 6, stride=2)(x).shape == (2, 6, *halved)
    assert axes.up(4, 6)(x).shape == (2, 6, *doubled)


def test_a_volume_of_one_plane_is_a_slice() -> None:
    """With the middle plane of every kernel alone, three axes do what two do, plane by plane."""
    torch.manual_seed(0)
    flat, deep = Axes(2).residual(4, 4).eval(), Axes(3).residual(4, 4).eval()
    with torch.no_grad():
        for part, whole in zip(flat.parameters(), deep.parameters(), strict=True):
            if whole.dim() == 5:
                whole.zero_()
                whole[:, :, whole.shape[2] // 2] = part
            else:
                whole.copy_(part)
        x = torch.randn(1, 4, 3, 6, 5)
        want = torch.stack([flat(x[:, :, plane]) for plane in range(3)], 2)
        torch.testing.assert_close(deep(x), want, atol=1e-6, rtol=1e-5)


def test_residuals_are_added_only_where_shapes_agree_and_it_is_asked() -> None:
    axes = Axes(2)
    assert Residual(axes, 4, 4, 1, 8).is_residual
    for refused in (
        Residual(axes, 4, 8, 1, 8),
        Residual(axes, 4, 4, 2, 8),
        Residual(axes, 4, 4, 1, 8, adds=False),
    ):
        assert not refused.is_residual
    block = Residual(axes, 4, 4, 1, 8).eval()
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(block(x), x + block.layers(x))


@pytest.mark.parametrize("n_axes", [2, 3])
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_mixers_take_odd_grids_and_join_in_their_own_order(n_axes: int, kind: str) -> None:
    torch.manual_seed(0)
    axes = Axes(n_axes)
    mixer = EncoderMixer(axes, 4, 8, 1) if kind == "encoder" else DecoderMixer(axes, 4, 8, 1, 2)
    x = torch.randn(1, 4, *(5, 3, 4)[:n_axes])
    joined: list[torch.Tensor] = []
    mixer.fuse.register_forward_pre_hook(lambda _m, inputs: joined.append(inputs[0]))
    assert mixer.eval()(x).shape == x.shape
    # The encoder of MobileViT puts the input first, the decoder of MobileUNETR last.
    input_first = torch.equal(joined[0][:, :4], x)
    assert input_first == (kind == "encoder")
    assert torch.equal(joined[0][:, 4:], x) == (kind == "decoder")


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_encoder_halves_five_times(variant: str) -> None:
    with torch.device("meta"):
        encoder, x = Encoder(Axes(3), VARIANTS[variant]), torch.empty(1, 3, 64, 32, 96)
    maps = encoder(x)
    assert [part.shape[1] for part in maps] == list(VARIANTS[variant].levels[1:])
    for level, part in enumerate(maps, start=1):
        assert tuple(part.shape[2:]) == (64 >> level, 32 >> level, 96 >> level)


def test_a_stage_upwards_lands_on_its_skip() -> None:
    stage = UpStage(Axes(2), 8, 4).eval()
    assert isinstance(stage.mixer, nn.Identity)
    assert stage(torch.randn(1, 8, 3, 5), torch.randn(1, 4, 6, 10)).shape == (1, 4, 6, 10)


@pytest.mark.parametrize("name", ["mobile_unetr", "mobile_unetr_3d"])
def test_networks_read_by_name_and_refuse_what_is_missing(name: str) -> None:
    config = load_config(model=name, set=["model.variant=xxs"])
    make = resolve(find_model(name)[1].build)
    with pytest.raises(UsageError, match="but not flair"):
        make(config, {"modalities": ["t1", "t1ce"]})
    model = make(config, {"modalities": ["t2", "flair", "t1", "t1ce"], "n_classes": 3}).eval()
    assert model.channels == [1, 3]
    with pytest.raises(NeuroError, match="2 channels, the data told 4"):
        model(torch.zeros(1, 2, *([32] * (2 if name == "mobile_unetr" else 3))))
    assert model.outc.out_channels == 3
