"""Tables that other programs read: their columns, their header, their arithmetic."""

from __future__ import annotations

import io
from statistics import mean, stdev

import pandas as pd
import pytest

from neurocli.core.experiment.columns import STAGE_COLUMNS, table_text
from neurocli.core.report.tables import (
    epochs_text,
    model_means,
    models_text,
    models_tidy_text,
    runs_text,
)

ROWS = [
    {"model_name": "unet3d_xs", "seed": 1, "test_dice": 0.5, "pam_train": 100.0},
    {"model_name": "unet3d_xs", "seed": 2, "test_dice": 0.7, "pam_train": None},
    {"model_name": "unetr", "seed": 1, "test_dice": 0.25},
]


def test_the_described_columns_in_their_order() -> None:
    # The names and the order that scripts around these models read.
    head = runs_text(ROWS).splitlines()[0].split(",")
    assert ",".join(head[:20]) == (
        "dataset,seed,fold,model_name,total_params,flops,pam_train,pam_inference,"
        "inference_latency_ms,test_dice,test_wt,test_tc,test_et,val_dice,val_wt,val_tc,val_et,"
        "precision,recall,best_epoch"
    )
    assert head[20:] == ["test_hd95_wt", "test_hd95_tc", "test_hd95_et", "test_hd95_mean"]
    assert epochs_text([{"model_name": "unetr", "epoch": 1}]).splitlines()[0] == (
        "dataset,seed,fold,model_name,epoch,train_loss,train_dice,val_loss,val_dice,val_wt,val_tc,"
        "val_et,test_dice"
    )
    assert ",".join(STAGE_COLUMNS) == (
        "dataset,seed,fold,model_name,mode,stage_name,pam_mean,pam_std,num_runs"
    )


def test_the_table_of_models_is_read_back_with_two_headers() -> None:
    found = pd.read_csv(io.StringIO(models_text(ROWS)), header=[0, 1], index_col=0)
    assert list(found.index) == ["unet3d_xs", "unetr"]
    assert found.loc["unet3d_xs", ("test_dice", "mean")] == pytest.approx(0.6)
    # pandas' own deviation is that of a sample too.
    assert found.loc["unet3d_xs", ("test_dice", "std")] == pytest.approx(
        pd.Series([0.5, 0.7]).std(), abs=5e-5
    )
    assert pd.isna(found.loc["unetr", ("test_dice", "std")])
    assert found.loc["unet3d_xs", ("pam_train", "mean")] == 100


def test_means_leave_out_what_is_missing() -> None:
    found = model_means(ROWS, ("test_dice", "pam_train"))
    assert found["unet3d_xs"]["test_dice"] == (mean([0.5, 0.7]), stdev([0.5, 0.7]), 2)
    assert found["unet3d_xs"]["pam_train"] == (100.0, None, 1)
    assert "pam_train" not in found["unetr"]


def test_the_tidy_table_has_one_row_per_measure() -> None:
    found = pd.read_csv(io.StringIO(models_tidy_text(ROWS)))
    assert list(found.columns) == ["model_name", "measure", "n", "mean", "std"]
    # A measure without a value is there too, of no runs.
    assert len(found) == 2 * 7
    assert found[["model_name", "measure", "n"]][found["n"] > 0].to_numpy().tolist() == [
        ["unet3d_xs", "test_dice", 2], ["unet3d_xs", "pam_train", 1], ["unetr", "test_dice", 1],
    ]  # fmt: skip


def test_other_rooms_keep_the_head_and_name_their_own_metrics() -> None:
    rows = [{"model_name": "m", "total_params": 3, "test_auroc": 0.9, "best_epoch": 2}]
    head, row = runs_text(rows).splitlines()
    assert head == (
        "dataset,seed,fold,model_name,total_params,flops,pam_train,pam_inference,"
        "inference_latency_ms,best_epoch,test_auroc"
    )
    assert row == ",,,m,3,,,,,2,0.9"


def test_a_cell_starts_no_formula_and_numbers_are_whole() -> None:
    assert table_text(("a", "b"), [{"a": "=1+1", "b": 0.1 + 0.2}]) == (
        "a,b\n'=1+1,0.30000000000000004\n"
    )
