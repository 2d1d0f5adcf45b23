"""A claim stands only where the interval carries it (expected words: decided by hand)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocli.core.report.collect import collect_run, collect_runs
from neurocli.core.report.results import claim, comparisons, result_rows

WriteRun = Callable[..., Path]


@pytest.mark.parametrize(
    ("metric", "interval", "base", "words"),
    [
        ("accuracy", (0.6, 0.9), 0.5, "better than"),
        ("accuracy", (0.6, 0.9), 0.95, "worse than"),
        ("accuracy", (0.5, 0.9), 0.5, "not distinguishable from"),
        ("accuracy", (0.6, 0.9), 0.9, "not distinguishable from"),
        ("mae", (2.0, 3.0), 5.0, "better than"),
        ("mae", (2.0, 3.0), 1.0, "worse than"),
        ("mae", (2.0, 3.0), 2.5, "not distinguishable from"),
        ("mae", (2.0, 3.0), (3.5, 6.0), "better than"),
        ("mae", (2.0, 3.0), (3.0, 6.0), "not distinguishable from"),
        ("auroc", (0.6, 0.8), (0.9, 1.0), "worse than"),
        ("mae", None, 5.0, "no claim (no interval) against"),
        ("unheard_of", (2.0, 3.0), 5.0, "no claim (good direction unknown) against"),
    ],
)
def test_claim(
    metric: str, interval: tuple[float, float] | None, base: tuple[float, float] | float, words: str
) -> None:
    assert claim(metric, interval, base) == words


def test_training_data_claims_nothing() -> None:
    said = claim("accuracy", (0.9, 1.0), 0.5, in_sample=True)
    assert said == "no claim (training data) against"


def test_rows_hold_value_interval_and_every_baseline(write_run: WriteRun) -> None:
    accuracy, auroc = result_rows(collect_run(write_run()).evaluations[0])
    assert (accuracy.value, accuracy.interval) == ("0.75", "[0.6, 1]")
    assert accuracy.against == ("better than majority (0.5)",)
    assert auroc.against == ("not distinguishable from majority (0.5)",)


def test_undefined_values_are_dashes_and_a_baseline_without_the_metric_is_silent(
    write_run: WriteRun,
) -> None:
    judged = {"metrics": {"r2": None, "mae": 3.25}, "baselines": {"train_mean": {"r2": 0.0}}}
    r2, mae = result_rows(collect_run(write_run(judged=judged)).evaluations[0])
    assert (r2.value, r2.interval) == ("\u2013", "")
    assert r2.against == ("no claim (no interval) against train_mean (0)",)
    assert (mae.value, mae.against) == ("3.25", ())


def test_comparison_needs_two_judged_runs(write_run: WriteRun) -> None:
    assert comparisons([collect_run(write_run("a"))]) == []


def test_comparison_shows_all_metrics_and_warns(write_run: WriteRun) -> None:
    write_run("a")
    folder = write_run("b", judged={"part": "test", "n": 9, "metrics": {"mae": 2.5}})
    data = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**data, "split_sha256": "other"}))
    (found,) = comparisons(collect_runs([folder.parent]))
    assert found.metrics == (
        "accuracy [share]", "AUROC [share of pairs]", "mean absolute error [target units]",
    )  # fmt: skip
    assert [row.cells for row in found.rows] == [
        ("0.75 [0.6, 1]", "0.875 [0.4, 1]", ""),
        ("", "", "2.5"),
    ]
    assert [row.n for row in found.rows] == ["4", "9"]
    assert any("divide participants differently" in note for note in found.notes)
    assert not any("different data" in note for note in found.notes)


def test_runs_that_learned_different_things_are_not_in_one_table(write_run: WriteRun) -> None:
    write_run("a")
    folder = write_run("b", objective="ar", judged={"metrics": {"loss": 0.5}})
    first, second = comparisons(collect_runs([folder.parent]))
    assert (first.title, first.metrics, first.notes) == ("ar", ("loss [no unit]",), ())
    assert (second.title, len(second.rows)) == ("classification", 1)


def test_folds_that_all_models_share_are_no_other_division(write_run: WriteRun) -> None:
    for model in ("fmamba_mlp", "fmamba_conv_mlp"):
        for fold in (0, 1):
            folder = write_run(f"study/{model}_{fold}", model=model)
            data = json.loads((folder / "data.json").read_text())
            (folder / "data.json").write_text(json.dumps({**data, "split_sha256": str(fold)}))
    (found,) = comparisons(collect_runs([folder.parent]))
    assert not any("divide participants differently" in note for note in found.notes)
    # One model without one of the folds is compared on other people.
    shutil.rmtree(folder)
    (found,) = comparisons(collect_runs([folder.parent]))
    assert any("divide participants differently" in note for note in found.notes)
