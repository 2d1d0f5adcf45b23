"""`flops`, `profile --fake --stage-wise` and `models show` over the tumour room's networks."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from neurocli.core.cost.target import Target

SMALL = ("--input-shape", "16,16,32", "-s", "model.width=4")
FLOPS_KEYS = [
    "model",
    "params",
    "macs",
    "flops",
    "flops_train_step",
    "tokens",
    "engine",
    "input_shape",
    "notes",
    "components",
]
STAGE_KEYS = ["stage", "block", "reads", "channels", "grid", "params", "macs"]


def test_engines_agree_on_everything_they_count(neuro: Any) -> None:
    rows = {}
    for engine in ("formula", "torch"):
        answer = neuro("flops", "dualbranch_04_unet_xs", *SMALL, "--engine", engine, "--json")
        assert answer.code == 0
        rows[engine] = answer.json
        assert [key for key in answer.json if key in FLOPS_KEYS] == FLOPS_KEYS
    one, other = rows["formula"], rows["torch"]
    for key in ("params", "macs", "flops", "flops_train_step", "input_shape", "tokens"):
        assert one[key] == other[key], key
    assert one["flops"] == 2 * one["macs"] == sum(one["components"].values())
    assert (one["engine"], other["engine"]) == ("formula", "torch")
    assert other["components"] == {}


def test_quiet_flops_are_one_number(neuro: Any) -> None:
    told = neuro("flops", "dualbranch_04_unet_xs", *SMALL, "--json").json
    assert neuro("flops", "dualbranch_04_unet_xs", *SMALL, "-q").out.strip() == str(told["flops"])


def test_notes_go_to_the_reader_and_not_into_the_object(neuro: Any) -> None:
    answer = neuro("flops", "unet3d_xs", "--json")
    assert "norms and activations are free" in answer.json["notes"][0]
    assert "norms and activations are free" in neuro("flops", "unet3d_xs").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("unet3d_xxs",), "did you mean unet3d_xs"),
        (("unet3d_xs", "--engine", "tourch"), "did you mean torch"),
        (("unet3d_xs", "--input-shape", "0,64,64"), "is no size"),
        (("mobile_unetr", "--input-shape", "64,64,64"), "give 2 sizes"),
        (("unet3d_xs", "-s", "model.encoder=strid"), "did you mean stride"),
        (("unet3d_xs", "-s", "model.encoder=conv*2"), "adjusts a block"),
        (("unet3d_xs", "-s", "model.decoder=1,1"), "2 decoder stages for 5"),
        (("unet3d_xs", "-s", "model.widht=8"), "did you mean width"),
        (("swin_unetr", "-s", "model.depths=2,2"), "no 4 sizes"),
        (("swin_unetr", "-s", "model.num_heads=5,6,12,24"), "5 heads do not divide"),
        (("unetr", "-s", "model.num_heads=7"), "is not divided by 7 heads"),
    ],
)
def test_wrong_words_end_with_code_2_and_the_mend(
    neuro: Any, words: tuple[str, ...], said: str
) -> None:
    answer = neuro("flops", *words)
    assert answer.code == 2
    assert said in " ".join(answer.err.split())
    assert answer.out == ""
    assert "Traceback" not in answer.err


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="the package is there")
def test_a_missing_engine_is_code_4(neuro: Any) -> None:
    answer = neuro("flops", "unet3d_xs", "--engine", "deepspeed")
    assert answer.code == 4
    assert "use --engine torch" in answer.err


def test_profiles_by_stage_have_the_stages_of_the_network(neuro: Any) -> None:
    words = ("profile", "dualbranch_02_unet_xs", *SMALL, "--fake", "--stage-wise", "--json")
    answer = neuro(*words)
    assert answer.code == 0
    assert answer.json["left_out"] == []
    assert "nothing was computed" in answer.json["notes"][0]
    (row,) = answer.json["models"]
    assert list(row)[:7] == [
        "model",
        "params",
        "macs",
        "latency_ms",
        "pam_train_bytes",
        "pam_inference_bytes",
        "stages",
    ]
    shown = neuro("models", "show", "dualbranch_02_unet_xs", "--json").json["stages"]
    for mode in ("inference", "train"):
        named = [stage["stage_name"] for stage in row["stages"] if stage["mode"] == mode]
        # Branches take turns stage by stage, so only the set is that of the outline.
        assert sorted(named) == sorted(stage["stage"] for stage in shown)
    assert row["pam_train_bytes"]["mean"] > row["pam_inference_bytes"]["mean"]
    assert neuro(*words).json["models"] == answer.json["models"]  # exact: no spread between runs


def test_one_model_that_cannot_be_followed_is_code_3_and_all_is_1(
    neuro: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Target.build

    def asking(target: Target) -> Any:
        if target.name != "fmamba":
            return build(target)
        from torch import nn

        class Asks(nn.Module):
            def forward(self, x: Any) -> Any:
                return x * 2 if float(x.sum()) > 0 else x

        return Asks()

    monkeypatch.setattr(Target, "build", asking)
    words = ("--fake", "--mode", "inference", "--json")
    partly = neuro("profile", "fmamba", "dualbranch_02_unet_xs", *words)
    assert partly.code == 3
    assert [row["model"] for row in partly.json["models"]] == ["dualbranch_02_unet_xs"]
    ((name, reason),) = partly.json["left_out"]
    assert name == "fmamba"
    assert reason.startswith("what this model computes depends on the values")
    whole = neuro("profile", "fmamba", "-p", "fmri/tiny", *words)
    assert whole.code == 1
    # An error is the one object on stdout; where and how to mend it are told as for one model.
    error = whole.json["error"]
    assert error["where"] == "fmamba"
    assert error["message"] == f"no model could be measured: {reason}"
    assert error["hint"] == "leave out --fake"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("unet3d_xs", "--runs", "0"), "0 runs measure nothing"),
        (("unet3d_xs", "--mode", "trian"), "did you mean train"),
        (("unet4d_*",), "no model fits 'unet4d_*'"),
        (("unet3d_xs", "--input-shape", "64"), "give 3 sizes"),
    ],
)
def test_wrong_profiles_end_with_code_2(neuro: Any, words: tuple[str, ...], said: str) -> None:
    answer = neuro("profile", *words, "--fake")
    assert answer.code == 2
    assert said in answer.err


@pytest.mark.parametrize("name", ["unet3d_xs", "quadbranch_4modal_attention_unet_s", "unetr"])
def test_show_tells_parameters_stages_and_every_key(neuro: Any, name: str) -> None:
    answer = neuro("models", "show", name, "--json")
    assert answer.code == 0
    about = answer.json
    assert (about["name"], about["room"], about["tasks"]) == (name, "brats", ["segmentation"])
    for row in about["stages"]:
        assert list(row) == STAGE_KEYS
    if about["stages"]:
        assert sum(row["params"] for row in about["stages"]) == about["params"]
        costed = neuro("flops", name, "--json").json
        # Shown at the default patch, as `flops` counts it.
        assert 2 * sum(row["macs"] for row in about["stages"]) == costed["flops"]
    keys = {row["key"] for row in about["keys"]}
    assert {"model.modalities", "data.patch", "task.loss"} <= keys
    assert ("model.encoder" in keys) == (name != "unetr")
