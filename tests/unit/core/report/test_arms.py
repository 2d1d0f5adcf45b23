"""Paired tests: what is one arm, which people are compared, and scipy's own p values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from neurocli.core.metrics.paired import holm
from neurocli.core.report.arms import arms_of, paired_rows, person_scores
from neurocli.core.report.collect import Run, collect_run

WriteRun = Callable[..., Path]
rng = np.random.default_rng(3)
SCORES = {name: rng.random(12).round(3) for name in ("a", "b", "c")}


def _run(
    write_run: WriteRun, name: str, model: str, values: Mapping[str, float], seed: int = 1
) -> Run:
    table = "subject,dice_mean\n" + "".join(f"{who},{v}\n" for who, v in values.items())
    run = write_run(name, model=model, objective="segmentation", subjects=table)
    config = (run / "config.yaml").read_text().replace("1234", str(seed))
    (run / "config.yaml").write_text(config)
    return collect_run(run)


def _people(values: np.ndarray) -> dict[str, float]:
    return {f"case-{i:02d}": float(v) for i, v in enumerate(values)}


def test_p_values_are_those_of_scipy_corrected_over_pairs(write_run: WriteRun) -> None:
    models = {"a": "unet3d_xs", "b": "unet3d_s", "c": "unet3d_m"}
    runs = [_run(write_run, n, m, _people(SCORES[n])) for n, m in models.items()]
    found = paired_rows(runs)
    raw = [wilcoxon(SCORES[x] - SCORES[y]).pvalue for x, y in ("ab", "ac", "bc")]
    assert [row.p for row in found] == pytest.approx(raw)
    assert [row.p_holm for row in found] == pytest.approx(holm(raw))
    assert found[0].median_difference == pytest.approx(np.median(SCORES["a"] - SCORES["b"]))
    assert {row.n for row in found} == {12}
    assert found[0].cells[:3] == ("dice mean [share]", "unet3d_xs", "unet3d_s")


def test_seeds_are_no_people(write_run: WriteRun) -> None:
    runs = [
        _run(write_run, "a1", "unet3d_xs", _people(SCORES["a"]), seed=1),
        _run(write_run, "a2", "unet3d_xs", _people(SCORES["b"]), seed=2),
        _run(write_run, "c1", "unet3d_s", _people(SCORES["c"])),
    ]
    assert [(arm.name, len(arm.runs)) for arm in arms_of(runs)] == [
        ("unet3d_xs", 2), ("unet3d_s", 1),
    ]  # fmt: skip
    (row,) = paired_rows(runs)
    # Each person's mean over the seeds of a model is one observation.
    difference = (SCORES["a"] + SCORES["b"]) / 2 - SCORES["c"]
    assert (row.n, row.p) == (12, pytest.approx(wilcoxon(difference).pvalue))


def test_only_people_that_both_judged_are_compared(write_run: WriteRun) -> None:
    fewer = dict(list(_people(SCORES["b"]).items())[:7])
    runs = [
        _run(write_run, "a", "unet3d_xs", _people(SCORES["a"])),
        _run(write_run, "b", "unet3d_s", fewer),
    ]
    (row,) = paired_rows(runs)
    assert row.n == 7


def test_other_settings_are_another_arm_under_the_runs_own_name(write_run: WriteRun) -> None:
    one, other = write_run("one"), write_run("other")
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("lr: 0.002", "lr: 0.1"))
    assert [arm.name for arm in arms_of([collect_run(one), collect_run(other)])] == ["one", "other"]


def test_scores_of_classes_are_log_losses(write_run: WriteRun) -> None:
    found = person_scores(collect_run(write_run()).evaluations[0])
    # sub-01 is F with 0.9, sub-03 is M with 0.4.
    assert found["log_loss"]["sub-01"] == pytest.approx(-math.log(0.9))
    assert found["log_loss"]["sub-03"] == pytest.approx(-math.log(0.4))
    assert "mae" not in found


def test_scores_of_numbers_are_absolute_errors(write_run: WriteRun) -> None:
    table = "participant,target,predicted\na,10,12\nb,20,15\n"
    run = collect_run(write_run(objective="regression", subjects=table))
    assert person_scores(run.evaluations[0])["mae"] == {"a": 2.0, "b": 5.0}


def test_training_data_is_not_compared(write_run: WriteRun) -> None:
    judged = {"part": "test", "n": 4, "metrics": {}, "in_sample": True}
    runs = [collect_run(write_run(n, model=f"fmamba_{n}", judged=judged)) for n in ("mlp", "x")]
    assert paired_rows(runs) == []
