"""The tables of an experiment, from run folders written here by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from neurocli.core.catalog import find_model
from neurocli.core.errors import InputError
from neurocli.core.experiment.plan import PlannedRun
from neurocli.core.experiment.records import read_epochs
from neurocli.core.experiment.tables import Tables

RUNS = [PlannedRun("unet3d_xs", 24, 0), PlannedRun("unet3d_xs", 24, 1), PlannedRun("unetr", 24, 0)]
# The names that programs around this family of models read, in their order.
HEAD = [
    *("dataset", "seed", "fold", "model_name", "total_params", "flops", "pam_train"),
    *("pam_inference", "inference_latency_ms", "test_dice", "test_wt", "test_tc", "test_et"),
    *("val_dice", "val_wt", "val_tc", "val_et", "precision", "recall", "best_epoch"),
]
EPOCH_HEAD = [
    *("dataset", "seed", "fold", "model_name", "epoch", "train_loss", "train_dice", "val_loss"),
    *("val_dice", "val_wt", "val_tc", "val_et", "test_dice"),
]
STAGE_HEAD = [
    *("dataset", "seed", "fold", "model_name", "mode", "stage_name"),
    *("pam_mean", "pam_std", "num_runs"),
]


def write_run(folder: Path, *, dice: float, ended: bool = True) -> None:
    folder.mkdir(parents=True)
    rows = ["step,epoch,part,metric,value"]
    for epoch in (1, 2):
        rows += [f"{epoch},{epoch},train,loss,{1 / epoch}"]
        rows += [f"{epoch},{epoch},val,{name},{dice / epoch}" for name in
                 ("dice_mean", "dice_wt", "dice_tc", "dice_et", "loss")]  # fmt: skip
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    steps = [
        {"event": "step", "step": s, "epoch": 1, "loss": 1.0, "lr": 0.1, "dice": d}
        for s, d in ((1, 0.2), (2, 0.4))
    ]
    text = "\n".join(json.dumps(step) for step in steps)
    (folder / "log.jsonl").write_text(text + '\n{"event": "step", "cut')
    if not ended:
        return
    best = {"metric": "dice_mean", "value": dice, "epoch": 1, "part": "val"}
    (folder / "result.json").write_text(
        json.dumps({"best": best, "n_parameters": 7, "checkpoint": "best.pth"})
    )
    test = folder / "evaluations" / "test"
    test.mkdir(parents=True)
    metrics = {"dice_mean": dice, "dice_wt": dice, "precision": 0.5, "hd95_mean": 4.0}
    (test / "metrics.json").write_text(json.dumps({"metrics": metrics}))
    (test / "per_subject.csv").write_text(f"participant,subject,dice_wt\np1,c1,{dice}\n")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    write_run(tmp_path / RUNS[0].name, dice=0.8)
    write_run(tmp_path / RUNS[1].name, dice=0.6)
    profile: dict[str, Any] = {
        "model": "unet3d_xs", "flops": 10, "pam_train_bytes": {"mean": 100.0},
        "pam_inference_bytes": {"mean": 50.0}, "latency_ms": {"mean": 1.5},
        "stages": [{"mode": "train", "stage_name": "enc1", "pam_mean": 9.0, "pam_std": 0.0,
                    "num_runs": 1, "saved_bytes": 3}],
    }  # fmt: skip
    (tmp_path / "profile.json").write_text(json.dumps({"models": [profile]}))
    room, _ = find_model("unet3d_xs")
    return Tables(tmp_path, RUNS, room, "brats2018")


def test_runs(tables: Tables) -> None:
    for run in RUNS[:2]:
        tables.take(run)
    rows = rows_of(tables.out / "integrated_experiment_results.csv")
    assert list(rows[0])[: len(HEAD)] == HEAD
    assert list(rows[0])[len(HEAD) :] == [f"test_hd95_{n}" for n in ("wt", "tc", "et", "mean")]
    assert [row["fold"] for row in rows] == ["0", "1"]
    first = {"dataset": "brats2018", "total_params": "7", "flops": "10", "pam_train": "100.0"}
    first |= {"inference_latency_ms": "1.5", "test_dice": "0.8", "val_dice": "0.8"}
    first |= {"precision": "0.5", "recall": "", "best_epoch": "1", "test_hd95_mean": "4.0"}
    assert first.items() <= rows[0].items()


def test_epochs_tell_the_test_of_the_best_one_only(tables: Tables) -> None:
    tables.take(RUNS[0])
    rows = rows_of(tables.out / "all_epochs_results.csv")
    assert list(rows[0]) == EPOCH_HEAD
    assert [row["test_dice"] for row in rows] == ["0.8", ""]
    assert [float(row["val_dice"]) for row in rows] == [0.8, 0.4]
    assert [float(row["train_loss"]) for row in rows] == [1.0, 0.5]
    assert float(rows[0]["train_dice"]) == pytest.approx(0.3)  # the mean of its two steps
    assert float(rows[0]["val_loss"]) == 0.8


def test_a_run_under_way_has_epochs_and_no_result(tables: Tables) -> None:
    tables.take(RUNS[0])
    write_run(tables.out / RUNS[2].name, dice=0.5, ended=False)
    tables.write_epochs(RUNS[2])
    names = [row["model_name"] for row in rows_of(tables.out / "all_epochs_results.csv")]
    assert names == ["unet3d_xs"] * 2 + ["unetr"] * 2
    assert len(rows_of(tables.out / "integrated_experiment_results.csv")) == 1


def test_models_under_two_header_lines(tables: Tables) -> None:
    for run in RUNS[:2]:
        tables.take(run)
    path = tables.out / "model_comparison.csv"
    found = pd.read_csv(path, header=[0, 1], index_col=0)
    columns = ["test_dice", "val_dice", "precision", "recall", "pam_train", "pam_inference"]
    assert list(dict.fromkeys(found.columns.get_level_values(0))) == [
        *columns, "inference_latency_ms",
    ]  # fmt: skip
    assert found.loc["unet3d_xs", ("test_dice", "mean")] == 0.7
    assert found.loc["unet3d_xs", ("test_dice", "std")] == 0.1414  # of 0.8 and 0.6, ddof 1
    assert "0.7000,0.1414" in path.read_text()
    tidy = rows_of(tables.out / "model_comparison_tidy.csv")
    assert {row["measure"]: row["n"] for row in tidy}["recall"] == "0"


def test_stages_and_cases(tables: Tables) -> None:
    for run in RUNS[:2]:
        tables.take(run)
    stages = rows_of(tables.out / "stage_wise_pam_results.csv")
    assert list(stages[0]) == STAGE_HEAD
    assert len(stages) == 1  # memory is the model's, not the fold's
    cases = rows_of(tables.out / "per_case.csv")
    assert [(row["fold"], row["subject"], row["dice_wt"]) for row in cases] == [
        ("0", "c1", "0.8"), ("1", "c1", "0.6"),
    ]  # fmt: skip


def test_tables_of_nothing_have_their_columns(tmp_path: Path) -> None:
    room, _ = find_model("unet3d_xs")
    Tables(tmp_path, RUNS, room, "x").write()
    assert (tmp_path / "all_epochs_results.csv").read_text() == ",".join(EPOCH_HEAD) + "\n"


def test_rooms_without_own_columns_name_part_and_metric(tmp_path: Path) -> None:
    run = PlannedRun("fmamba", 1)
    write_run(tmp_path / run.name, dice=0.5)
    tables = Tables(tmp_path, [run], find_model("fmamba")[0], "built-in")
    tables.take(run)
    row = rows_of(tmp_path / "integrated_experiment_results.csv")[0]
    assert (row["fold"], row["test_dice_wt"], row["val_dice_tc"]) == ("", "0.5", "0.5")
    epochs = rows_of(tmp_path / "all_epochs_results.csv")
    assert {"train_loss", "train_dice", "val_dice_wt"} < set(epochs[0])


def test_a_damaged_table_of_metrics_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,epoch,part,metric,value\n1,one,val,loss,0.1\n")
    with pytest.raises(InputError, match=r"metrics\.csv"):
        read_epochs(tmp_path)
    assert read_epochs(tmp_path / "absent") == {}
