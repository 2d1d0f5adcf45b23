"""Layers, origins and errors of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocli.core.config.flags import TRAIN_KEYS, flag_layer
from neurocli.core.config.load import config_from_plain, load_config, resolve_config
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.train import TrainOptions
from neurocli.core.errors import ConfigError, ExitCode, UsageError


def test_precedence_and_origins(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("train:\n  lr: 0.5\n  epochs: 7\ndata: {batch_size: 3}\n")
    resolved = resolve_config(
        model="fmamba_mlp",
        preset="fmri/tiny",
        config=path,
        settings=["train.lr=0.25", "model.patch_size=2,2,2,1"],
        flags=flag_layer({"lr": 0.125, "steps": None}),
    )
    config, origins = resolved.config, resolved.origins
    assert config.train.lr == 0.125
    assert config.train.epochs == 7
    assert config.data.batch_size == 3
    assert config.model.model_dump()["patch_size"] == (2, 2, 2, 1)
    assert origins["train.lr"] == "--lr"
    assert origins["train.epochs"] == f"{path}:3"
    assert origins["model.patch_size"] == "--set"
    assert origins["model.embed_dim"].startswith("preset fmri/tiny:")
    assert origins["model.head"] == "model fmamba_mlp"
    assert origins["run.seed"] == "default"


def test_all_problems_at_once_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(
        "model: {name: fmamba}\n"
        "train:\n  batch_sise: 4\n  lr: yes\n  epochs: 12:30\ntrian: {a: 1}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(config=path)
    text = "\n".join(caught.value.problems)
    assert f"{path}:3: train.batch_sise: unknown key; did you mean data.batch_size?" in text
    assert f"{path}:4: train.lr: must be a valid number, not 'yes'" in text
    assert f"{path}:5: train.epochs: must be a valid integer, not '12:30'" in text
    assert f"{path}:6: trian: unknown key; did you mean train?" in text
    assert caught.value.code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("train.lr=-1", ["--set: train.lr", "greater than 0"]),
        ("train.optimizer=adam", ["train.optimizer", "adamw"]),
        ("model.patch_size=[6, 6, 6]", ["model.patch_size"]),
        ("run.seed=1.5", ["run.seed"]),
        ("model=3", ["must hold keys"]),
        ("data.sequence_length=true", ["data.sequence_length"]),
        ("train.clip_norm=.inf", ["finite"]),
    ],
)
def test_wrong_values(setting: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(model="fmamba", set=[setting])
    for word in words:
        assert word in str(caught.value)


def test_wrong_names() -> None:
    with pytest.raises(UsageError, match="did you mean fmamba_mlp"):
        load_config(model="fmamba_mpl")
    with pytest.raises(UsageError, match="did you mean fmri/tiny"):
        load_config(preset="fmri/tni", model="fmamba")
    with pytest.raises(ConfigError, match=r"model\.name: missing"):
        resolve_config()
    with pytest.raises(UsageError, match="no setting"):
        load_config(model="fmamba", set=["train.lr"])


def test_a_preset_of_another_room_is_named() -> None:
    with pytest.raises(UsageError, match=r"brats/tiny is for models of the room brats; fmamba is"):
        load_config(preset="brats/tiny", model="fmamba")


def test_a_preset_alone_is_a_configuration() -> None:
    config = load_config("fmri/tiny", set="train.lr=1e-2")
    assert config.model.name == "fmamba"
    assert config.train.lr == 0.01
    assert load_config().model.name == "fmamba"


def test_round_trip_through_plain_values() -> None:
    config = load_config(preset="fmri/tiny", model="fmamba_mlp", set=["task.target=sex"])
    assert config_from_plain(config.model_dump(mode="json"), "ckpt.pth") == config


def test_blocks_are_frozen_and_strict() -> None:
    config = load_config(model="fmamba")
    with pytest.raises(ValueError, match="frozen"):
        config.train.lr = 1.0  # type: ignore[misc]


def test_freezing_needs_weights() -> None:
    with pytest.raises(UsageError, match="freeze"):
        load_config(model="fmamba_mlp", set=["train.freeze=true"])


def test_every_flag_names_a_key_and_an_option() -> None:
    config = load_config(model="fmamba_mlp")
    assert isinstance(config, RunConfig)
    plain = config.model_dump()
    for name, dotted in TRAIN_KEYS.items():
        block, _, key = dotted.partition(".")
        assert key in plain[block], f"--{name} sets {dotted}, which is no key"
        assert name in TrainOptions.__annotations__
