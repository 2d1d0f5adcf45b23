"""Two ranks for the tests of this folder."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("ranks.py")
Jobs = Sequence[dict[str, Any]]
_LONGEST_S = 400.0


def once(base: Path, name: str, make: Callable[[], Any]) -> Any:
    """Return what `make` returns, made by one of the workers of a test run and read by the others.

    Args:
        base: Base of this worker's temporary folders; its parent is common to all.
        name: What is made.
        make: Called by the first worker that asks; returns what JSON can hold.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return make()
    folder = base.parent / f"{name}-{run}"
    kept = folder / "kept.json"
    try:
        folder.mkdir()
    except FileExistsError:
        began = time.monotonic()
        while not kept.exists():
            assert time.monotonic() - began < _LONGEST_S, f"another worker never made {name}"
            time.sleep(0.2)
        return json.loads(kept.read_text())
    made = make()
    draft = folder / "draft"
    draft.write_text(json.dumps(made))
    draft.replace(kept)
    return made


def rank_variables(rank: int, n_ranks: int, port: int) -> dict[str, str]:
    """Return what a launcher tells a rank."""
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(n_ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that has one worker make what all of them look at."""
    return partial(once, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def ranks_program() -> ModuleType:
    """Return the program of the ranks as a module."""
    sys.path.insert(0, str(PROGRAM.parent))  # as in a process that runs it
    spec = importlib.util.spec_from_file_location("ranks_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run_ranks(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Jobs], list[dict[str, Any]]]:
    """Return a function that has two ranks do jobs, and returns how each ended on rank 0."""

    def run(jobs: Jobs, *, n_ranks: int = 2, **variables: str) -> list[list[dict[str, Any]]]:
        for job in jobs:
            Path(job["run"]).mkdir(parents=True, exist_ok=True)
        path = tmp_path_factory.mktemp("jobs") / "jobs.json"
        path.write_text(json.dumps(list(jobs)))
        port = free_port()
        base = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **variables}
        processes = [
            subprocess.Popen(
                [sys.executable, str(PROGRAM), str(path)],
                env={**base, **rank_variables(rank, n_ranks, port)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(n_ranks)
        ]
        ends = [process.communicate(timeout=240)[1] for process in processes]
        assert [process.returncode for process in processes] == [0] * n_ranks, "\n".join(ends)
        return [
            json.loads((Path(job["run"]) / f"{job.get('name', 'result')}.json").read_text())
            for job in jobs
        ]

    return run
