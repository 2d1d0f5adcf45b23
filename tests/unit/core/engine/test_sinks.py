"""Logs and tables, written once per step however often a run was cut."""

from __future__ import annotations

import builtins
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from neurocli.core.engine.sinks import CsvSink, JsonlSink, TensorBoardSink, open_sinks
from neurocli.core.errors import NeuroError
from neurocli.core.events import (
    CheckpointSaved,
    EvalDone,
    Event,
    Listener,
    Note,
    RunFinished,
    RunStarted,
    StepDone,
)


def _started(step: int = 0, epoch: int = 0) -> RunStarted:
    context = {"start_epoch": epoch, "device": "cpu"}
    return RunStarted("/somewhere/run", "toy", 81, 6, start_step=step, context=context)


def _epoch(epoch: int, *, until: int = 99, judged: bool = True) -> list[Event]:
    """Return the events of an epoch of two steps, cut after step `until`."""
    steps = [2 * epoch - 1, 2 * epoch]
    events: list[Event] = [StepDone(s, epoch, {"loss": 1.0 / s}) for s in steps if s <= until]
    if until >= steps[-1]:
        events.append(EvalDone(steps[-1], epoch, "train", {"loss": 0.5}))
        if judged:
            events.append(EvalDone(steps[-1], epoch, "val", {"mse": 0.25, "r2": float("nan")}))
    return events


def _tell(sink: Listener, *events: Event) -> None:
    for event in events:
        sink(event)


def _whole(sink: Listener) -> None:
    _tell(sink, _started(), *_epoch(1), *_epoch(2), *_epoch(3))
    sink(RunFinished(6, 3, "completed", 1.23456))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_log_holds_every_event_once_without_paths(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    _whole(JsonlSink(path))
    assert [line["event"] for line in _lines(path)] == [
        "start", *(["step", "step", "eval", "eval"] * 3), "finish",
    ]  # fmt: skip
    assert _lines(path)[0] == {
        "event": "start", "model": "toy", "n_parameters": 81, "total_steps": 6, "device": "cpu",
    }  # fmt: skip
    assert _lines(path)[4]["metrics"] == {"mse": 0.25, "r2": None}
    assert _lines(path)[-1]["seconds"] == 1.235
    assert "somewhere" not in path.read_text()


# Where a run was cut: (events before, resumed step, resumed epoch, events after).
CUTS: dict[str, tuple[list[Event], int, int, list[Event]]] = {
    "in an epoch": ([*_epoch(1), *_epoch(2, until=3)], 3, 1, [*_epoch(2)[1:], *_epoch(3)]),
    "beyond the checkpoint": ([*_epoch(1), *_epoch(2)], 2, 1, [*_epoch(2), *_epoch(3)]),
    "while judging": (
        [*_epoch(1), *_epoch(2, judged=False)], 4, 1, [*_epoch(2)[2:], *_epoch(3)],
    ),
    "after judging, before saving": (
        [*_epoch(1), *_epoch(2)], 4, 1, [*_epoch(2)[2:], *_epoch(3)],
    ),
    "between epochs": ([*_epoch(1), *_epoch(2)], 4, 2, _epoch(3)),
    "stopped by a signal": (
        [*_epoch(1), StepDone(3, 2, {"loss": 1 / 3}), RunFinished(3, 1, "stopped", 9.0)],
        3, 1, [*_epoch(2)[1:], *_epoch(3)],
    ),
    "before anything": ([*_epoch(1, until=1)], 0, 0, [*_epoch(1), *_epoch(2), *_epoch(3)]),
}  # fmt: skip


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", [JsonlSink, CsvSink])
def test_resumed_files_equal_an_uninterrupted_run(tmp_path: Path, kind: Any, cut: str) -> None:
    before, step, epoch, after = CUTS[cut]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    _whole(kind(whole))
    _tell(kind(resumed), _started(), *before)
    with resumed.open("ab") as handle:
        handle.write(b'{"event": "st')  # half a line of the killed process
    _tell(kind(resumed), _started(step, epoch), *after, RunFinished(6, 3, "completed", 1.23456))
    assert resumed.read_bytes() == whole.read_bytes()


def test_foreign_lines_in_a_log_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    _tell(JsonlSink(path), _started(), *_epoch(1))
    path.write_text(path.read_text() + "[1]\nnot json\n{}\n")
    _tell(JsonlSink(path), _started(2, 1))
    assert [line["event"] for line in _lines(path)] == ["start", "step", "step", "eval", "eval"]


def test_notes_stand_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    note = Note("the built-in cohort\u2028is used", "warning")
    _tell(JsonlSink(path), _started(), note, note, *_epoch(1))
    _tell(JsonlSink(path), _started(2, 1), note)
    notes = [line for line in _lines(path) if line["event"] == "note"]
    assert notes == [{"event": "note", "step": 0, "level": "warning", "message": note.message}]


def test_every_thins_steps_but_not_judgements(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    _whole(JsonlSink(path, every=4))
    kinds = [line["event"] for line in _lines(path)]
    assert kinds.count("step") == 1
    assert kinds.count("eval") == 6


def test_table_is_long_form_and_exact(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    sink = CsvSink(path)
    _tell(sink, _started(), EvalDone(2, 1, "val", {"mse": 0.1 + 0.2, "r2": float("nan")}))
    _tell(sink, CheckpointSaved("x", 2, True))
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["metric"] for row in rows] == ["mse", "r2"]
    assert float(rows[0]["value"]) == 0.1 + 0.2
    assert rows[1]["value"] == "nan"
    assert rows[0] | {"value": ""} == {
        "step": "2", "epoch": "1", "part": "val", "metric": "mse", "value": "",
    }  # fmt: skip


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "gone" / "log.jsonl")
    with pytest.raises(NeuroError, match=r"log\.jsonl: cannot write"):
        sink(StepDone(1, 1, {"loss": 1.0}))


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in tags}


def test_tensorboard_reads_the_curves_and_forgets_an_abandoned_future(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    _tell(TensorBoardSink(tmp_path), _started(), *_epoch(1), *_epoch(2, until=3))
    _tell(TensorBoardSink(tmp_path), _started(2, 1), *_epoch(2), *_epoch(3))
    found = _scalars(tmp_path)
    assert [step for step, _ in found["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert found["val_epoch/mse"] == [(2, 0.25), (4, 0.25), (6, 0.25)]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["events.out.tfevents.000000000000", "events.out.tfevents.000000000002"]


def test_tensorboard_is_named_when_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    told: list[Event] = []
    sinks = open_sinks(tmp_path, listener=told.append)
    assert [type(sink) for sink in sinks] == [JsonlSink, CsvSink]
    assert len(told) == 1
    assert "neurocli[tensorboard]" in told[0].message  # type: ignore[attr-defined]
