"""The multi-branch network: modalities by name, any size, deep supervision, axes that fit."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurocli.core.config.load import load_config
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.nn.replk3d import fold_large_kernels
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.models.branchnet import BranchNet
from neurocli.systems.brats.models.routing import fill_grid

INFO = {"modalities": ["t1", "t1ce", "t2", "flair"], "n_classes": 4}
PLAN_A: dict[str, Any] = {"name": "x", "width": 4}


def net(seed: int = 0, info: dict[str, Any] | None = None, **axes: Any) -> BranchNet:
    torch.manual_seed(seed)
    return BranchNet(BranchNetConfig(**{**PLAN_A, **axes}), info or INFO).eval()


def test_the_order_of_channels_does_not_matter() -> None:
    x = torch.randn(1, 4, 32, 32, 32)
    model = net()
    want = model(x)
    for order in list(itertools.permutations(range(4)))[1::5]:
        names = [INFO["modalities"][at] for at in order]  # type: ignore[index]
        other = net(info={"modalities": names})
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(x[:, list(order)]), want)


def test_a_branch_sees_its_modality_alone() -> None:
    model, x = net(), torch.randn(1, 4, 32, 32, 32)
    seen: dict[str, Tensor] = {}
    for name in ("stem_flair", "stem_t1ce", "branch_flair3", "branch_t1ce3"):
        getattr(model, name).register_forward_hook(
            lambda _m, _i, output, name=name: seen.__setitem__(name, output)
        )
    model(x)
    before = dict(seen)
    without = x.clone()
    without[:, 3] = 0  # FLAIR
    model(without)
    for name, output in seen.items():
        assert torch.equal(output, before[name]) == ("t1ce" in name)
    # T1 and T2 are not read at all.
    ignored = x.clone()
    ignored[:, [0, 2]] = 7
    assert torch.equal(model(ignored), model(x))


def test_a_missing_modality_is_named() -> None:
    with pytest.raises(UsageError, match="but not t1ce"):
        net(info={"modalities": ["flair", "t2"]})
    with pytest.raises(NeuroError, match="3 channels, the data told 4"):
        net()(torch.randn(1, 3, 32, 32, 32))


@pytest.mark.parametrize("grid", [(32, 32, 32), (33, 20, 17), (5, 40, 16), (16, 16, 16)])
def test_any_size_goes_in_and_comes_out(grid: tuple[int, int, int]) -> None:
    model = net().train()
    assert model(torch.randn(1, 4, *grid)).shape == (1, 4, *grid)


def test_filling_adds_zeros_behind() -> None:
    x = torch.ones(1, 1, 3, 4, 5)
    filled = fill_grid(x, 4)
    assert filled.shape == (1, 1, 4, 4, 8)
    assert float(filled.sum()) == x.numel()
    assert fill_grid(torch.ones(1, 1, 4, 4, 4), 4).shape == (1, 1, 4, 4, 8)  # never one voxel
    whole = torch.ones(1, 1, 8, 4, 4)
    assert fill_grid(whole, 4) is whole


def test_deep_supervision_gives_a_list_while_training() -> None:
    model = net(deep_supervision=True)
    x = torch.randn(1, 4, 40, 32, 33)
    assert isinstance(model(x), Tensor)
    logits = model.train()(x)
    assert [tuple(part.shape[2:]) for part in logits] == [
        (40, 32, 33),
        (20, 16, 17),
        (10, 8, 9),
        (5, 4, 5),
    ]
    torch.stack([part.sum() for part in logits]).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_weights_of_modalities_are_told() -> None:
    quad = {"modalities": tuple(INFO["modalities"]), "modality_attention": (2, 3)}  # type: ignore[arg-type]
    model, x = net(**quad), torch.randn(2, 4, 32, 32, 32)
    with torch.no_grad():
        weights = model.modality_weights(x)
    assert list(weights) == ["stage2", "stage3", "average"]
    assert weights["average"].shape == (2, 4)
    assert 0 < float(weights["average"].min()) <= float(weights["average"].max()) < 1
    torch.testing.assert_close(weights["average"], (weights["stage2"] + weights["stage3"]) / 2)
    assert net().modality_weights(x) == {}
    # The weights are what scales the branches: with all of them 1 the output is another one.
    plain = model(x)
    for name in ("attn2", "attn3"):
        last = getattr(model, name).layers[2]
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, 50.0)
    assert float((model(x) - plain).abs().max()) > 1e-6
    assert bool((model.modality_weights(x)["average"] > 0.99).all())


def test_a_folded_network_gives_the_same_labels() -> None:
    model = net(encoder=("replk", "stride"))
    x = torch.randn(1, 4, 32, 32, 32)
    model.train()(torch.randn(2, 4, 32, 32, 32))  # statistics that are not those of the start
    want = model.eval()(x)
    assert fold_large_kernels(model) == 2
    got = model(x)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    assert torch.equal(got.argmax(1), want.argmax(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.encoder=strid"], "did you mean stride"),
        (["model.encoder=stride*2"], "adjusts a block that takes no"),
        (["model.encoder=conv,conv,conv"], "3 branches are described"),
        (["model.encoder=conv/conv/conv"], "has 3 stages, 2 are wanted"),
        (["model.stem=replk"], "unknown block 'replk'"),
        (["model.stem=conv:2"], "is no stage"),
        (["model.decoder=4,2"], "2 decoder stages for 5 encoder stages"),
        (["model.decoder_attention=2"], "1 reductions for 4"),
        (["model.large_kernel=12"], "12 is even"),
        (["model.modalities=flair,flair"], "each modality once"),
        (["model.modality_attention=5"], "no stages of branches"),
        (["model.width=6"], "multiple of 4"),
        (["model.fused_widths=8,0"], "a size below 1"),
    ],
)
def test_axes_that_do_not_fit_are_told(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(model="dualbranch_02_unet_s", set=settings)


def test_axes_outside_the_named_networks() -> None:
    """Three modalities, four stages, an own mixture of blocks: no name holds it."""
    settings = [
        "model.modalities=t2,flair,t1ce",
        "model.encoder=ghost/convnext,replk,mobilenetv2*2@4~1.3/dilated",
        "model.fused=mobilevit",
        "model.fused_widths=4",
        "model.decoder=2,1,1",
        "model.width=4",
        "model.norm=gn",
        "model.mvit_fusion=1x1",
    ]
    config = load_config(model="dualbranch_02_unet_s", set=settings).model
    assert isinstance(config, BranchNetConfig)
    model = BranchNet(config, INFO)
    assert model(torch.randn(1, 4, 24, 24, 24)).shape == (1, 4, 24, 24, 24)
