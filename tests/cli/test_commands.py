"""Each command: what it hands to its public function, and what it shows of the result.

The public functions are replaced here, so every expected value is written in the test itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neurocli.core import events
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


def _prepared(**changes: Any) -> PrepareResult:
    plain = {"out": Path("o"), "done": 2, "failed": 0, "skipped": 1, "seconds": 0.5, "failures": []}
    return PrepareResult(**{**plain, **changes})


def _split(out: Path, **_: Any) -> SimpleNamespace:
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

CONTRACT = {
    "preprocess": (
        ["preprocess", "bids", "x", "-o", "o"],
        ["out", "done", "failed", "skipped", "seconds"],
        "o",
    ),
    "convert-hdf5": (
        ["convert-hdf5", "x", "-o", "o"],
        ["out", "done", "failed", "skipped", "seconds"],
        "o",
    ),
    "split": (["split", "t.tsv", "-o", "s.json"], ["out"], "s.json"),
    "train": (
        ["train", "fmamba"],
        ["run", "checkpoint", "best", "epochs", "steps", "seconds", "built_in_data"],
        "runs/a b/checkpoints/best.pth",
    ),
    "evaluate": (
        ["evaluate", "best.pth"],
        ["checkpoint", "model", "part", "n", "metrics", "ci95", "out"],
        "runs/a/evaluations/test",
    ),
    "flops": (
        ["flops", "fmamba"],
        ["model", "params", "macs", "flops", "flops_train_step", "tokens", "engine", "input_shape"],
        "40",
    ),
    "profile": (["profile", "fmamba"], ["models"], "fmamba"),
    "report": (["report", "a", "-o", "r.html"], ["out"], "r.html"),
}
BEHIND = {
    "preprocess": ("preprocess", lambda *_, **__: _prepared()),
    "convert-hdf5": ("convert_hdf5", lambda *_, **__: _prepared()),
    "split": ("make_split", lambda table, out, **named: _split(out, **named)),
    "train": ("train", lambda *_, **__: Trained()),
    "evaluate": ("evaluate", lambda *_, **__: judged()),
    "flops": ("count_flops", lambda *_, **__: COST),
    "profile": ("profile", lambda *_, **__: MEASURED),
    "report": ("make_report", lambda *_, **__: REPORT),
}


@pytest.mark.parametrize("command", CONTRACT)
def test_json_has_the_keys_of_the_contract_first(neuro: Any, pretend: Any, command: str) -> None:
    words, keys, _ = CONTRACT[command]
    pretend(*BEHIND[command])
    answer = neuro(*words, "--json")
    assert answer.code == 0
    assert list(answer.json)[: len(keys) + 1] == ["schema", *keys]
    assert answer.json["schema"] == f"neuro/{command}/1"


@pytest.mark.parametrize("command", CONTRACT)
def test_quiet_prints_the_main_output_and_nothing_else(
    neuro: Any, pretend: Any, command: str
) -> None:
    words, _, main = CONTRACT[command]
    pretend(*BEHIND[command])
    answer = neuro(*words, "-q")
    assert answer.code == 0
    assert answer.out == f"{main}\n"
    assert [line for line in answer.err.splitlines() if not line.startswith("warning: ")] == []


@pytest.mark.parametrize("command", CONTRACT)
def test_text_goes_to_stdout_and_hints_to_stderr(neuro: Any, pretend: Any, command: str) -> None:
    words, _, _ = CONTRACT[command]
    pretend(*BEHIND[command])
    answer = neuro(*words)
    assert answer.code == 0
    assert answer.out
    assert "hint:" not in answer.out
    assert all(line == line.rstrip() for line in answer.out.splitlines())


@pytest.mark.parametrize("command", sorted(set(CONTRACT) - {"flops", "profile"}))
def test_dry_run_reaches_the_function_and_shows_the_plan(
    neuro: Any, pretend: Any, command: str
) -> None:
    words, _, _ = CONTRACT[command]
    name, answer = BEHIND[command]
    fake: Any = answer

    def planned(*args: Any, **kwargs: Any) -> Any:
        result = fake(*args, **kwargs)
        plan = {"would_write": "o", "inputs": ["x"], "config": {"lr": 1e-3}}
        if isinstance(result, SimpleNamespace):
            return SimpleNamespace(**{**vars(result), "plan": plan})
        return replace(result, plan=plan)

    calls = pretend(name, planned)
    text = neuro(*words, "--dry-run")
    assert text.code == 0
    assert text.out.startswith("Nothing was written.")
    assert "would_write" in text.out
    assert calls[0][1]["dry_run"] is True
    as_json = neuro(*words, "--dry-run", "--json")
    assert as_json.code == 0
    assert "would_write" in as_json.json["plan"]


def test_preprocess_hands_over_what_was_given(neuro: Any, pretend: Any) -> None:
    calls = pretend("preprocess", lambda *_, **__: _prepared())
    neuro("preprocess", "nifti", "a.nii", "b.nii", "-o", "o", "--tr", 2, "--mask", "m.nii",
          "-s", "nonfinite=zero", "-s", "n_frames=8", "--n_subjects", "x", "--force")  # fmt: skip
    assert calls == []  # n_subjects is no flag
    neuro("preprocess", "nifti", "a.nii", "b.nii", "-o", "o", "--tr", 2, "--mask", "m.nii",
          "-s", "nonfinite=zero", "-s", "n_frames=8", "--seed", 3, "-j", 4, "--force")  # fmt: skip
    args, options = calls[0]
    assert args == ("nifti", Path("a.nii"), Path("b.nii"))
    assert options["options"] == {
        "nonfinite": "zero", "n_frames": 8, "tr_s": 2.0, "mask": "m.nii", "seed": 3,
    }  # fmt: skip
    assert (options["jobs"], options["force"], options["dry_run"]) == (4, True, False)
    assert callable(options["listener"])


@pytest.mark.parametrize(("words", "name"), [
    (["preprocess", "bids", "x", "-o", "o"], "preprocess"),
    (["convert-hdf5", "x", "-o", "o"], "convert_hdf5"),
])  # fmt: skip
def test_failed_items_are_listed_with_exit_code_3(
    neuro: Any, pretend: Any, words: list[str], name: str
) -> None:
    failures = [("sub-1", "cut off"), ("sub[/red]\n", "3D where a 4D series is needed")]
    pretend(name, lambda *_, **__: _prepared(failed=2, failures=failures, notes=["a note"]))
    answer = neuro(*words)
    assert answer.code == 3
    assert "sub-1: cut off\n" in answer.err
    assert "sub[/red]\\n: 3D where a 4D series is needed\n" in answer.err
    assert "note: a note" in answer.err
    as_json = neuro(*words, "--json")
    assert as_json.code == 3
    assert as_json.json["failures"][0] == ["sub-1", "cut off"]
    assert neuro(*words, "-q").code == 3


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


def test_split_hands_over_only_what_was_given(neuro: Any, pretend: Any) -> None:
    calls = pretend(*BEHIND["split"])
    neuro("split", "t.tsv", "-o", "s.json", "--train", 0.8, "--stratify", "age,sex",
          "--format", "swift", "--seed", 0, "-s", "bins=7", "--fail-on-imbalance")  # fmt: skip
    assert calls[0] == (
        (Path("t.tsv"), Path("s.json")),
        {
            "force": False, "dry_run": False, "train": 0.8, "stratify": "age,sex",
            "format": "swift", "seed": 0, "bins": 7, "fail_on_imbalance": True,
        },
    )  # fmt: skip


def test_profile_shows_times_and_memory_and_what_failed(neuro: Any, pretend: Any) -> None:
    failed = replace(MEASURED, left_out=[("other", "not enough memory")])
    calls = pretend("profile", lambda *_, **__: failed)
    answer = neuro("profile", "fmamba", "other", "--input-shape", "4,4,4,2", "--stage_wise")
    assert answer.code == 3
    assert "other: not enough memory" in answer.err
    assert "1.5 +- 0.1" not in answer.out  # no forward pass was measured alone
    assert answer.out.splitlines()[2].split() == ["fmamba", "10", "20", "-", "3", "+-", "0.5",
                                                  "-", "2"]  # fmt: skip
    assert calls[0][1]["input_shape"] == (4, 4, 4, 2)
    assert calls[0][1]["stage_wise"] is True


CARE = [
    (("--verify",), "verify_hdf5", ("x", None), {}),
    (("-o", "o", "--verify"), "verify_hdf5", ("o", "x"), {}),
    (("--check", "--expect", "9,9,9,0"), "check_hdf5", ("x",), {"expect": (9, 9, 9, 0)}),
    (("--quarantine", "q"), "check_hdf5", ("x",), {"quarantine": Path("q"), "delete": False}),
    (("--delete",), "check_hdf5", ("x",), {"delete": True, "quarantine": None}),
    (("--repack", "--layout", "packed"), "repack_hdf5", ("x",), {"layout": "packed"}),
]


@pytest.mark.parametrize(("words", "door", "given", "options"), CARE)
def test_convert_looks_after_files_that_are_there(
    neuro: Any, pretend: Any, words: Any, door: str, given: Any, options: Any
) -> None:
    from neurocli.core.data.verify import CheckResult

    result = CheckResult(Path("x"), 3, [("s1", "changed: s1.h5")], ["s1.h5"], ["a note"])
    calls = pretend(door, lambda *_, **__: result)
    answer = neuro("convert-hdf5", "x", *words, "--json")
    assert answer.code == 3
    assert "s1: changed: s1.h5" in answer.err
    assert answer.json["failures"] == [["s1", "changed: s1.h5"]]
    assert (answer.json["checked"], answer.json["sound"]) == (3, 2)
    assert tuple(None if each is None else str(each) for each in calls[0][0]) == given
    assert options.items() <= calls[0][1].items()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "no output folder is given"),
        (("--verify", "--check"), "--verify and --check are different jobs"),
        (("--check", "--expect", "a,b"), "'a,b' is no shape"),
        (("-o", "o", "--patch", "6,b"), "'6,b' is no size"),
    ],
)
def test_convert_refuses_what_does_not_go_together(neuro: Any, words: Any, text: str) -> None:
    answer = neuro("convert-hdf5", "x", *words)
    assert answer.code == 2
    assert text in answer.err


def test_listeners_reach_the_terminal(neuro: Any, pretend: Any) -> None:
    def fake(*_: Any, listener: Any, **__: Any) -> PrepareResult:
        listener(events.Note("a mask was computed", "warning"))
        listener(events.WorkStarted("preprocess", 1, "subjects"))
        listener(events.ItemDone("sub-1", "done"))
        return _prepared(notes=["a mask was computed"])

    pretend("preprocess", fake)
    answer = neuro("preprocess", "bids", "x", "-o", "o")
    assert answer.err.count("a mask was computed") == 1
    assert "preprocess: 100 % (1 of 1 subjects" in answer.err
    assert "a mask" not in answer.out
