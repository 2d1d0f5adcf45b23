"""Curves from logs in every state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neurocli.core.report.curves import Curves, read_curves
from neurocli.core.report.records import RecordReader


def _log(folder: Path, *lines: Any) -> RecordReader:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "log.jsonl").write_text(text)
    return RecordReader(folder)


def test_steps_are_sorted_and_other_events_are_passed_over(tmp_path: Path) -> None:
    reader = _log(
        tmp_path,
        {"event": "start", "total_steps": 3},
        {"event": "step", "step": 2, "loss": 0.5, "lr": 1e-3},
        {"event": "step", "step": 1, "loss": 0.75},
        {"event": "note", "step": 2, "message": "x"},
        {"event": "finish", "step": 2, "reason": "completed"},
    )
    # Steps without an epoch are of epoch 0; rates are no scalar of the task.
    assert read_curves(reader) == Curves(
        loss=((1.0, 0.75), (2.0, 0.5)), epochs={0: {"train": {"loss": 0.625}}}
    )
    assert reader.problems == []


def test_values_that_are_no_numbers_leave_gaps(tmp_path: Path) -> None:
    reader = _log(
        tmp_path,
        {"event": "step", "step": 1, "loss": None},
        {"event": "step", "step": "x", "loss": 1.0},
        {"event": "step", "loss": 1.0},
        {"event": "step", "step": 4, "loss": "0.25"},
        {"event": "eval", "step": 4, "part": "val", "metrics": {"a": None, "b": 2, "c": "x"}},
        {"event": "eval", "step": 5, "part": "val", "metrics": [1]},
        {"event": "eval", "step": 6, "part": None, "metrics": {"b": 3}},
    )
    curves = read_curves(reader)
    assert curves.loss == ((4.0, 0.25),)
    assert curves.metrics == {("val", "b"): ((4.0, 2.0),), ("None", "b"): ((6.0, 3.0),)}


def test_an_evaluation_repeated_after_a_resume_counts_once(tmp_path: Path) -> None:
    lines = [
        {"event": "eval", "step": 4, "part": "val", "metrics": {"loss": value}}
        for value in (9.0, 1.0)
    ]
    assert read_curves(_log(tmp_path, *lines)).metrics == {("val", "loss"): ((4.0, 1.0),)}


def test_nothing_there_gives_empty_curves(tmp_path: Path) -> None:
    reader = RecordReader(tmp_path)
    assert read_curves(reader) == Curves()
    assert reader.missing == ["log.jsonl", "metrics.csv"]
