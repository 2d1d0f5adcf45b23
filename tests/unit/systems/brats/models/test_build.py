"""Every card builds; networks of one plan are their stages called by hand, one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.load import load_config
from neurocli.core.errors import UsageError
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.families import FAMILIES
from neurocli.systems.brats.models.branchnet import BranchNet, ModalityAttention

ALL = ["t1", "t1ce", "t2", "flair"]


def net(**axes: Any) -> BranchNet:
    torch.manual_seed(0)
    return BranchNet(BranchNetConfig(name="x", width=4, **axes), {"modalities": ALL}).eval()


def up(stage: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    """Return what a decoder stage gives, with torch's own transposed convolution."""
    doubled = functional.conv_transpose3d(x, stage.up.weight, stage.up.bias, 2)
    joined = torch.cat([stage.squeeze(skip), doubled], 1)
    return stage.conv(stage.attention(joined))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"encoder": ("dilated", "replk"), "large_kernel": 5},
        {"decoder_attention": (2, 2, 4, 4), "skip_width": 1},
        {"norm": "in", "fused": "mobilevit", "mvit_fusion": "1x1"},
    ],
)
def test_two_branches_are_their_stages_by_hand(axes: dict[str, Any]) -> None:
    model = net(**axes)
    x = torch.randn(1, 4, 16, 16, 32)
    levels = []
    parts = {"flair": x[:, 3:4], "t1ce": x[:, 1:2]}
    for level in (1, 2, 3):
        for name in parts:
            stage = f"stem_{name}" if level == 1 else f"branch_{name}{level}"
            parts[name] = getattr(model, stage)(parts[name])
        levels.append(torch.cat(list(parts.values()), 1))
    levels.append(model.down4(levels[-1]))
    y = model.down5(levels[-1])
    for place in range(1, 5):
        y = up(getattr(model, f"up{place}"), y, levels[-place])
    torch.testing.assert_close(model(x), model.outc(y), atol=1e-5, rtol=1e-4)


def test_weighed_modalities_are_scaled_before_they_are_joined_and_handed_on() -> None:
    model = net(
        modalities=tuple(ALL),
        branch_stages=1,
        fused_widths=(),
        decoder=(1,),
        modality_attention=(1, 2),
    )
    x = torch.randn(2, 4, 4, 6, 4)
    stems = [getattr(model, f"stem_{name}")(x[:, at : at + 1]) for at, name in enumerate(ALL)]
    weights = model.attn1(stems)
    stems = [part * weights[:, at].view(-1, 1, 1, 1, 1) for at, part in enumerate(stems)]
    deep = [getattr(model, f"branch_{name}2")(part) for name, part in zip(ALL, stems, strict=True)]
    again = model.attn2(deep)
    deep = [part * again[:, at].view(-1, 1, 1, 1, 1) for at, part in enumerate(deep)]
    y = up(model.up1, torch.cat(deep, 1), torch.cat(stems, 1))
    torch.testing.assert_close(model(x), model.outc(y), atol=1e-5, rtol=1e-4)
    told = model.modality_weights(x)
    torch.testing.assert_close(told["stage1"], weights)
    torch.testing.assert_close(told["stage2"], again)


def test_weights_of_modalities_by_hand() -> None:
    torch.manual_seed(0)
    layer = ModalityAttention(3, 2)
    maps = [torch.randn(2, 3, 4, 2, 3) for _ in range(2)]
    first, _, second, _ = layer.layers
    means = torch.cat([part.flatten(2).mean(2) for part in maps], 1)
    hidden = (means @ first.weight.T + first.bias).clamp_min(0)
    torch.testing.assert_close(layer(maps), torch.sigmoid(hidden @ second.weight.T + second.bias))


@pytest.mark.parametrize("grid", [(1, 1, 1), (3, 7, 5), (17, 16, 4)])
def test_odd_grids_are_those_of_a_volume_that_was_filled_by_hand(grid: tuple[int, ...]) -> None:
    model = net(branch_stages=1, fused_widths=(2,), decoder=(1, 1))
    x = torch.randn(1, 4, *grid)
    filled = torch.zeros(1, 4, *model.config.filled(grid))
    cut = (..., slice(grid[0]), slice(grid[1]), slice(grid[2]))
    filled[cut] = x
    torch.testing.assert_close(model(x), model(filled)[cut])


@pytest.mark.parametrize("norm", ["bn", "in", "gn"])
def test_a_loss_reaches_every_weight(norm: str) -> None:
    model = net(norm=norm, encoder=("replk", "mobilenetv2*2@4~1.2"), large_kernel=5).train()
    model(torch.randn(2, 4, 16, 16, 32)).square().mean().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert bool(weight.grad.isfinite().all()), name


def test_heads_of_deep_supervision_read_the_coarser_stages() -> None:
    model = net(deep_supervision=True, norm="in").train()
    seen: dict[str, Tensor] = {}
    for place in (1, 2, 3):
        getattr(model, f"up{place}").register_forward_hook(
            lambda _m, _i, out, place=place: seen.__setitem__(f"head{place}", out)
        )
    fine, *coarse = model(torch.randn(1, 4, 16, 16, 32))
    assert fine.shape[2:] == (16, 16, 32)
    for name, part in zip(("head3", "head2", "head1"), coarse, strict=True):
        torch.testing.assert_close(part, getattr(model, name)(seen[name]))


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f.config == "BranchNetConfig"], ids=lambda family: family.name
)
def test_every_family_builds_and_reads_by_name(family: Any) -> None:
    name = f"{family.name}_{family.sizes[0]}" if family.sizes else family.name
    config = load_config(model=name)
    make = resolve(find_model(name)[1].build)
    with torch.device("meta"):
        model = make(config, {"modalities": ALL, "n_classes": 3}).eval()
        assert model(torch.empty(1, 4, 33, 16, 20)).shape == (1, 3, 33, 16, 20)
    wanted = config.model.model_dump()["modalities"]
    assert model.channels == [ALL.index(one) for one in wanted]
    with pytest.raises(UsageError, match=f"but not .*{wanted[-1]}"):
        make(config, {"modalities": [one for one in ALL if one != wanted[-1]]})
