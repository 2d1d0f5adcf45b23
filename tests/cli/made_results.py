"""What the public functions would return, made up, for the tests of the commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from neurocli.core.cost.command import FlopsResult, ProfileResult
from neurocli.core.data.items import PrepareResult
from neurocli.core.engine.judgement import EvalResult

NAN = float("nan")


@dataclass(frozen=True)
class Trained:
    run: Path = Path("runs/a b")
    checkpoint: Path = Path("runs/a b/checkpoints/best.pth")
    model: str = "fmamba"
    best: Mapping[str, Any] = field(
        default_factory=lambda: {"metric": "loss", "value": 0.25, "epoch": 2, "part": "val"}
    )
    epochs: int = 2
    steps: int = 20
    seconds: float = 61.0
    built_in_data: bool = True
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: Mapping[str, Any] | None = None


def judged(**changes: Any) -> EvalResult:
    plain: dict[str, Any] = {
        "checkpoint": Path("best.pth"),
        "model": "fmamba_mlp",
        "part": "test",
        "out": Path("runs/a/evaluations/test"),
        "in_sample": False,
        "built_in_data": False,
        "n": 7,
        "metrics": {"accuracy": 0.9, "auroc": NAN},
        "ci95": {"accuracy": (0.7, 1)},
        "baselines": {"majority": {"accuracy": 0.5}},
        "verdicts": {"majority": {"accuracy": "better"}},
    }
    return EvalResult(**{**plain, **changes})


def prepared(**changes: Any) -> PrepareResult:
    plain = {"out": Path("o"), "done": 2, "failed": 0, "skipped": 1, "seconds": 0.5, "failures": []}
    return PrepareResult(**{**plain, **changes})


def split_made(out: Path, **_: Any) -> SimpleNamespace:
    return SimpleNamespace(
        out=out,
        report_json=Path(f"{out}.report.json"),
        report_html=Path(f"{out}.report.html"),
        counts={"train": 7, "val": 2, "test": 1},
        n_folds=0,
        n_groups_divided=0,
        imbalanced=["age"],
        notes=["uneven"],
        split=SimpleNamespace(seed=3, pairs=()),
        sampling={},
        others=(),
        likeness=None,
    )


COST = FlopsResult(
    model="fmamba", params=10, macs=20, flops=40, flops_train_step=120, tokens=None,
    engine="formula", input_shape=[4, 4, 4, 2], notes=[], components={"scan": 30},
    work={"clip": 120, "step": 960, "epoch": None, "run": None, "clips_per_epoch": None,
          "steps": None},
)  # fmt: skip

MEASURED = ProfileResult(
    models=[
        {
            "model": "fmamba", "params": 10, "macs": 20,
            "latency_ms": {"median": 1.5, "mean": 1.6, "std": 0.1},
            "pam_train_bytes": {"mean": 2.0**21, "std": 0.0},
            "pam_inference_bytes": None, "stages": [],
            "latency_train_ms": {"median": 3.0, "std": 0.5},
            "input_shape": [4, 4, 4, 2], "device": "cpu",
        }
    ],
    left_out=[], notes=[], files=[],
)  # fmt: skip

REPORT = SimpleNamespace(
    out=Path("r.html"), runs=["a"], files={}, notes=["no test part"], plan=None
)

BEHIND = {
    "preprocess": ("preprocess", lambda *_, **__: prepared()),
    "convert-hdf5": ("convert_hdf5", lambda *_, **__: prepared()),
    "split": ("make_split", lambda table, out, **named: split_made(out, **named)),
    "train": ("train", lambda *_, **__: Trained()),
    "evaluate": ("evaluate", lambda *_, **__: judged()),
    "flops": ("count_flops", lambda *_, **__: COST),
    "profile": ("profile", lambda *_, **__: MEASURED),
    "report": ("make_report", lambda *_, **__: REPORT),
}
