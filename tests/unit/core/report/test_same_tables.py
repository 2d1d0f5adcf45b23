"""A report of an experiment's runs writes the tables that the experiment wrote, byte by byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neurocli.core.catalog import find_model
from neurocli.core.experiment.plan import PlannedRun
from neurocli.core.experiment.tables import Tables
from neurocli.core.report.beside import files_beside
from neurocli.core.report.material import Material
from neurocli.core.report.sources import collect_sources

BRATS = ("dice_mean", "dice_wt", "dice_tc", "dice_et", "loss")
GENERIC = ("loss", "accuracy", "auroc")
NAMES = (
    "integrated_experiment_results.csv", "all_epochs_results.csv", "model_comparison.csv",
    "model_comparison_tidy.csv", "stage_wise_pam_results.csv",
)  # fmt: skip
# Planned in the order of their names, in which a report finds them.
RUNS = {
    "brats": [PlannedRun("unet3d_xs", 24, 0), PlannedRun("unet3d_xs", 24, 1),
              PlannedRun("unetr", 24, 0)],
    "fmri": [PlannedRun("fmamba", 1), PlannedRun("fmamba", 2)],
}  # fmt: skip


def _write(folder: Path, run: PlannedRun, names: tuple[str, ...], score: float) -> None:
    """Write a run folder as training and judging leave it: the log and the table say the same."""
    test = folder / "evaluations" / "test"
    test.mkdir(parents=True)
    settings = f"data: {{path: /data/set}}\nrun: {{seed: {run.seed}}}\n"
    (folder / "config.yaml").write_text(f"model: {{name: {run.model}}}\n{settings}")
    table, log = ["step,epoch,part,metric,value"], []
    for epoch in (1, 2):
        step = {"event": "step", "step": 2 * epoch, "epoch": epoch, "loss": 9.0, "lr": 0.1}
        log.append({**step, "dice": score / (epoch + 2)})
        for part, metrics in (
            ("train", {"loss": 1 / (3 * epoch)}),
            ("val", {name: score / (epoch + index) for index, name in enumerate(names)}),
        ):
            head = {"event": "eval", "step": 2 * epoch, "epoch": epoch, "part": part}
            log.append({**head, "metrics": metrics})
            table += [f"{2 * epoch},{epoch},{part},{k},{v!r}" for k, v in metrics.items()]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    (folder / "metrics.csv").write_text("\n".join(table) + "\n")
    best = {"metric": names[0], "value": score, "epoch": 1, "part": "val"}
    _json(folder / "result.json", {"model": run.model, "best": best, "n_parameters": 7})
    judged = {name: score / (3 + index) for index, name in enumerate(names) if name != "loss"}
    _json(test / "metrics.json", {"part": "test", "metrics": {**judged, "precision": None}})
    (test / "per_subject.csv").write_text("participant,subject\np1,c1\n")


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def _profile(model: str) -> dict[str, Any]:
    stage = {"stage_name": "enc1", "pam_mean": 9.5, "pam_std": 0.0, "num_runs": 1, "saved_bytes": 3}
    return {
        "model": model, "flops": 10, "pam_train_bytes": {"mean": 100.0},
        "pam_inference_bytes": {"mean": 50.0}, "latency_ms": {"mean": 1.5},
        "stages": [{"mode": mode, **stage} for mode in ("train", "inference")],
    }  # fmt: skip


@pytest.mark.parametrize(("room", "names"), [("brats", BRATS), ("fmri", GENERIC)])
def test_a_report_writes_what_the_experiment_wrote(
    tmp_path: Path, room: str, names: tuple[str, ...]
) -> None:
    out, runs = tmp_path / "study", RUNS[room]
    for index, run in enumerate(runs):
        _write(out / run.name, run, names, 0.9 - 0.1 * index)
    _json(out / "experiment.json", {})
    # The last model was not measured.
    models = [_profile(runs[0].model)]
    _json(out / "profile.json", {"schema": "neuro/profile/1", "models": models})
    tables = Tables(out, runs, find_model(runs[0].model)[0], "set")
    for run in runs:
        tables.take(run)
    wrote = {name: (out / name).read_text() for name in NAMES}
    for name in NAMES:
        (out / name).unlink()  # else the page would link to it
    page = tmp_path / "report.html"
    beside = {file.name: file for file in files_beside(Material(collect_sources([out])), page)}
    for name in NAMES:
        content = beside[name].content
        assert content is not None
        assert content() == wrote[name], name
    # What is compared is no pair of empty tables.
    assert len(wrote[NAMES[0]].splitlines()) == 1 + len(runs)
    assert len(wrote[NAMES[1]].splitlines()) == 1 + 2 * len(runs)
    assert len(wrote[NAMES[4]].splitlines()) == 1 + 2
