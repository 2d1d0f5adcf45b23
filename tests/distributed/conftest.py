"""Ranks for the tests of this folder, in forks of the test process."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest
import torch

PROGRAM = Path(__file__).with_name("ranks.py")
Jobs = Sequence[dict[str, Any]]
ForkRanks = Callable[[int, Callable[[int, int], None]], None]
_LONGEST_S = 400.0
_LONGEST_RANKS_S = 240.0


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
def fork_ranks() -> ForkRanks:
    """Return a function that has forks of this process do a work, each as a rank of one group."""
    return _fork_ranks


def _fork_ranks(n_ranks: int, work: Callable[[int, int], None]) -> None:
    """Do a work of rank and port in forks, which have imported everything already."""
    port = free_port()
    with ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(n_ranks)]
        left = {
            _fork(partial(work, rank, port), rank_variables(rank, n_ranks, port), errors[rank])
            for rank in range(n_ranks)
        }
        codes, deadline = [], time.monotonic() + _LONGEST_RANKS_S
        try:
            while left and time.monotonic() < deadline and not any(codes):
                time.sleep(0.01)
                for child in sorted(left):
                    ended, status = os.waitpid(child, os.WNOHANG)
                    if ended:
                        left.remove(child)
                        codes.append(status)
        finally:
            for child in left:  # a rank that failed leaves the others waiting for it
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        said = []
        for file in errors:
            file.seek(0)
            said.append(file.read())
        assert codes == [0] * n_ranks, "\n".join(said)


def _fork(work: Callable[[], None], variables: Mapping[str, str], errors: IO[str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(errors.fileno(), 2)
        sys.stderr = errors
        os.environ.update(variables)
        torch.set_num_threads(1)
        work()
        code = 0
    except BaseException:
        traceback.print_exc(file=errors)
    finally:
        errors.flush()
        os._exit(code)


@pytest.fixture(scope="session")
def run_ranks(
    tmp_path_factory: pytest.TempPathFactory, fork_ranks: ForkRanks, ranks_program: ModuleType
) -> Callable[[Jobs], list[list[dict[str, Any]]]]:
    """Return a function that has two ranks do jobs, and returns how each ended on both."""

    def run(jobs: Jobs) -> list[list[dict[str, Any]]]:
        for job in jobs:
            Path(job["run"]).mkdir(parents=True, exist_ok=True)
        path = tmp_path_factory.mktemp("jobs") / "jobs.json"
        path.write_text(json.dumps(list(jobs)))
        fork_ranks(2, lambda rank, port: ranks_program.main(str(path)))
        return [
            json.loads((Path(job["run"]) / f"{job.get('name', 'result')}.json").read_text())
            for job in jobs
        ]

    return run
