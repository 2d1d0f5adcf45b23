"""How stages are written, and the rows of families that are written with them."""

from __future__ import annotations

import pytest

from neurocli.core.catalog import find_model, rooms
from neurocli.core.config.load import load_config
from neurocli.core.errors import UsageError
from neurocli.systems.brats.config import BranchNetConfig
from neurocli.systems.brats.families import FAMILIES, WIDTHS, model_cards
from neurocli.systems.brats.stages import DOWN_NAMES, StagePlan, parse_stage, parse_stages


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("stride", StagePlan("stride")),
        (" mobilenetv2 ", StagePlan("mobilenetv2")),
        ("mobilenetv2*6", StagePlan("mobilenetv2", 6)),
        ("mobilenetv2@16", StagePlan("mobilenetv2", 1, 16)),
        ("mobilenetv2~1.2.5", StagePlan("mobilenetv2", 1, None, (1, 2, 5))),
        ("mobilenetv2*2@8~1.5", StagePlan("mobilenetv2", 2, 8, (1, 5))),
    ],
)
def test_one_stage(text: str, plan: StagePlan) -> None:
    assert parse_stage(text, DOWN_NAMES, "model.encoder") == plan


@pytest.mark.parametrize(
    "text",
    ["", "stride*", "mobilenetv2*0", "mobilenetv2@0", "mobilenetv2~", "a b", "mobilenetv2@8*2"],
)
def test_what_is_no_stage(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no stage") as caught:
        parse_stage(text, DOWN_NAMES, "model.encoder")
    assert caught.value.where == "model.encoder"


def test_unknown_blocks_name_what_is_near() -> None:
    with pytest.raises(UsageError, match="did you mean ghost"):
        parse_stage("gost", DOWN_NAMES, "model.fused")


def test_one_stage_stands_for_all() -> None:
    assert parse_stages("replk", 3, "x") == (StagePlan("replk"),) * 3
    assert [plan.block for plan in parse_stages("conv/ghost", 2, "x")] == ["conv", "ghost"]
    with pytest.raises(UsageError, match="has 2 stages, 3 are wanted"):
        parse_stages("conv/ghost", 3, "x")


def test_28_families_make_85_names() -> None:
    assert len(FAMILIES) == 28
    assert sum(max(1, len(family.sizes)) for family in FAMILIES) == len(list(model_cards())) == 85
    names = [card.name for card in model_cards()]
    assert names == [card.name for card in rooms()["brats"].models]


def test_widths_double_and_a_single_branch_is_as_wide_as_two() -> None:
    assert [WIDTHS[size] for size in ("xs", "s", "m", "l")] == [8, 16, 32, 64]
    for name, n_channels in (("unet3d_xs", 16), ("dualbranch_01_unet_xs", 16)):
        model = load_config(model=name).model
        assert isinstance(model, BranchNetConfig)
        assert model.total_width == n_channels


@pytest.mark.parametrize(
    # The channel plans as the family's table gives them, in widths of one branch.
    ("name", "levels", "decoder"),
    [
        ("dualbranch_01_unet_xs", [2, 4, 8, 16, 32], [16, 8, 2, 2]),
        ("dualbranch_07_unet_xs", [2, 4, 8, 16, 32], [8, 4, 2, 2]),
        ("dualbranch_mobilenetv2_dilated_xs", [2, 4, 8, 16], [4, 2, 2]),
        ("dualbranch_mobilenetv2_dilated_fixed_xs", [2, 4, 8, 8], [4, 4, 4]),
        ("quadbranch_4modal_unet_s", [4, 8, 16, 32, 64], [32, 16, 8, 4]),
    ],
)
def test_channel_plans(name: str, levels: list[int], decoder: list[int]) -> None:
    model = load_config(model=name).model
    assert isinstance(model, BranchNetConfig)
    assert [channels // model.width for channels in model.skip_channels()] == levels
    assert [size * model.total_width // model.width for size in model.decoder] == decoder
    assert model.divisor == 2 ** (len(levels) - 1)
    assert model.filled((1, 1, 1))[:2] == (model.divisor, model.divisor)


def test_activations_of_the_smooth_families_follow_their_size() -> None:
    for size, act in (("xs", "hardswish"), ("s", "hardswish"), ("m", "gelu"), ("l", "gelu")):
        model = load_config(model=f"dualbranch_mobilenetv2_dilated_{size}").model
        assert isinstance(model, BranchNetConfig)
        assert model.act == act


def test_which_modalities_are_read_is_a_matter_of_the_row() -> None:
    for card in model_cards():
        n_read = len(load_config(model=card.name).model.model_dump()["modalities"])
        assert n_read == (4 if "4modal" in card.name else 2), card.name


def test_aliases_are_told_on_the_card() -> None:
    told = {card.name: tag for card in model_cards() for tag in card.tags if "alias" in tag}
    assert told == {
        "unet3d_2modal_s": "alias of unet3d_s",
        "dualbranch_2modal_unet_s": "alias of dualbranch_01_unet_s",
    }
    for name, tag in told.items():
        assert "another name of" in find_model(name)[1].summary
        assert find_model(tag.removeprefix("alias of "))
