"""Files that listen to a run: a log, a table of metrics, curves for TensorBoard.

A resumed run continues its files as if it had never stopped: lines beyond the checkpoint it goes
on from are cut away when it starts, so that every step and judgement stands there once. Lines
hold no clock (`seconds` of the last one excepted), no host and no path.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from neurocli.core.errors import NeuroError
from neurocli.core.events import (
    EvalDone,
    Event,
    Listener,
    Note,
    RunFinished,
    RunStarted,
    StepDone,
    ignore,
)
from neurocli.core.paths import durable_write

_CSV_HEAD = "step,epoch,part,metric,value\n"


def open_sinks(run_dir: Path, *, every: int = 1, listener: Listener = ignore) -> list[Listener]:
    """Return the listeners that write a run's files.

    Args:
        run_dir: The run folder.
        every: Write every so many steps; judgements are always written.
        listener: Told when there will be no TensorBoard files.

    Returns:
        `log.jsonl` and `metrics.csv` always, `tensorboard/` when it is installed.
    """
    sinks: list[Listener] = [
        JsonlSink(run_dir / "log.jsonl", every=every),
        CsvSink(run_dir / "metrics.csv"),
    ]
    try:
        sinks.append(TensorBoardSink(run_dir / "tensorboard", every=every))
    except ImportError:
        listener(Note("no TensorBoard files: pip install 'neurocli[tensorboard]' gives them"))
    return sinks


class JsonlSink:
    """Write one JSON object per line: `start`, `step`, `eval`, `note`, `finish`.

    Args:
        path: The log.
        every: Write every so many steps.
    """

    def __init__(self, path: Path, *, every: int = 1) -> None:
        self._path, self._every = path, every
        self._step = 0
        self._notes: set[str] = set()
        self._has_start = False

    def __call__(self, event: Event) -> None:
        """Write what belongs into the log, and continue it when a run starts."""
        if isinstance(event, RunStarted):
            self._continue(event)
            return
        line = self._line(event)
        if line is not None:
            _append(self._path, _as_json(line))

    def _line(self, event: Event) -> dict[str, Any] | None:
        if isinstance(event, StepDone):
            self._step = event.step
            if event.step % self._every:
                return None
            return {"event": "step", "step": event.step, "epoch": event.epoch, **event.logs}
        if isinstance(event, EvalDone):
            head = {"event": "eval", "step": event.step, "epoch": event.epoch, "part": event.part}
            return {**head, "metrics": dict(event.metrics)}
        if isinstance(event, Note) and event.message not in self._notes:
            self._notes.add(event.message)
            head = {"event": "note", "step": self._step}
            return {**head, "level": event.level, "message": event.message}
        if isinstance(event, RunFinished):
            head = {"event": "finish", "step": event.step, "epoch": event.epoch}
            return {**head, "reason": event.reason, "seconds": round(event.seconds, 3)}
        return None

    def _continue(self, event: RunStarted) -> None:
        self._step, kept = event.start_step, []
        for text in _whole_lines(self._path) if event.start_step else []:
            line = _parsed(text)
            if self._is_past(line, event):
                kept.append(text)
                self._has_start |= line["event"] == "start"
                self._notes |= {line["message"]} if line["event"] == "note" else set()
        durable_write(self._path, "".join(kept))
        if not self._has_start:
            head = {"event": "start", "model": event.model, "n_parameters": event.n_parameters}
            context = {k: v for k, v in event.context.items() if k != "start_epoch"}
            _append(self._path, _as_json({**head, "total_steps": event.total_steps, **context}))

    @staticmethod
    def _is_past(line: Mapping[str, Any], event: RunStarted) -> bool:
        kind = line.get("event")
        if kind == "eval":
            return int(line["epoch"]) <= _start_epoch(event)
        return kind == "start" or (kind in ("step", "note") and line["step"] <= event.start_step)


class CsvSink:
    """Write metrics in long form, `step,epoch,part,metric,value`, so that new ones need no column.

    Args:
        path: The table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        """Write a judgement, and continue the table when a run starts."""
        if isinstance(event, EvalDone):
            head = (event.step, event.epoch, event.part)
            rows = [(*head, name, repr(float(value))) for name, value in event.metrics.items()]
            _append(self._path, _as_csv(rows))
        elif isinstance(event, RunStarted):
            last = _start_epoch(event)
            old = list(csv.reader(_whole_lines(self._path)))[1:]
            kept = [row for row in old if len(row) == 5 and _number(row[1], last + 1) <= last]
            durable_write(self._path, _CSV_HEAD + _as_csv(kept))


class RankLog:
    """Write what a rank above 0 does as plain lines: where it starts, what it notes, how it ends.

    Losses and metrics are the same on every rank and stand in rank 0's log.

    Args:
        path: The log; each start adds to it.
    """

    def __init__(self, path: Path) -> None:
        with _write_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._step = path, 0

    def __call__(self, event: Event) -> None:
        """Write what belongs into the log."""
        if isinstance(event, RunStarted):
            _append(self._path, f"step {event.start_step}: started {event.model}\n")
        elif isinstance(event, StepDone):
            self._step = event.step
        elif isinstance(event, Note):
            _append(self._path, f"step {self._step}: {event.level}: {event.message}\n")
        elif isinstance(event, RunFinished):
            _append(self._path, f"step {event.step}: {event.reason}\n")


class TensorBoardSink:
    """Write scalars for TensorBoard, one file per start, without the host in its name.

    Args:
        folder: The log folder.
        every: Write every so many steps.

    Raises:
        ImportError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, every: int = 1) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import scalar

        self._folder, self._every = folder, every
        self._proto, self._writer_class = event_pb2, RecordWriter
        self._scalar: Callable[..., Any] = scalar
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        """Write the scalars of a step or a judgement."""
        with _write_named(self._folder):
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._open(event.start_step)
        elif isinstance(event, StepDone) and event.step % self._every == 0:
            self._add("train", event.logs, event.step)
        elif isinstance(event, EvalDone):
            self._add(f"{event.part}_epoch", event.metrics, event.step)
            self._writer.flush()
        elif isinstance(event, RunFinished):
            self._writer.close()

    def _open(self, step: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # The name sorts by step; the viewer reads files in that order.
        handle = (self._folder / f"events.out.tfevents.{step:012d}").open("wb")
        self._writer = self._writer_class(handle)
        self._write(0, file_version="brain.Event:2")
        if step:
            # Tells the viewer to forget what an abandoned future wrote from here on.
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._write(step + 1, session_log=start)

    def _add(self, group: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._write(step, summary=self._scalar(f"{group}/{name}", float(value)))

    def _write(self, step: int, **content: Any) -> None:
        event = self._proto.Event(wall_time=time.time(), step=step, **content)
        self._writer.write(event.SerializeToString())


def _start_epoch(event: RunStarted) -> int:
    return _number(str(event.context.get("start_epoch", 0)), 0)


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isdigit() else otherwise


def _whole_lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    # What follows the last newline is half a line of a killed process.
    return [f"{line}\n" for line in text.split("\n")[:-1]]


def _parsed(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}


def _as_json(line: Mapping[str, Any]) -> str:
    return json.dumps(_finite(line), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _as_csv(rows: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _append(path: Path, text: str) -> None:
    # Unbuffered append: one write per call, so lines of a killed run are whole or absent.
    with _write_named(path), path.open("ab", buffering=0) as handle:
        handle.write(text.encode("utf-8", "surrogateescape"))


@contextlib.contextmanager
def _write_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NeuroError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            hint="free space; the run can be resumed with --resume",
        ) from error
