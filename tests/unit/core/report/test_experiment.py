"""Rows of tables from run folders: every number is one that a file of the run holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocli.core.report.collect import Run, collect_run
from neurocli.core.report.costs import Costs
from neurocli.core.report.experiment import epoch_rows, run_rows, stage_rows

WriteRun = Callable[..., Path]
DICE = {"dice_mean": 0.6, "dice_wt": 0.8, "dice_tc": 0.6, "dice_et": 0.4, "precision": 0.7}
DISTANCE = {"hd95_wt": 3.0, "hd95_tc": 6.0, "hd95_et": 9.0, "hd95_mean": 6.0}


def _segmentation(write_run: WriteRun, name: str = "first") -> Path:
    judged = {"part": "test", "n": 4, "metrics": {**DICE, **DISTANCE}}
    run = write_run(name, model="unet3d_xs", objective="segmentation", judged=judged)
    result = json.loads((run / "result.json").read_text())
    result["best"] = {"metric": "dice_mean", "value": 0.5, "epoch": 2, "part": "val"}
    (run / "result.json").write_text(json.dumps(result))
    log: list[dict[str, object]] = []
    for epoch, dice in ((1, 0.3), (2, 0.5)):
        for step in (2 * epoch - 1, 2 * epoch):
            log.append({"event": "step", "step": step, "epoch": epoch, "loss": 1 / step})
        metrics = {"dice_mean": dice, "dice_wt": dice + 0.1, "loss": 2.0 / epoch}
        head = {"event": "eval", "step": 2 * epoch, "epoch": epoch, "part": "val"}
        log.append({**head, "metrics": metrics})
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return run


def _costed(run: Path) -> list[tuple[Run, Costs]]:
    return [(collect_run(run), Costs(params=12.0, flops=34.0, pam_train=5.5))]


def test_a_segmentation_run_fills_the_described_columns(write_run: WriteRun) -> None:
    (row,) = run_rows(_costed(_segmentation(write_run)))
    assert (row["dataset"], row["seed"], row["fold"], row["model_name"]) == (
        "h5", 1234, None, "unet3d_xs",
    )  # fmt: skip
    assert (row["total_params"], row["flops"], row["pam_train"]) == (12, 34, 5.5)
    assert (row["test_dice"], row["test_wt"], row["precision"]) == (0.6, 0.8, 0.7)
    # Validation scores are those of the epoch whose weights were kept.
    assert (row["val_dice"], row["val_wt"], row["val_tc"]) == (0.5, 0.6, None)
    assert row["test_hd95_mean"] == pytest.approx(6.0)
    assert (row["best_epoch"], row["recall"]) == (2, None)


def test_epochs_hold_mean_losses_and_the_test_score_once(write_run: WriteRun) -> None:
    first, second = epoch_rows(_costed(_segmentation(write_run)))
    assert first["train_loss"] == pytest.approx((1 + 1 / 2) / 2)
    assert second["train_loss"] == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert (first["val_loss"], first["val_dice"], first.get("test_dice")) == (2.0, 0.3, None)
    assert (second["val_dice"], second["test_dice"]) == (0.5, 0.6)


def test_training_data_is_no_test_score(write_run: WriteRun) -> None:
    judged = {"part": "test", "n": 4, "metrics": {"accuracy": 0.99}, "in_sample": True}
    (row,) = run_rows(_costed(write_run(judged=judged)))
    assert "test_accuracy" not in row


def test_the_fold_is_read_from_a_folder_of_an_experiment_only(
    write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run("study/unet3d_xs_seed_24_fold_3")
    assert run_rows(_costed(run))[0]["fold"] is None
    (tmp_path / "study" / "experiment.json").write_text("{}")
    assert run_rows(_costed(run))[0]["fold"] == 3


def test_stages_keep_the_identity_of_their_run(write_run: WriteRun) -> None:
    stage = {"mode": "train", "stage_name": "up1", "pam_mean": 8.0, "pam_std": 0.0, "num_runs": 1}
    run = collect_run(write_run())
    (row,) = stage_rows([(run, Costs(stages=[stage]))])
    assert row == {
        "dataset": "h5", "seed": 1234, "fold": None, "model_name": "fmamba_mlp", **stage,
    }  # fmt: skip
