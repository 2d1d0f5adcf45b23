"""Closed costs of segmentation networks against the built network and torch's counter."""

from __future__ import annotations

import itertools

import pytest

from neurocli.core.cost.command import count_flops, profile
from neurocli.core.cost.flops import count_both, on_shapes
from neurocli.core.cost.target import find_target
from neurocli.core.errors import UsageError
from neurocli.core.listing import outline
from neurocli.systems.brats.cost import DEFAULT_PARAMETERS, count_parameters

GRID = (40, 32, 32)
# Every block, every plan, and combinations that no name holds.
CASES = [
    ("dualbranch_04_unet_xs", []),
    ("dualbranch_13_unet_xs", []),
    ("dualbranch_14_ghostnet_xs", []),
    ("dualbranch_14_convnext_xs", []),
    ("dualbranch_14_shufflenetv2_dilated_xs", []),
    ("dualbranch_14_shufflenetv2_lk_xs", []),
    ("dualbranch_14_dilated_xs", []),
    ("dualbranch_mobilenetv2_dilated_fixed_xs", []),
    ("quadbranch_4modal_attention_unet_s", []),
    ("unet3d_xs", ["model.modalities=t1,t2,flair", "model.norm=in"]),
    ("dualbranch_02_unet_xs", ["model.encoder=mobilenetv2*2@4~1.3/replk", "model.ffn_ratio=3"]),
    ("dualbranch_06_unet_xs", ["model.mvit_fusion=1x1", "model.deep_supervision=true"]),
    ("dualbranch_02_unet_xs", ["model.stem=ghost", "model.large_kernel=7", "model.encoder=replk"]),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_formulas_are_what_is_built_and_run(name: str, settings: list[str]) -> None:
    target = find_target(name, settings=settings, input_shape=GRID)
    cost = target.formula()
    (forward, train, params), is_shape = on_shapes(
        target.build,
        target.example,
        lambda model, x: (*count_both(model, x), sum(w.numel() for w in model.parameters())),
    )
    assert is_shape
    assert cost["params"] == params == target.count_parameters()
    if "deep_supervision" not in str(settings):
        assert sum(cost["components"].values()) == cost["flops"]
    assert cost["flops"] == forward
    assert cost["flops_train_step"] == pytest.approx(train, rel=1e-3)


def test_transformers_are_counted_by_torch_and_say_so() -> None:
    result = count_flops("mobile_unetr_3d", input_shape=(32, 32, 32))
    assert result.params == DEFAULT_PARAMETERS["mobile_unetr_3d"]
    assert "no closed formula" in result.notes[0]
    # Another size than the table's is counted on the built network.
    other = find_target("mobile_unetr_3d", settings=["model.variant=xxs"])
    built = sum(weight.numel() for weight in other.build().parameters())
    assert count_parameters(other.config, other.info) == built != result.params


def test_shapes_of_samples_follow_the_model() -> None:
    assert find_target("unet3d_4modal_s", input_shape=GRID).example().shape == (1, 4, *GRID)
    assert find_target("mobile_unetr", input_shape=(64, 64)).example().shape == (1, 2, 64, 64)
    with pytest.raises(UsageError, match="no patch size"):
        find_target("unet3d_xs", input_shape=(64, 64))


def test_outlines_tell_every_stage_once() -> None:
    for name in ("dualbranch_13_unet_s", "quadbranch_4modal_attention_unet_s", "unet3d_l"):
        rows, target = outline(name), find_target(name)
        assert [row["stage"] for row in rows].count("up1") == 1
        assert sum(row["params"] for row in rows) == target.count_parameters()
        assert {row["stage"] for row in rows} == set(target.formula()["components"])
    assert outline("unetr") == []
    assert outline("fmamba") == []
    shown = {row["stage"]: row for row in outline("dualbranch_13_unet_s")}
    assert (shown["branch_flair3"]["block"], shown["branch_t1ce3"]["block"]) == (
        "mobilevit",
        "mobilenetv2",
    )
    assert (shown["down5"]["channels"], shown["down5"]["grid"]) == (512, "8x8x8")


def test_any_size_is_profiled_without_computing() -> None:
    result = profile("dualbranch_01_unet_*", fake=True, stage_wise=True)
    assert [row["model"][-2:] for row in result.models] == ["xs", "_s", "_m", "_l"]
    # Activations grow as the width does: each size doubles it.
    peaks = [row["pam_train_bytes"]["mean"] for row in result.models]
    for small, large in itertools.pairwise(peaks):
        assert large / small == pytest.approx(2, rel=0.02)
    # The published table of fake tensors: 1918 MiB for xs in training.
    assert peaks[0] / 2**20 == pytest.approx(1918, rel=0.02)
    stages = {(row["mode"], row["stage_name"]): row for row in result.models[0]["stages"]}
    assert ("inference", "up4") in stages
    # The peak of a forward pass sits in its last decoder stage, at full size.
    inference = {name: row["pam_mean"] for (mode, name), row in stages.items() if mode[0] == "i"}
    assert max(inference, key=lambda name: inference[name]) == "up4"
    assert inference["up4"] == result.models[0]["pam_inference_bytes"]["mean"]
