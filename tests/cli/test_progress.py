"""What long work shows: lines with a fake clock, bars on a fake terminal."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocli.cli.bars import Bars, display
from neurocli.cli.output import Flags, Output, use_sink
from neurocli.cli.progress import Board, Lines, Work, clock_text, progress
from neurocli.core import events


class Clock:
    """Tell a time that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _items(board: Board, count: int, clock: Clock, seconds: float, status: str = "done") -> None:
    for index in range(count):
        clock.now += seconds
        board(events.ItemDone(f"sub-{index}", status))  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_line_for_every_tenth(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    board = Lines(Output(), clock)
    board(events.WorkStarted("preprocess", 200, "subjects"))
    _items(board, 200, clock, 0.5)
    board(events.WorkFinished("preprocess"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "preprocess: 0 of 200 subjects"
    # 10 s for 20 of 200 subjects leave 90 s.
    assert lines[1] == "preprocess: 10 % (20 of 200 subjects, 2/s, 1:30 left)"
    assert len(lines) == 11
    assert lines[-1] == "preprocess: 100 % (200 of 200 subjects, 2/s)"


def test_slow_work_speaks_every_half_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    board = Lines(Output(), clock)
    board(events.WorkStarted("train", 1000, "steps"))
    _items(board, 9, clock, 10.0)
    assert len(capsys.readouterr().err.splitlines()) == 1 + 3


def test_training_shows_loss_and_counts_from_the_resumed_step(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    board = Lines(Output(), clock)
    board(events.RunStarted("runs/a", "fmamba", 1234567, 100, start_step=50))
    for step in range(51, 61):
        clock.now += 1.0
        board(events.StepDone(step, 1, {"loss": 1.0 / step, "lr": 1e-3, "grad_norm": 2.0}))
    err = capsys.readouterr().err
    assert "fmamba: 1,234,567 parameters, 100 steps, run folder runs/a" in err
    assert "train fmamba: 60 % (60 of 100 steps, 1/s, 0:40 left) loss 0.01667" in err
    assert "lr" not in err


def test_work_inside_other_work_is_silent_unless_slow(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    board = Lines(Output(), clock)
    board(events.RunStarted("r", "m", 1, 10))
    capsys.readouterr()
    board(events.WorkStarted("evaluate", 4, "batches"))
    _items(board, 4, clock, 1.0)
    assert capsys.readouterr().err == ""
    board(events.WorkFinished("evaluate"))
    board(events.WorkStarted("evaluate", 4, "batches"))
    _items(board, 1, clock, 31.0)
    assert capsys.readouterr().err.startswith("evaluate: 25 %")
    board(events.WorkFinished("evaluate"))
    board(events.StepDone(1, 0, {"loss": 3.0}))
    assert capsys.readouterr().err.startswith("train m: 10 %")


def test_failures_are_counted_and_named_with_v(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for verbosity, named in ((0, False), (1, True)):
        board = Lines(Output(Flags(verbosity=verbosity)), clock)
        board(events.WorkStarted("preprocess", 2, "subjects"))
        board(events.ItemDone("sub[/red]\x1b", "failed", "cut off"))
        err = capsys.readouterr().err
        assert "1 failed" in err
        assert ("sub[/red]\\x1b: failed cut off" in err) is named
        assert "\x1b" not in err


def test_skipped_items_do_not_count_for_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    board = Lines(Output(), clock)
    board(events.WorkStarted("preprocess", 10, "subjects"))
    _items(board, 5, clock, 0.0, "skipped")
    _items(board, 1, clock, 2.0)
    assert "60 % (6 of 10 subjects, 0.5/s, 0:08 left)" in capsys.readouterr().err


def test_quiet_keeps_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    use_sink(Flags("quiet", quiet=True))
    with progress() as listener:
        listener(events.WorkStarted("preprocess", 1, "subjects"))
        listener(events.Note("fine"))
        listener(events.Note("careful", "warning"))
        listener(events.ItemDone("a", "done"))
        listener(events.WorkFinished("preprocess"))
    assert capsys.readouterr().err == "warning: careful\n"


def test_details_of_a_run_with_v(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    board = Lines(Output(Flags(verbosity=1)), clock)
    board(events.RunStarted("r", "m", 1, 10))
    board(events.EvalDone(5, 1, "val", {"loss": 0.25}))
    board(events.CheckpointSaved("r/best.pth", 5, is_best=True))
    board(events.RunFinished(5, 1, "early_stop", 3.0))
    err = capsys.readouterr().err
    assert "epoch 1: val loss 0.25" in err
    assert "saved r/best.pth (best so far)" in err
    assert "stopped early in epoch 1" in err
    assert board.works == []


def test_events_without_work_do_no_harm(clock: Clock) -> None:
    board = Lines(Output(), clock)
    for event in (events.ItemDone("a", "done"), events.WorkFinished("x"), events.Event()):
        board(event)
    board(events.StepDone(1, 0, {}))
    assert board.works == []


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (36000, "10:00:00")])
def test_durations(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_rate_is_unknown_before_the_first_unit() -> None:
    work = Work("w", 10, "units", done=4, first=4, began=1.0)
    assert work.rate(5.0) is None
    assert work.seconds_left(5.0) is None
    assert work.line(5.0) == "w: 40 % (4 of 10 units)"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_show_rate_figures_and_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    drawn = display(Output())
    with drawn:
        board = Bars(Output(), drawn)
        board(events.WorkStarted("prep [/red]", 10, "subjects"))
        board(events.ItemDone("a", "failed"))
        board(events.WorkStarted("inner", 3, "batches"))
        board(events.WorkFinished("inner"))
        drawn.refresh()
        board(events.WorkFinished("prep"))
    text = stream.getvalue()
    assert "prep [/red]" in text
    assert "1/10" in text
    assert "1 failed" in text
    assert drawn.tasks == []


def test_judgements_stand_in_a_table_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    drawn = display(Output())
    with drawn:
        board = Bars(Output(), drawn)
        board(events.WorkStarted("train", 10, "steps"))
        for epoch in range(1, 9):
            metrics = {"dice_mean": epoch / 10, "[red]": 1.0}
            board(events.EvalDone(step=epoch, epoch=epoch, part="val", metrics=metrics))
        start = len(stream.getvalue())
        drawn.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()[start:]).replace("\r", "\n")
    lines = [line.split() for line in text.splitlines()]
    assert ["epoch", "part", "dice_mean", "[red]"] in lines
    # The last six of eight, the newest at the bottom.
    shown = [line[2] for line in lines if line[1:2] == ["val"]]
    assert shown[:6] == [f"0.{n}" for n in range(3, 9)]


@pytest.mark.parametrize("choice", ["lines", "bars"])
def test_the_terminal_decides(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal() if choice == "bars" else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    use_sink(Flags())
    with progress() as listener:
        assert isinstance(listener, Bars if choice == "bars" else Lines)


def test_a_real_terminal_gets_bars_and_a_pipe_does_not(root: Path, tmp_path: Path) -> None:
    import pty

    words = ["preprocess", "dummy", "-s", "n_subjects=4", "-s", "n_frames=4", "-o"]
    line = [sys.executable, "-m", "neurocli", *words]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    ours, theirs = pty.openpty()
    subprocess.run([*line, str(tmp_path / "a")], cwd=root, env=environment, stderr=theirs,
                   stdout=subprocess.DEVNULL, check=True)  # fmt: skip
    os.close(theirs)
    assert "\x1b[" in _all(ours)
    piped = subprocess.run([*line, str(tmp_path / "b")], cwd=root, env=environment,
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert "\x1b[" not in piped.stderr
    assert "100 % (4 of 4" in piped.stderr


def _all(handle: int) -> str:
    read: Callable[[], bytes] = lambda: os.read(handle, 65536)  # noqa: E731
    found = b""
    try:
        while chunk := read():
            found += chunk
    except OSError:  # the other end is closed
        pass
    os.close(handle)
    return found.decode()
