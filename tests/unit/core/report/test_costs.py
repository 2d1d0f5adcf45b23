"""Costs come from the run's own records, the room's formula, and profiles by model name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from neurocli.core.catalog import resolve, rooms
from neurocli.core.config.load import load_config
from neurocli.core.report.collect import collect_run
from neurocli.core.report.costs import costs_of, nested, profile_of

WriteRun = Callable[..., Path]
RECORD = {
    "schema": "neuro/profile/1",
    "models": [
        {
            "model": "fmamba_mlp",
            "pam_train_bytes": {"mean": 100.0, "std": 0.0},
            "pam_inference_bytes": {"mean": 40.0, "std": 0.0},
            "latency_ms": {"mean": 2.5},
            "input_shape": [24, 24, 24, 8],
            "stages": [{"mode": "train", "stage_name": "norm", "pam_mean": 7.0}],
        }
    ],
}


def test_a_profile_that_was_named_fills_memory_and_latency(write_run: WriteRun) -> None:
    run = collect_run(write_run())
    found = costs_of(run, [profile_of(RECORD, "p.json")])
    assert (found.pam_train, found.pam_inference, found.latency_ms) == (100.0, 40.0, 2.5)
    assert found.params == 139008  # of result.json
    assert found.sources["params"] == "result.json"
    assert found.sources["latency_ms"] == "p.json (input 24x24x24x8)"
    assert found.stages[0]["stage_name"] == "norm"


def test_a_profile_beside_the_run_comes_first(write_run: WriteRun) -> None:
    folder = write_run()
    (folder / "profile.json").write_text(json.dumps(RECORD))
    other = {"schema": "neuro/profile/1", "models": [{"model": "fmamba_mlp"}]}
    found = costs_of(collect_run(folder), [profile_of(other, "other.json")])
    assert found.pam_train == 100.0
    assert found.sources["pam_train"].startswith("profile.json")


def test_operations_are_those_of_the_rooms_formula(write_run: WriteRun) -> None:
    folder = write_run()
    config = load_config("fmri/tiny", model="fmamba_mlp")
    (folder / "config.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    info = {"img_size": [24, 24, 24, 20], "num_classes": 2}
    data = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**data, "info": info}))
    room = rooms()["fmri"]
    assert room.cost is not None
    expected = resolve(room.cost)(config, info)["flops"]
    assert costs_of(collect_run(folder)).flops == expected > 0


def test_a_run_of_another_version_has_no_formula(write_run: WriteRun) -> None:
    found = costs_of(collect_run(write_run(model="of_a_later_version")))
    assert (found.flops, found.params) == (None, 139008)


def test_dotted_keys_become_blocks() -> None:
    assert nested({"a.b": 1, "a.c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
