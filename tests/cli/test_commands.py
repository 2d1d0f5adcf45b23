"""Every command: the contract of its output, and what it hands to its public function.

The public functions are replaced here, so every expected value is written in the test itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_results import BEHIND, MEASURED, prepared

from neurocli.core import events
from neurocli.core.data.items import PrepareResult

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
    calls = pretend("preprocess", lambda *_, **__: prepared())
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
    pretend(name, lambda *_, **__: prepared(failed=2, failures=failures, notes=["a note"]))
    answer = neuro(*words)
    assert answer.code == 3
    assert "sub-1: cut off\n" in answer.err
    assert "sub[/red]\\n: 3D where a 4D series is needed\n" in answer.err
    assert "note: a note" in answer.err
    as_json = neuro(*words, "--json")
    assert as_json.code == 3
    assert as_json.json["failures"][0] == ["sub-1", "cut off"]
    assert neuro(*words, "-q").code == 3


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


def test_listeners_reach_the_terminal(neuro: Any, pretend: Any) -> None:
    def fake(*_: Any, listener: Any, **__: Any) -> PrepareResult:
        listener(events.Note("a mask was computed", "warning"))
        listener(events.WorkStarted("preprocess", 1, "subjects"))
        listener(events.ItemDone("sub-1", "done"))
        return prepared(notes=["a mask was computed"])

    pretend("preprocess", fake)
    answer = neuro("preprocess", "bids", "x", "-o", "o")
    assert answer.err.count("a mask was computed") == 1
    assert "preprocess: 100 % (1 of 1 subjects" in answer.err
    assert "a mask" not in answer.out
