"""models, presets, config and doctor, as they are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from neurocli.cli.commands import doctor
from neurocli.core import checkup
from neurocli.core.catalog import models, rooms
from neurocli.core.config.load import load_config
from neurocli.core.config.presets import presets
from neurocli.core.engine.export import ExportResult

RELIED_ON = (
    *("data.sequence_length", "data.batch_size", "model.patch_size", "model.embed_dim"),
    *("model.depth", "train.lr", "run.seed", "run.checkpoint_every_steps"),
)


def test_models_list_has_the_contract(neuro: Any) -> None:
    answer = neuro("models", "list", "--json")
    assert answer.json["schema"] == "neuro/models/1"
    assert [row["name"] for row in answer.json["models"]] == list(models())
    assert all(list(row) == ["name", "room", "summary", "params"] for row in answer.json["models"])
    text = neuro("models", "list")
    assert all(name in text.out for name in models())


def test_models_list_by_pattern_and_room(neuro: Any) -> None:
    answer = neuro("models", "list", "fmamba_*", "--room", "fmri", "-q")
    assert "fmamba_mlp" in answer.out.split()
    assert "fmamba" not in answer.out.split()


def test_models_show_names_every_key_with_its_meaning(neuro: Any) -> None:
    answer = neuro("models", "show", "fmamba", "--json").json
    keys = {row["key"]: row for row in answer["keys"]}
    assert set(RELIED_ON) <= set(keys)
    assert keys["train.lr"]["default"] == 1e-3
    assert keys["train.precision"]["accepts"] == "fp32 | bf16 | fp16"
    assert "train.lr" in neuro("models", "show", "fmamba").out


def test_presets_list_show_and_copy(neuro: Any, tmp_path: Path) -> None:
    rows = neuro("presets", "list", "--json").json["presets"]
    assert [row["name"] for row in rows] == list(presets())
    tiny = presets()["fmri/tiny"].text
    assert neuro("presets", "show", "fmri/tiny").out.rstrip() == tiny.rstrip()
    only = neuro("presets", "list", "--room", "fmri", "--json").json["presets"]
    assert only == [row for row in rows if row["room"] == "fmri"]
    assert neuro("presets", "list", "--room", "fmr").code == 2
    target = tmp_path / "mine.yaml"
    assert neuro("presets", "copy", "fmri/tiny", target, "--dry-run").code == 0
    assert not target.exists()
    assert neuro("presets", "copy", "fmri/tiny", "-o", target, "-q").out == f"{target}\n"
    assert target.read_text(encoding="utf-8") == tiny
    assert neuro("presets", "copy", "fmri/tiny", target, "-o", tmp_path / "other").code == 2
    refused = neuro("presets", "copy", "fmri/tiny", target)
    assert refused.code == 2
    assert "already there" in refused.err
    assert neuro("presets", "copy", "fmri/tiny", target, "--force").code == 0
    plan = neuro("train", "fmamba", "-c", target, "-s", "run.threads=1", "--dry-run", "--json")
    assert plan.code == 0
    assert plan.json["plan"]["cost"]["steps"] == 51  # 3 epochs of 134 clips, 8 a step


def test_config_show_names_every_origin(neuro: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("train:\n  lr: 3e-4\n", encoding="utf-8")
    words = ["config", "show", "fmamba", "-p", "fmri/tiny", "-c", mine, "-s", "run.seed=7"]
    answer = neuro(*words, "--json").json
    origins = answer["origins"]
    assert answer["config"]["train"]["lr"] == 3e-4
    assert origins["train.lr"] == f"{mine}:2"
    assert origins["run.seed"] == "--set"
    assert origins["model.depth"].startswith("preset fmri/tiny:")
    assert origins["train.momentum"] == "default"
    assert set(origins) <= {line.split()[0] for line in neuro(*words).out.splitlines()[1:]}


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("train: {lr: 1e-3}\n", 0, "sound for fmamba"),
        ("train: {batch_sise: 3}\n", 2, "bad.yaml:1: train.batch_sise: unknown key"),
        ("train: {lr: yes}\ndata: {batch_size: 0}\n", 2, "bad.yaml:2: data.batch_size"),
    ],
)
def test_config_validate(neuro: Any, tmp_path: Path, text: str, code: int, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    answer = neuro("config", "validate", path, "--model", "fmamba")
    assert answer.code == code
    assert said in answer.out + answer.err


def test_config_show_of_a_preset_takes_the_first_model_of_its_room(
    neuro: Any, tmp_path: Path
) -> None:
    first = rooms()["brats"].models[0].name
    answer = neuro("config", "show", "-p", "brats/tiny", "--json")
    assert answer.code == 0
    assert answer.json["config"] == load_config("brats/tiny").model_dump(mode="json")
    assert answer.json["config"]["model"]["name"] == first
    assert answer.json["origins"]["model.name"] == "default"
    assert f"shown for {first}" in answer.err
    # A file that names a model is heard, and without a preset there is no room to choose from.
    mine = tmp_path / "mine.yaml"
    mine.write_text("model: {name: unetr}\n", encoding="utf-8")
    named = neuro("config", "show", "-p", "brats/tiny", "-c", mine, "--json")
    assert (named.json["config"]["model"]["name"], "shown for" in named.err) == ("unetr", False)
    assert "model.name: missing" in neuro("config", "show").err


def test_config_validate_without_a_model_says_what_is_missing(neuro: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("train: {lr: 1e-3}\n", encoding="utf-8")
    answer = neuro("config", "validate", path)
    assert answer.code == 2
    assert "model.name: missing" in answer.err


def test_doctor_finds_versions_and_missing_parts(
    neuro: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        doctor, "installed", lambda name: None if name in ("monai", "mpi4py") else "1.0"
    )
    monkeypatch.setattr(doctor, "find_devices", lambda: [{"device": "cpu", "name": "x86"}])
    monkeypatch.setattr(doctor, "_least_versions", lambda: {"torch": "0.9", "numpy": "1.26"})
    answer = neuro("doctor")
    assert answer.code == 4
    assert "warning: numpy 1.0 is too old; pip install 'numpy>=1.26'" in answer.err
    assert "torch 1.0" not in answer.err
    assert 'pip install "neurocli[mpi]"' in answer.out
    assert 'pip install "neurocli[fast]"' not in answer.out
    assert "warning: monai is missing" in answer.err
    values = neuro("doctor", "--json").json
    assert values["packages"]["monai"] is None
    assert values["extras"]["mpi"]["installed"] is False
    assert values["devices"] == [{"device": "cpu", "name": "x86"}]


def test_doctor_tries_everything(neuro: Any) -> None:
    answer = neuro("doctor", "--self-test", "--json")
    checks = answer.json["checks"]
    assert [check["name"] for check in checks if not check["is_ok"]] == []
    assert answer.code == 0
    rooms = {"fmri", "brats", "calcium", "genes"}
    named = {check["name"] for check in checks}
    assert named >= {"scan against float64", "HDF5", "runs folder"}
    assert named >= {f"training step, {room}" for room in rooms}


def test_a_failing_check_is_code_1_and_the_others_still_run(
    neuro: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise OSError("the disk is gone")

    monkeypatch.setattr(checkup, "_scan", broken)
    monkeypatch.setattr(checkup, "rooms", dict)
    answer = neuro("doctor", "--self-test")
    assert answer.code == 1
    assert "OSError: the disk is gone" in " ".join(answer.out.split())
    assert "warning: the check 'scan against float64' failed" in answer.err
    assert "came back equal" in " ".join(answer.out.split())


def test_doctor_runs_for_real(neuro: Any) -> None:
    answer = neuro("doctor", "--json")
    assert (answer.code, answer.json["faults"], answer.json["checks"]) == (0, [], [])
    values = answer.json
    assert values["packages"]["typer"].startswith("0.29")
    assert values["devices"][0]["device"] == "cpu"


def test_doctor_knows_every_package_of_the_project(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split(r"[<>=!~\[ ]", text)[0] for text in project["dependencies"]}
    assert set(doctor.REQUIRED) == named
    extras = project["optional-dependencies"]
    assert set(doctor.EXTRAS) == set(extras) - {"all"}
    for name, (distributions, _) in doctor.EXTRAS.items():
        listed = {re.split(r"[<>=!~\[ ]", text)[0] for text in extras[name]}
        assert set(distributions) <= listed


def test_export_shows_what_was_written(neuro: Any, pretend: Any) -> None:
    result = ExportResult(Path("best.pth"), Path("w.ckpt"), "fmamba", 25, ["embedder.mask_token"],
                          ["averaged"])  # fmt: skip
    calls = pretend("export_weights", lambda *_, **__: result)
    answer = neuro("models", "export", "best.pth", "-o", "w.ckpt", "--json")
    assert calls[0] == ((Path("best.pth"), Path("w.ckpt")), {"force": False, "dry_run": False})
    assert answer.json["schema"] == "neuro/models-export/1"
    assert (answer.json["out"], answer.json["tensors"]) == ("w.ckpt", 25)
    assert answer.json["left_out"] == ["embedder.mask_token"]
    assert neuro("models", "export", "best.pth", "-o", "w.ckpt", "-q").out == "w.ckpt\n"
    shown = neuro("models", "export", "best.pth", "-o", "w.ckpt")
    assert "embedder.mask_token" in shown.out
    assert "note: averaged" in shown.err
    assert neuro("models", "export", "best.pth").code == 2
