"""Blocks of the room and the foreign `allen_config.yaml`, key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from neurocli.core.config.load import resolve_config
from neurocli.core.config.nodes import Leaf
from neurocli.core.errors import ConfigError
from neurocli.systems.calcium.config import (
    FIELDS,
    CalciumDataBlock,
    CalciumTaskBlock,
    EncoderConfig,
    SessionOptions,
)
from neurocli.systems.calcium.seed_config import _KEYS, is_foreign, translate


def layer(**values: Any) -> dict[str, Leaf]:
    """Return a file's keys; `__` stands for a dot."""
    return {
        key.replace("__", "."): Leaf(value, f"f.yaml:{line}")
        for line, (key, value) in enumerate(values.items(), 1)
    }


def translated(**values: Any) -> dict[str, Any]:
    return {
        key: leaf.value
        for key, leaf in translate(layer(dataset__name="allen", **values)).items()
        if leaf.origin != "allen_config"
    }


@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        ("dataset.data_dir", "data", "data.path", "data"),
        ("dataset.sessions.max_sessions", 3, "data.max_sessions", 3),
        ("dataset.sessions.max_sessions", None, "data.max_sessions", None),
        ("dataset.mode", "first_only", "data.mode", "first-only"),
        ("dataset.mode", "pad", "data.mode", "pad"),
        ("model.architecture", "offset36-model", "model.encoder", "offset36"),
        ("model.model_architecture", "offset1-model", "model.encoder", "offset1"),
        ("model.num_hidden_units", 48, "model.hidden_dim", 48),
        ("model.learning_mode", "hybrid", "task.objective", "hybrid"),
        ("model.conditional", "time", "task.objective", "time"),
        ("model.learning_rate", 1, "train.lr", 1.0),
        ("model.temperature", 2, "task.temperature", 2.0),
        ("model.max_iterations", 900, "train.steps", 900),
        ("model.distance", "euclidean", "task.distance", "euclidean"),
        ("model.device", "cuda_if_available", "run.device", "auto"),
        ("model.device", "cpu", "run.device", "cpu"),
        ("model.time_offsets", 5, "task.time_offsets", [5]),
        ("model.time_offsets", [1, 5], "task.time_offsets", [1, 5]),
        ("dataloader.batch_size", 64, "data.batch_size", 64),
        ("training.max_epochs", 7, "train.epochs", 7),
        ("training.early_stopping.patience", 4, "train.early_stop", 4),
        ("training.validation.frequency", 2, "train.eval_every_epochs", 2),
        ("seed", 9, "run.seed", 9),
    ],
)
def test_each_key_has_its_counterpart(key: str, value: Any, name: str, expected: Any) -> None:
    found = translated(**{key.replace(".", "__"): value})
    assert found == {name: expected}
    assert type(found[name]) is type(expected)


def test_every_counterpart_is_a_key_of_ours() -> None:
    plain = resolve_config(model="cebra").config.model_dump()
    for name, _ in _KEYS.values():
        block, _, key = name.partition(".")
        assert key in plain[block], name


def test_keys_without_a_counterpart_are_known() -> None:
    assert (
        translated(
            dataset__file_pattern="*.h5",
            dataset__splits__train="train_mask",
            dataset__neural__normalize=True,
            model__verbose=True,
            dataloader__num_workers=0,
            training__checkpoint__save_dir="x",
            training__early_stopping__min_delta=0.1,
            output__save_dir="results",
            deterministic=True,
        )
        == {}
    )


def test_early_stopping_that_is_off() -> None:
    keys = {"training__early_stopping__patience": 4}
    assert "train.early_stop" not in translated(**keys, training__early_stopping__enabled=False)
    assert translated(**keys, training__early_stopping__enabled=True) == {"train.early_stop": 4}


def test_two_keys_for_one_thing_must_agree() -> None:
    same = translated(model__batch_size=8, dataloader__batch_size=8)
    assert same == {"data.batch_size": 8}
    with pytest.raises(ConfigError) as caught:
        translated(model__batch_size=8, dataloader__batch_size=16, model__tempratur=1.0)
    # All findings at once, each with its place in the file.
    first, second = caught.value.problems
    assert first.startswith("f.yaml:3: dataloader.batch_size: says 16, f.yaml:2 says 8")
    assert second.startswith("f.yaml:4: model.tempratur: unknown key; did you mean model.temper")


def test_what_is_ours_is_not_foreign() -> None:
    own = layer(model__hidden_dim=48, train__lr=1e-3)
    assert not is_foreign(own)
    assert translate(own) == own
    assert is_foreign(layer(dataloader__shuffle=True))


def test_the_described_defaults_give_way_to_the_file() -> None:
    whole = translate(layer(dataset__name="allen", model__num_hidden_units=64))
    assert whole["model.hidden_dim"] == Leaf(64, "f.yaml:2")
    assert whole["data.mode"] == Leaf("separate", "allen_config")
    assert whole["train.schedule"].value == "constant"


def test_a_value_that_is_none_of_ours_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "allen_config.yaml"
    path.write_text("dataset: {name: allen}\nmodel: {architecture: offset99-model}\n")
    with pytest.raises(ConfigError, match=r"allen_config.yaml.*encoder"):
        resolve_config(model="cebra", config=path)


# The blocks


@pytest.mark.parametrize(
    ("block", "values"),
    [
        (SessionOptions, {"rate_hz": 0}),
        (SessionOptions, {"rate_hz": -30}),
        (SessionOptions, {"rate": 30}),
        (CalciumDataBlock, {"batch_size": 1}),
        (CalciumDataBlock, {"mode": "glued"}),
        (CalciumDataBlock, {"highpass_hz": 0}),
        (CalciumDataBlock, {"max_sessions": 0}),
        (CalciumTaskBlock, {"temperature": 0}),
        (CalciumTaskBlock, {"delta": -1}),
        (CalciumTaskBlock, {"null": "maybe"}),
        (EncoderConfig, {"name": "cebra", "encoder": "offset2"}),
        (EncoderConfig, {"name": "cebra", "output_dim": 1}),
        (EncoderConfig, {"name": "cebra", "neuron_dropout": 1.0}),
    ],
)
def test_values_out_of_range(block: Any, values: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        block(**values)
    assert caught.value.errors()[0]["loc"][0] == list(values)[-1]


def test_fields_are_as_long_as_their_names() -> None:
    # The centre of 10 frames has 5 before it and itself with 4 more from it on.
    assert {name: sum(field) for name, field in FIELDS.items()} == {
        "offset1": 1,
        "offset5": 5,
        "offset10": 10,
        "offset36": 36,
    }


def test_presets_of_the_encoders_name_the_field() -> None:
    for name in FIELDS:
        plain = resolve_config(model=f"cebra-{name}").config.model_dump()
        assert plain["model"]["encoder"] == name
