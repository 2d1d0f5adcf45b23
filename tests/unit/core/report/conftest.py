"""A writer of run folders as `train` and `evaluate` leave them, small and without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

WriteRun = Callable[..., Path]

CONFIG = """\
model:
  name: {model}
  embed_dim: 64
data:
  path: {data}
  batch_size: 8
task:
  objective: {objective}
train:
  lr: 0.002
  optimizer: adamw
run:
  seed: 1234
"""
SUBJECTS = """\
participant,target,predicted,p_F,p_M
sub-01,F,F,0.9,0.1
sub-02,M,M,0.2,0.8
sub-03,M,F,0.6,0.4
sub-04,F,F,0.7,0.3
"""


def evaluation(**changes: Any) -> dict[str, Any]:
    """Return a `metrics.json` of a classification, with some values changed."""
    return {
        "schema": "neuro/evaluate/1",
        "checkpoint": "checkpoints/best.pth",
        "model": "fmamba_mlp",
        "part": "test",
        "n": 4,
        "metrics": {"accuracy": 0.75, "auroc": 0.875},
        "ci95": {"accuracy": [0.6, 1.0], "auroc": [0.4, 1.0]},
        "baselines": {"majority": {"accuracy": 0.5, "auroc": 0.5}},
        "in_sample": False,
        "built_in_data": False,
        "notes": [],
        **changes,
    }


@pytest.fixture
def write_run(tmp_path: Path) -> WriteRun:
    """Return a function that writes a finished run folder and returns its path."""

    def write(
        name: str = "first",
        *,
        model: str = "fmamba_mlp",
        objective: str = "classification",
        data: str = "h5",
        built_in: bool = False,
        judged: Mapping[str, Any] | None = None,
        subjects: str = SUBJECTS,
        left_out: list[list[str]] | None = None,
        n_steps: int = 12,
    ) -> Path:
        run = tmp_path / name
        (run / "evaluations" / "test").mkdir(parents=True)
        (run / "config.yaml").write_text(CONFIG.format(model=model, data=data, objective=objective))
        _json(run / "config.sources.json", {"train.lr": "--lr", "data.batch_size": "default"})
        _json(
            run / "environment.json",
            {
                "python": "3.11.7",
                "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
                "devices": ["cpu"],
            },
        )
        _json(run / "data.json", _data(objective, built_in, left_out or []))
        _json(run / "split.json", {"schema": "neuro/split/1", "parts": {"train": ["a", "b"]}})
        _json(run / "result.json", _result(model, built_in))
        (run / "log.jsonl").write_text("".join(_log(n_steps)))
        (run / "metrics.csv").write_text("step,epoch,part,metric,value\n6,0,val,accuracy,0.5\n")
        folder = run / "evaluations" / "test"
        _json(folder / "metrics.json", evaluation(model=model) if judged is None else judged)
        (folder / "per_subject.csv").write_text(subjects, encoding="utf-8")
        return run

    return write


def _json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _data(objective: str, built_in: bool, left_out: list[list[str]]) -> dict[str, Any]:
    return {
        "schema": "neuro/run-data/1",
        "objective": objective,
        "built_in_data": built_in,
        "parts": {
            "train": {"participants": 33, "samples": 165},
            "val": {"participants": 7, "samples": 35},
            "test": {"participants": 4, "samples": 20},
        },
        "info": {"img_size": [24, 30, 24, 8]},
        "left_out": left_out,
        "notes": [],
        "fingerprint": "f" * 64,
        "split_sha256": "5" * 64,
    }


def _result(model: str, built_in: bool) -> dict[str, Any]:
    return {
        "schema": "neuro/train/1",
        "model": model,
        "best": {"metric": "accuracy", "value": 0.71, "epoch": 1, "part": "val"},
        "epochs": 2,
        "steps": 12,
        "seconds": 3.5,
        "n_parameters": 139008,
        "built_in_data": built_in,
    }


def _log(n_steps: int) -> list[str]:
    lines = [{"event": "start", "model": "fmamba_mlp"}]
    for step in range(1, n_steps + 1):
        lines.append({"event": "step", "step": step, "epoch": 0, "loss": 1 / step, "lr": 1e-3})
        if step % 3 == 0:
            metrics = {"loss": 0.8 / step, "accuracy": 1 - 1 / step}
            lines.append(
                {"event": "eval", "step": step, "epoch": 0, "part": "val", "metrics": metrics}
            )
    return [json.dumps(line) + "\n" for line in lines]
