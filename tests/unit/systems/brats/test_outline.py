"""Outlines drawn row by row by hand, and held to the modules that are built."""

from __future__ import annotations

import re

import pytest
import torch

from neurocli.core.config.load import load_config
from neurocli.core.cost.target import find_target
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.families import model_cards
from neurocli.systems.brats.models.branchnet import BranchNet
from neurocli.systems.brats.outline import outline

INFO = {"img_size": [33, 48, 16]}


def rows_of(name: str, *settings: str) -> dict[str, dict[str, object]]:
    rows = outline(load_config(model=name, set=list(settings)), INFO)
    assert all(
        list(row) == ["stage", "block", "reads", "channels", "grid", "params", "macs"]
        for row in rows
    )
    return {row["stage"]: row for row in rows}


def test_two_branches_by_hand() -> None:
    rows = rows_of("dualbranch_02_unet_xs", "model.encoder=ghost/replk,conv", "model.fused=conv")
    # 33 x 48 x 16 is filled to 48 x 48 x 16; stems have 8 channels, both together 16.
    drawn = {
        name: (row["block"], row["reads"], row["channels"], row["grid"])
        for name, row in rows.items()
    }
    assert drawn == {
        "stem_flair": ("conv", "flair", 8, "48x48x16"),
        "branch_flair2": ("ghost", "stem_flair", 16, "24x24x8"),
        "branch_flair3": ("replk", "branch_flair2", 32, "12x12x4"),
        "stem_t1ce": ("conv", "t1ce", 8, "48x48x16"),
        "branch_t1ce2": ("conv", "stem_t1ce", 16, "24x24x8"),
        "branch_t1ce3": ("conv", "branch_t1ce2", 32, "12x12x4"),
        "down4": ("conv", "branch_flair3 + branch_t1ce3", 128, "6x6x2"),
        "down5": ("conv", "down4", 256, "3x3x1"),
        "up1": ("up", "down5, skip 128", 128, "6x6x2"),
        "up2": ("up", "up1, skip 64", 64, "12x12x4"),
        "up3": ("up", "up2, skip 32", 16, "24x24x8"),
        "up4": ("up", "up3, skip 16", 16, "48x48x16"),
        "outc": ("1x1x1", "up4", 4, "48x48x16"),
    }


def test_one_branch_and_attention_by_hand() -> None:
    one = rows_of("unet3d_xs")
    assert list(one)[:2] == ["enc1", "enc2"]
    assert one["enc1"]["reads"] == "t1ce+flair"
    assert one["up1"]["reads"] == "enc5, skip 128"
    weighed = rows_of("dualbranch_mobilenetv2_dilated_xs")
    assert [weighed[f"up{at}"]["block"] for at in (1, 2, 3)] == ["up @2", "up @8", "up @2"]


def test_stages_that_weigh_modalities_read_all_branches() -> None:
    rows = rows_of("quadbranch_4modal_attention_unet_s")
    branches = [f"branch_{name}2" for name in ("t1", "t1ce", "t2", "flair")]
    assert rows["attn2"]["reads"] == " + ".join(branches)
    assert (rows["attn2"]["block"], rows["attn2"]["channels"]) == ("modality attention", 4)


@pytest.mark.parametrize(
    "name",
    [
        card.name
        for card in model_cards()
        if card.name.endswith("_xs") or "branch_4modal" in card.name
    ],
)
def test_rows_are_the_modules_with_their_channels_and_grids(name: str) -> None:
    target = find_target(name, input_shape=(32, 48, 32))
    rows = {row["stage"]: row for row in target.outline()}
    with torch.device("meta"):
        model = target.build()
    assert isinstance(model, BranchNet)
    seen: dict[str, tuple[int, ...]] = {}
    for stage, module in model.named_children():
        module.register_forward_hook(
            lambda _m, _i, out, stage=stage: seen.__setitem__(stage, tuple(out.shape[1:]))
        )
    n_read = len(target.config.model.modalities)  # type: ignore[attr-defined]
    model(torch.empty(1, n_read, 32, 48, 32, device="meta"))
    assert set(seen) == set(rows)
    for stage, (channels, *grid) in seen.items():
        assert rows[stage]["channels"] == channels, stage
        assert rows[stage]["params"] == sum(w.numel() for w in getattr(model, stage).parameters())
        if grid:  # weights of modalities have no grid
            assert rows[stage]["grid"] == "x".join(map(str, grid)), stage


def test_networks_without_stages_are_not_drawn() -> None:
    for name in ("unetr", "swin_unetr", "mobile_unetr", "mobile_unetr_3d"):
        assert outline(load_config(model=name), {}) == []


def test_cards_are_rows_that_a_config_takes() -> None:
    names = [card.name for card in model_cards()]
    assert len(set(names)) == len(names)
    for card in model_cards():
        assert re.fullmatch(r"[a-z0-9_]+", card.name)
        assert card.tasks == ("segmentation",)
        model = load_config(model=card.name).model
        if isinstance(model, BranchNetConfig):
            # Every default of the row is what the config holds: none is dropped or shadowed.
            for key, value in card.defaults.items():
                assert getattr(model, key) == value, (card.name, key)


def test_sizes_of_a_family_differ_in_width_and_what_the_size_says() -> None:
    cards = {card.name: dict(card.defaults) for card in model_cards()}
    for name, small in cards.items():
        if not name.endswith("_xs"):
            continue
        for size, times in (("s", 2), ("m", 4), ("l", 8)):
            large = cards[name.removesuffix("xs") + size]
            changed = {key for key in small if small[key] != large[key]}
            assert changed <= {"width", "act"}
            assert large["width"] == times * small["width"]
