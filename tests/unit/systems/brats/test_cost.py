"""Closed costs by hand, how they grow with the grid, and the numbers of a first layer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from neurocli.core.config.load import load_config
from neurocli.core.cost.flops import count_both, on_shapes
from neurocli.core.cost.target import find_target
from neurocli.core.errors import UsageError
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.cost import (
    clip_cost,
    count_parameters,
    default_info,
    patch_grid,
    sample_shape,
    stage_costs,
)


def test_a_small_net_by_hand() -> None:
    model = BranchNetConfig(
        name="x",
        branches="one",
        modalities=("t1", "t2"),
        width=4,
        branch_stages=1,
        fused_widths=(),
        encoder="conv",
        decoder=(1,),
    )
    stages = stage_costs(model, {"n_classes": 3}, (4, 6, 8))
    voxels, half = 4 * 6 * 8, 2 * 3 * 4
    # Convolutions of 27 taps; norms have two numbers per channel.
    enc1 = 27 * (2 * 4 + 4 * 4)
    enc2 = 27 * (4 * 8 + 8 * 8)
    # Doubling: 8 taps from 8 to 4 channels and 4 offsets; then 4 + 4 joined, twice to 4.
    up1 = 27 * (8 * 4 + 4 * 4)
    assert {name: tally.params for name, tally in stages.items()} == {
        "enc1": enc1 + 2 * (4 + 4),
        "enc2": enc2 + 2 * (8 + 8),
        "up1": (8 * 8 * 4 + 4) + up1 + 2 * (4 + 4),
        "outc": 4 * 3 + 3,
    }
    assert {name: tally.macs for name, tally in stages.items()} == {
        "enc1": enc1 * voxels,
        "enc2": enc2 * half,
        "up1": 8 * 8 * 4 * half + up1 * voxels,
        "outc": 4 * 3 * voxels,
    }
    # The first convolution alone reads the images.
    assert [tally.first_macs for tally in stages.values()] == [27 * 2 * 4 * voxels, 0, 0, 0]


@pytest.mark.parametrize(
    "name", ["unet3d_xs", "dualbranch_04_unet_xs", "dualbranch_14_ghostnet_xs"]
)
def test_costs_of_convolutions_grow_with_the_voxels(name: str) -> None:
    one, eight = (
        find_target(name, input_shape=shape).formula() for shape in ((32,) * 3, (64,) * 3)
    )
    assert one["params"] == eight["params"]
    # MobileViT at the bottom of the last network is the one part that grows faster.
    ratio = eight["macs"] / one["macs"]
    assert ratio == 8 if "ghost" not in name else 8 < ratio < 8.1


def test_odd_grids_cost_what_they_are_filled_to() -> None:
    odd, filled = (
        find_target("unet3d_xs", input_shape=shape).formula()
        for shape in ((33, 17, 48), (48, 32, 48))
    )
    assert odd["macs"] == filled["macs"]
    assert odd["input_shape"] == [33, 17, 48]


@pytest.mark.parametrize(
    "settings",
    [
        # Four modalities into four channels without widening: the first layer is depthwise.
        ["model.width=4", "model.expand=1", "model.modalities=t1,t1ce,t2,flair"],
        ["model.width=8", "model.expand=1"],
        ["model.width=4", "model.expand=2", "model.norm=gn"],
    ],
)
def test_training_steps_of_inverted_residuals_at_full_size(settings: list[str]) -> None:
    rows = ["model.stem=mobilenetv2", "model.encoder=mobilenetv2", *settings]
    target = find_target("unet3d_xs", settings=rows, input_shape=(16, 16, 32))
    (forward, train, params), _ = on_shapes(
        target.build,
        target.example,
        lambda model, x: (*count_both(model, x), sum(w.numel() for w in model.parameters())),
    )
    cost = target.formula()
    assert (cost["flops"], cost["flops_train_step"], cost["params"]) == (forward, train, params)


@pytest.mark.parametrize("n_classes", [2, 4, 7])
def test_classes_change_the_last_layer_alone(n_classes: int) -> None:
    config = load_config(model="unet3d_xs")
    # 16 channels and an offset for each class.
    base = count_parameters(config, {"n_classes": 4})
    assert count_parameters(config, {"n_classes": n_classes}) - base == 17 * (n_classes - 4)


def test_deep_supervision_adds_heads_that_evaluation_does_not_run() -> None:
    plain, deep = (
        clip_cost(load_config(model="unet3d_xs", set=[f"model.deep_supervision={word}"]), {})
        for word in ("false", "true")
    )
    # Decoder stages of 128, 64 and 32 channels get a layer to four classes each.
    assert deep["params"] - plain["params"] == 4 * (128 + 64 + 32) + 3 * 4
    assert deep["macs"] == plain["macs"]


def test_what_is_known_without_data() -> None:
    config = load_config(model="unet3d_4modal_s", set=["data.patch=64,96,32"])
    info = default_info(config)
    assert info == {
        "img_size": [64, 96, 32],
        "modalities": ["t1", "t1ce", "t2", "flair"],
        "n_classes": 4,
        "dims": 3,
    }
    assert patch_grid(config, {}) == (64, 96, 32)
    assert sample_shape(config, info) == (1, 4, 64, 96, 32)
    flat = load_config(model="mobile_unetr", set=["data.patch=64,96,32"])
    assert (default_info(flat)["img_size"], default_info(flat)["dims"]) == ([64, 96], 2)
    # A checkpoint's data may hold more channels than the network reads.
    assert sample_shape(flat, {"modalities": ["t1"] * 3, "img_size": [8, 8]}) == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("name", "shape", "hint"),
    [
        ("unet3d_xs", (64, 64), "give 3 sizes, for example 128,128,128"),
        ("unet3d_xs", (64, 64, 0), "give 3 sizes, for example 128,128,128"),
        ("mobile_unetr", (64, 64, 64), "give 2 sizes, for example 128,128"),
        ("unet3d_xs", (), "give 3 sizes, for example 128,128,128"),
    ],
)
def test_shapes_that_are_no_patch(name: str, shape: tuple[int, ...], hint: str) -> None:
    with pytest.raises(UsageError, match="is no patch size for") as caught:
        default_info(load_config(model=name), shape)
    assert (caught.value.where, caught.value.hint) == ("--input-shape", hint)


def test_closed_costs_need_no_torch() -> None:
    code = (
        "import sys; from neurocli.core.cost.command import count_flops;"
        "count_flops('dualbranch_13_unet_s'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
