"""`--procs N` on the command line: what it prints, what it judges, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from neurocli.cli.main import main

TINY = ("train", "gene_pair", "-p", "genes/tiny", "--device", "cpu")


def start(root: Path, *args: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command line."""
    return subprocess.Popen(
        [sys.executable, "-m", "neurocli", *args],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train with two processes that are stopped, then go on with two that one of is killed."""
    run = tmp_path_factory.mktemp("launch") / "run"
    more = ("--procs", "2", "-o", str(run), "--epochs", "20000")
    first = start(root, *TINY, *more, "--json")
    wait_for(run / "metrics.csv", first)
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=60)
    stopped = {"code": first.returncode, "json": json.loads(out), "err": err}
    (run / "ranks" / "rank-1.log").unlink()
    second = start(root, "train", "--resume", str(run), "--procs", "2")
    wait_for(run / "ranks" / "rank-1.log", second)
    started_again = children(second.pid)
    os.kill(started_again[1], signal.SIGKILL)
    began = time.monotonic()
    _, err = second.communicate(timeout=60)
    killed = {"code": second.returncode, "seconds": time.monotonic() - began, "err": err}
    return {"run": run, "stopped": stopped, "killed": killed, "children": started_again}


def test_a_signal_stops_all_and_rank_0_answers(trained: dict[str, Any]) -> None:
    stopped = trained["stopped"]
    assert stopped["code"] == 75, stopped["err"]
    assert stopped["json"]["schema"] == "neuro/error/1"
    assert stopped["json"]["error"]["hint"] == f"neuro train --resume {trained['run']}"
    assert "2 processes were launched and --parallel was not given: ddp is taken" in stopped["err"]
    assert "rank 1" not in stopped["err"]


def test_a_killed_rank_ends_the_job_in_seconds_and_is_named(trained: dict[str, Any]) -> None:
    killed = trained["killed"]
    assert killed["code"] == 1
    assert killed["seconds"] < 15  # the machine may be busy; it takes about one
    assert "process 1 of 2 was killed by SIGKILL" in killed["err"]
    assert "Traceback" not in killed["err"]
    for pid in trained["children"]:
        assert not Path(f"/proc/{pid}").exists()


def test_numbers_of_processes_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*TINY, "--procs", "0"]) == 2
    assert "0 is below 1" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*TINY, "--procs", "2"]) == 2
    assert "give torchrun or --procs, not both" in capsys.readouterr().err
