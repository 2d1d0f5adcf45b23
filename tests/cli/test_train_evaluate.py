"""`neuro train` and `neuro evaluate`: what they hand over, and what they show of the result.

The public functions are replaced here, so every expected value is written in the test itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from made_results import NAN, Trained, judged


def test_train_hands_over_every_flag(neuro: Any, pretend: Any) -> None:
    calls = pretend("train", lambda *_, **__: Trained())
    neuro("train", "a", "b*", "--pretrain", "ar", "--task", "sex", "--task-type", "classification",
          "--data", "d", "--split", "s", "--epochs", 3, "--steps", 9, "--batch-size", 2,
          "--lr", "1e-3", "--seeds", "1-3,7", "--folds", 5, "--precision", "bf16",
          "--init-from", "c.pth", "--resume", "r", "--freeze", "--parallel", "none",
          "--accumulate", 4, "--ema", 0.9, "--early-stop", 2, "--seed", 5, "--device", "cpu",
          "-p", "fmri/tiny", "-c", "c.yaml", "-s", "a.b=1", "-s", "a.c=2", "-o", "o",
          "--force")  # fmt: skip
    args, options = calls[0]
    assert args == ("a", "b*")
    options.pop("listener")
    assert options == {
        "pretrain": "ar", "task": "sex", "task_type": "classification", "data": [Path("d")],
        "split": Path("s"), "epochs": 3, "steps": 9, "batch_size": 2, "lr": 1e-3,
        "seeds": (1, 2, 3, 7), "folds": 5, "precision": "bf16", "init_from": Path("c.pth"),
        "resume": Path("r"), "freeze": True, "parallel": "none", "accumulate": 4, "ema": 0.9,
        "early_stop": 2, "seed": 5, "device": "cpu", "preset": "fmri/tiny",
        "config": Path("c.yaml"), "set": ["a.b=1", "a.c=2"], "out": Path("o"), "force": True,
        "dry_run": False,
    }  # fmt: skip


def test_flags_that_were_not_given_stay_none(neuro: Any, pretend: Any) -> None:
    calls = pretend("train", lambda *_, **__: Trained())
    neuro("train", "fmamba")
    options = calls[0][1]
    assert {name for name, setting in options.items() if setting is not None} == {
        "set", "force", "dry_run", "listener",
    }  # fmt: skip


def test_train_flags_are_the_flags_of_the_core() -> None:
    from neurocli.cli.app import COMMANDS, load_command
    from neurocli.core.config.flags import TRAIN_KEYS

    row = next(row for row in COMMANDS if row.name == "train")
    assert set(TRAIN_KEYS) <= {param.name for param in load_command(row).params}


def test_train_ends_with_a_summary_and_the_next_commands(neuro: Any, pretend: Any) -> None:
    pretend("train", lambda *_, **__: Trained(notes=["made up"], left_out=[("sub-9", "short")]))
    answer = neuro("train", "fmamba")
    assert answer.code == 3
    assert "best loss   0.25" in answer.out
    assert "2 epochs, 20 steps, 1:01" in answer.out
    assert "built-in synthetic cohort" in answer.out
    assert "note: made up" in answer.err
    assert "hint: neuro evaluate 'runs/a b/checkpoints/best.pth'" in answer.err
    assert "hint: neuro report 'runs/a b' -o report.html" in answer.err
    assert "sub-9: short" in answer.err


def test_evaluate_shows_interval_baseline_and_n(neuro: Any, pretend: Any) -> None:
    pretend("evaluate", lambda *_, **__: judged())
    lines = neuro("evaluate", "best.pth").out.splitlines()
    assert lines[0] == "test part, n = 7 subjects"
    assert lines[1].split() == ["metric", "fmamba_mlp", "95", "%", "interval", "majority"]
    assert lines[2].split() == ["accuracy", "0.9", "0.7", "to", "1", "0.5", "(better)"]
    assert lines[3].split() == ["auroc", "undefined", "undefined", "-"]


def test_evaluate_shows_confusion_and_sites(neuro: Any, pretend: Any) -> None:
    confusion = {"classes": ["F", "M"], "counts": [[3, 1], [0, 3]]}
    sites = [{"site": "here", "n": 5, "accuracy": 0.8, "auroc": NAN}, {"site": "there", "n": 2}]
    answer = judged(unit="windows", details={"confusion": confusion}, per_site=sites)
    pretend("evaluate", lambda *_, **__: answer)
    text = neuro("evaluate", "best.pth").out
    assert "n = 7 windows" in text
    shown = [line.split() for line in text.splitlines()]
    assert ["true", "class", "as", "F", "as", "M"] in shown
    assert ["F", "3", "1"] in shown
    assert ["here", "5", "0.8", "undefined"] in shown
    assert ["there", "2", "-", "-"] in shown
    found = neuro("evaluate", "best.pth", "--json").json
    assert found["confusion"] == confusion
    assert found["per_site"][0] == {"site": "here", "n": 5, "accuracy": 0.8, "auroc": None}


def test_an_undefined_metric_is_null_in_json(neuro: Any, pretend: Any) -> None:
    pretend("evaluate", lambda *_, **__: judged())
    answer = neuro("evaluate", "best.pth", "--json")
    assert answer.json["metrics"] == {"accuracy": 0.9, "auroc": None}
    assert answer.json["ci95"] == {"accuracy": [0.7, 1]}
    assert answer.json["baselines"] == {"majority": {"accuracy": 0.5}}


def test_in_sample_figures_are_a_warning(neuro: Any, pretend: Any) -> None:
    pretend("evaluate", lambda *_, **__: judged(in_sample=True, notes=["7 of 7 trained on"]))
    answer = neuro("evaluate", "best.pth", "-q")
    assert answer.err == "warning: 7 of 7 trained on\n"
    assert "trained on some of them" in neuro("evaluate", "best.pth").out


def test_evaluate_hands_over_what_was_given(neuro: Any, pretend: Any) -> None:
    calls = pretend("evaluate", lambda *_, **__: judged())
    neuro("evaluate", "b.pth", "--part", "val", "--save_predictions", "--embeddings",
          "--batch-size", 3)  # fmt: skip
    args, options = calls[0]
    assert args == (Path("b.pth"),)
    assert (options["part"], options["save_predictions"], options["batch_size"]) == ("val", True, 3)
    assert options["embeddings"] is True
    assert (options["data"], options["split"], options["device"]) == (None, None, None)
