"""`count_flops` and `profile`: the same answer from every engine, one bad model stops nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from neurocli.core.config.load import load_config
from neurocli.core.cost.command import ENGINES, count_flops, profile
from neurocli.core.cost.target import expand_names, find_target, is_checkpoint
from neurocli.core.errors import (
    InputError,
    NeuroError,
    UsageError,
)

SHAPE = (12, 12, 12, 4)
TINY = {"preset": "fmri/tiny", "input_shape": SHAPE, "set": ["model.patch_size=6,6,6,1"]}


def test_formula_and_torch_agree_and_thop_misses_the_scan() -> None:
    formula, counted, thop = (
        count_flops("fmamba", engine=engine, **TINY)  # type: ignore[arg-type]
        for engine in ("formula", "torch", "thop")
    )
    assert formula.flops == pytest.approx(counted.flops, rel=1e-3)
    assert formula.flops_train_step == pytest.approx(counted.flops_train_step, rel=1e-2)
    assert formula.params == counted.params == thop.params
    assert (formula.tokens, formula.input_shape) == (32, list(SHAPE))
    assert thop.macs < 0.8 * formula.macs
    assert any("not seen" in note for note in thop.notes)
    assert sum(formula.components.values()) == formula.flops


def test_the_default_is_the_published_grid() -> None:
    result = count_flops("fmamba", set=["model.patch_size=6,6,6,2"])
    assert result.input_shape == [96, 96, 96, 20]
    assert (result.params, result.tokens, result.engine) == (1_419_200, 40_960, "formula")


def test_a_preset_name_stands_for_its_rooms_first_model() -> None:
    named, given = count_flops("fmri/tiny"), count_flops("fmamba", preset="fmri/tiny")
    assert named == given
    with pytest.raises(UsageError, match="two presets"):
        count_flops("fmri/tiny", preset="fmri/tiny")


def test_wrong_names_are_told_with_what_is_near() -> None:
    with pytest.raises(UsageError, match="did you mean fmamba"):
        count_flops("fmanba")
    with pytest.raises(UsageError, match="did you mean formula"):
        count_flops("fmamba", engine="formulas")
    with pytest.raises(UsageError, match="no clip size"):
        count_flops("fmamba", input_shape=(96, 96))
    assert tuple(ENGINES) == ("formula", "torch", "thop", "deepspeed")


def _checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for a checkpoint file: its configuration and what its data told."""
    config = load_config("fmri/tiny", set=["model.depth=3"], model="fmamba_mlp")
    payload = {
        "config": config.model_dump(mode="json"),
        "info": {"img_size": [24, 30, 24, 8], "n_outputs": 5, "scaling": "voxel-z"},
    }
    monkeypatch.setattr("neurocli.core.engine.checkpoint.load_checkpoint", lambda _: payload)
    path.write_bytes(b"x")
    return path


def test_a_checkpoint_brings_its_own_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _checkpoint(tmp_path / "best.pth", monkeypatch)
    target = find_target(path)
    assert target.config.model.depth == 3  # type: ignore[attr-defined]
    assert target.info["n_outputs"] == 5
    assert target.input_shape == (24, 30, 24, 8)
    other = find_target(str(path), input_shape=(48, 48, 48, 8))
    assert other.input_shape == (48, 48, 48, 8)
    assert other.info["n_outputs"] == 5
    with pytest.raises(UsageError, match="fixes its configuration") as caught:
        find_target(path, settings=["model.depth=2"])
    assert caught.value.where == str(path)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        count_flops(str(tmp_path / "gone.pth"))
    assert caught.value.where == str(tmp_path / "gone.pth")


def test_a_folder_named_like_a_model_is_not_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fmamba").mkdir()
    assert not is_checkpoint("fmamba")
    assert is_checkpoint("runs/best.pth")
    assert not is_checkpoint("fmri/tiny")


def test_patterns_become_names_once() -> None:
    assert expand_names(["fmamba", "fmamba_m[!a]*", "fm*_mlp"]) == [
        "fmamba",
        "fmamba_mlp",
        "fmamba_conv_mlp",
    ]
    with pytest.raises(UsageError, match="no model fits"):
        expand_names(["wnet*"])
    assert len(expand_names(["all"])) == len(expand_names(["*"])) >= 90


def test_profile_gives_the_contracts_keys() -> None:
    result = profile("fmamba", "fmamba_mlp", runs=3, device="cpu", **TINY)  # type: ignore[arg-type]
    assert [row["model"] for row in result.models] == ["fmamba", "fmamba_mlp"]
    for row in result.models:
        assert list(row)[:7] == [
            "model",
            "params",
            "macs",
            "latency_ms",
            "pam_train_bytes",
            "pam_inference_bytes",
            "stages",
        ]
        assert row["latency_ms"]["median"] > 0
        assert (row["latency_ms"]["of"], row["latency_ms"]["runs"]) == ("forward", 3)
        assert row["pam_train_bytes"]["mean"] > row["pam_inference_bytes"]["mean"] > 0
        assert row["pam_inference_bytes"]["std"] == 0
        assert row["device"] == "cpu"
    assert result.models[0]["macs"] == count_flops("fmamba", **TINY).macs  # type: ignore[arg-type]


def test_modes_measure_only_what_was_asked() -> None:
    train, inference = (
        profile("fmamba", runs=1, mode=mode, device="cpu", **TINY).models[0]  # type: ignore[arg-type]
        for mode in ("train", "inference")
    )
    assert train["pam_inference_bytes"] is None
    assert train["latency_ms"]["of"] == "forward and backward"
    assert inference["pam_train_bytes"] is None
    assert inference["latency_train_ms"] == {}


def test_a_model_that_fails_is_named_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import neurocli.core.cost.measure as module

    measure = module.measure

    def failing(target: Any, plan: Any) -> dict[str, Any]:
        if target.name == "fmamba":
            raise torch.OutOfMemoryError("you tried to allocate 900 GiB\nmore words")
        return measure(target, plan)

    monkeypatch.setattr(module, "measure", failing)
    result = profile("fmamba", "fmamba_mlp", runs=1, mode="inference", device="cpu", **TINY)  # type: ignore[arg-type]
    assert [row["model"] for row in result.models] == ["fmamba_mlp"]
    assert result.left_out == [("fmamba", "you tried to allocate 900 GiB")]
    with pytest.raises(NeuroError, match="no model could be measured"):
        profile("fmamba", runs=1, device="cpu", **TINY)  # type: ignore[arg-type]


def test_profile_refuses_what_it_cannot_do() -> None:
    with pytest.raises(UsageError, match="unknown mode"):
        profile("fmamba", mode="fast")
    with pytest.raises(UsageError, match="0 runs"):
        profile("fmamba", runs=0)
    with pytest.raises(UsageError, match="no model was named"):
        profile()
    with pytest.raises(UsageError, match="unknown model"):
        profile("fmamba", "nothing", device="cpu")
