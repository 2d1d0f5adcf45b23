"""Several runs from the shell: exit codes, the one JSON object, what -q prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neurocli.core.experiment.judge import ManyResult
from neurocli.core.experiment.run import ExperimentResult

PAIR = {
    "first": "a", "second": "b", "n": 4, "mean_difference": 0.1, "low": 0.05, "high": 0.2,
    "median_difference": 0.1, "test": "wilcoxon", "p": 0.1, "p_holm": 0.1,
}  # fmt: skip
COMPARISON = {"dice_wt": {"models": {}, "best": None, "pairs": [PAIR]}}


def experiment(**more: Any) -> ExperimentResult:
    best = {"metric": "dice_mean", "value": 0.5, "epoch": 2, "part": "val"}
    runs = [
        {"name": "a_seed_1", "model": "a", "seed": 1, "fold": None, "status": "done", "run": "e/a",
         "checkpoint": "e/a/best.pth", "best": best, "metrics": {"dice_wt": 0.6}},
        {"name": "b_seed_1", "model": "b", "seed": 1, "fold": None, "status": "failed",
         "run": "e/b", "reason": "too large"},
    ]  # fmt: skip
    return ExperimentResult(Path("e"), runs, COMPARISON, **more)


@pytest.mark.parametrize(
    "words", [("a", "b"), ("a*",), ("a", "--seeds", "1"), ("a", "--folds", "5")], ids=" ".join
)
def test_several_runs_are_an_experiment(neuro: Any, pretend: Any, words: tuple[str, ...]) -> None:
    calls = pretend("run_experiment", lambda *_, **__: experiment())
    answer = neuro("train", *words, "-q")
    assert (answer.code, answer.out) == (0, "e\n")
    assert len(calls) == 1


def test_what_failed_is_listed_with_code_3(neuro: Any, pretend: Any) -> None:
    pretend("run_experiment", lambda *_, **__: experiment(left_out=[("b_seed_1", "too large")]))
    answer = neuro("train", "a", "b")
    assert answer.code == 3
    assert "b_seed_1: too large" in answer.err
    assert "a - b" in answer.out
    assert "neuro report e" in answer.err
    found = neuro("train", "a", "b", "--json")
    assert found.code == 3
    assert found.json["schema"] == "neuro/train/1"
    assert [run["status"] for run in found.json["runs"]] == ["done", "failed"]
    assert found.json["experiment"] == "e"
    assert found.json["comparison"]["dice_wt"]["pairs"] == [PAIR]
    assert found.json["left_out"] == [["b_seed_1", "too large"]]


def test_a_plan_is_shown(neuro: Any, pretend: Any) -> None:
    pretend("run_experiment", lambda *_, **__: experiment(plan={"runs": ["a_seed_1"]}))
    answer = neuro("train", "a", "b", "--dry-run")
    assert answer.code == 0
    assert "Nothing was written" in answer.out
    assert "a_seed_1" in answer.out


def test_several_checkpoints_are_compared(neuro: Any, pretend: Any) -> None:
    from neurocli.core.engine.judgement import EvalResult

    one = EvalResult(Path("a.pth"), "unet3d_xs", "test", Path("c/a"), False, False, n=4,
                     metrics={"dice_wt": 0.7})  # fmt: skip
    many = ManyResult(Path("c"), [one, one], ["a", "b"], COMPARISON, [("c.pth", "damaged")])
    calls = pretend("evaluate_many", lambda *_, **__: many)
    answer = neuro("evaluate", "a.pth", "b.pth", "c.pth", "--json")
    assert answer.code == 3
    assert answer.json["schema"] == "neuro/evaluate/1"
    assert [model["metrics"]["dice_wt"] for model in answer.json["models"]] == [0.7, 0.7]
    assert calls[0][0] == (Path("a.pth"), Path("b.pth"), Path("c.pth"))
    assert calls[0][1]["average"] is False
    assert neuro("evaluate", "a.pth", "b.pth", "-q").out == "c\n"
    assert "a - b" in neuro("evaluate", "a.pth", "b.pth").out


def test_an_ensemble_gives_one_judgement(neuro: Any, pretend: Any) -> None:
    from neurocli.core.engine.judgement import EvalResult

    one = EvalResult(Path("a.pth"), "unet3d_xs", "test", Path("c/a"), False, False, n=4,
                     metrics={"dice_wt": 0.7})  # fmt: skip
    calls = pretend("evaluate_many", lambda *_, **__: one)
    answer = neuro("evaluate", "a.pth", "b.pth", "--ensemble", "--json")
    assert calls[0][1]["average"] is True
    assert answer.json["metrics"] == {"dice_wt": 0.7}
