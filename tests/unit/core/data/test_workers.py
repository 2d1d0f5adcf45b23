"""Worker processes: the death of one costs at most its item, and none outlives its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runner_work import records, run, tree, write_items

from neurocli.core.data.workers import Task, perform, reason_text
from neurocli.core.errors import InputError, NeuroError

HERE = Path(__file__).parent
TEXTS = {"a": "hello world", "b": "good morning", "c": "good evening", "d": "good night"}


def test_a_worker_that_always_dies_costs_its_item(tmp_path: Path) -> None:
    items = write_items(tmp_path / "in", {**TEXTS, "b": "die"})
    result = run(items, tmp_path / "out", jobs=2)
    assert result.done == 3
    assert result.failures == [
        ("b", "worker was killed (out of memory?); use fewer --jobs or free memory")
    ]
    assert not list((tmp_path / "out").glob("*.part-*"))


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    items = write_items(tmp_path / "in", {**TEXTS, "c": f"die-once {tmp_path / 'mark'}"})
    result = run(items, tmp_path / "out", jobs=2)
    assert (result.done, result.failed) == (4, 0)


@pytest.mark.parametrize("word", ["refuse", "memory", "bug"])
def test_a_failed_item_frees_its_space_at_once(tmp_path: Path, word: str) -> None:
    (item,) = write_items(tmp_path / "in", {"a": word})
    task = Task(item, "runner_work:copy", tmp_path, {}, "1", None)
    with contextlib.suppress(ZeroDivisionError):
        assert perform(task).status == "failed"
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_pool_that_breaks_between_items_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    calls = []
    submit = ProcessPoolExecutor.submit

    def flaky(pool: ProcessPoolExecutor, *args: object) -> object:
        calls.append(args)
        if len(calls) == 2:  # the first call of all asks whether workers start
            raise BrokenProcessPool("an idle worker was killed")
        return submit(pool, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ProcessPoolExecutor, "submit", flaky)
    result = run(write_items(tmp_path / "in", TEXTS), tmp_path / "out", jobs=2)
    assert (result.done, result.failed) == (4, 0)
    assert len(calls) > 5


def test_a_bug_in_a_worker_reaches_the_caller(tmp_path: Path) -> None:
    items = write_items(tmp_path / "in", {**TEXTS, "c": "bug"})
    with pytest.raises(ZeroDivisionError):
        run(items, tmp_path / "out", jobs=2)
    assert not list((tmp_path / "out").glob("*.part-*"))
    assert not (tmp_path / "out" / ".lock").exists()


_SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{here!r}, {root!r}]
from runner_work import run, write_items
if __name__ == "__main__":
    texts = {{f"s{{i}}": "sleep 0.4" for i in range(6)}}
    base = Path({base!r})
    run(write_items(base / "in", texts), base / "out", jobs=2)
"""


def start(tmp_path: Path, root: Path) -> subprocess.Popen[bytes]:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.format(here=str(HERE), root=str(root), base=str(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL
    )
    manifest = tmp_path / "out" / "manifest.jsonl"
    deadline = time.monotonic() + 60
    while not (manifest.exists() and manifest.stat().st_size):
        assert time.monotonic() < deadline, "no item was finished"
        assert process.poll() is None, "the run ended early"
        time.sleep(0.02)
    return process


def processes_of(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def wait_until_gone(group: int) -> None:
    deadline = time.monotonic() + 5
    while processes_of(group):
        assert time.monotonic() < deadline, f"still there: {processes_of(group)}"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(tmp_path: Path, root: Path, how: signal.Signals) -> None:
    process = start(tmp_path, root)
    os.kill(process.pid, how)
    process.wait(timeout=10)
    wait_until_gone(process.pid)
    assert process.returncode != 0
    out = tmp_path / "out"
    if how == signal.SIGINT:
        assert not list(out.glob("*.part-*"))
        assert not (out / ".lock").exists()
    done = [s for s, record in records(out).items() if record["status"] == "done"]
    assert 1 <= len(done) < 6
    texts = {f"s{i}": "sleep 0.4" for i in range(6)}
    items = write_items(tmp_path / "in", texts)
    result = run(items, out, jobs=1)
    assert result.skipped >= len(done)
    assert result.done + result.skipped == 6
    run(items, tmp_path / "fresh", jobs=1)
    assert tree(out) == tree(tmp_path / "fresh")


def test_an_unguarded_script_is_told_what_to_do(tmp_path: Path, root: Path) -> None:
    script = tmp_path / "script.py"
    text = _SCRIPT.format(here=str(HERE), root=str(root), base=str(tmp_path))
    script.write_text(text.replace('if __name__ == "__main__":', "if True:"))
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert "worker processes cannot start" in ended.stderr


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NeuroError("is bad"), "is bad"),
        (NeuroError("is bad", where="train.lr"), "train.lr: is bad"),
        (InputError("/data/x y.nii", "is bad", "mend it"), "x y.nii: is bad; mend it"),
        (FileNotFoundError(2, "No such file", "/data/x.nii"), "x.nii: No such file"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "not enough memory; use fewer --jobs or a machine with more"),
        (NeuroError("two\nlines\x1b[31m"), "two lines [31m"),
    ],
)
def test_reasons_are_one_line(error: NeuroError | OSError | MemoryError, text: str) -> None:
    assert reason_text(error) == text
