"""Start the ranks of one machine, pass signals on to them, and end all when one ends badly.

`torchrun` does the same over machines. Nothing heavy is imported here: the process that waits
costs a few megabytes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from neurocli.core.errors import ExitCode, UsageError

_POLL_S, _GRACE_S, _STOP_S = 0.05, 3.0, 30.0
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
_STOPS = (ExitCode.STOPPED, ExitCode.INTERRUPTED)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ended:
    """Tell how the ranks ended.

    Args:
        code: Exit code for the whole.
        killed: Rank -> name of the signal that ended it, ranks ended by the launcher excepted.
    """

    code: int
    killed: dict[int, str]


def launch(args: Sequence[str], n_ranks: int) -> Ended:
    """Run `neuro ARGS` in several processes of this machine that meet each other.

    Rank 0 has the standard streams; the others have standard error only.

    Args:
        args: The command line, without the number of processes.
        n_ranks: How many.

    Returns:
        How they ended: rank 0's code, unless another one ended first and worse.

    Raises:
        UsageError: `n_ranks` is below 1, or a launcher started this process already.
    """
    if n_ranks < 1:
        raise UsageError(f"{n_ranks} is below 1", where="--procs")
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise UsageError(
            f"{os.environ['WORLD_SIZE']} processes were launched already",
            where="--procs",
            hint="give torchrun or --procs, not both",
        )
    ranks = [
        _start(args, rank, n_ranks, port) for port in [_free_port()] for rank in range(n_ranks)
    ]
    with _passing_on(ranks):
        try:
            ended_by_us = _wait(ranks)
        finally:
            for process in ranks:
                if process.poll() is None:
                    process.kill()
                    process.wait()
    codes = [process.returncode for process in ranks]
    killed = {
        rank: signal.Signals(-code).name
        for rank, code in enumerate(codes)
        if code < 0 and rank not in ended_by_us
    }
    worst = next((code for code in codes if code > 0), int(ExitCode.FAILED))
    return Ended(0 if not any(codes) else ExitCode.FAILED if killed else worst, killed)


def _start(args: Sequence[str], rank: int, n_ranks: int, port: int) -> subprocess.Popen[bytes]:
    threads = max(1, (os.cpu_count() or 1) // n_ranks)
    place = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(n_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "neurocli", *args],
        env={"OMP_NUM_THREADS": str(threads), **os.environ, **place},
        stdin=None if rank == 0 else subprocess.DEVNULL,
        stdout=None if rank == 0 else subprocess.DEVNULL,
        # Ctrl-C must reach a rank once, through this process, and not from the terminal too.
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no thread runs in the waiting process
    )


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> set[int]:
    """Wait for all; once one ended badly the others have a moment. Return whom this ended."""
    ended: set[int] = set()
    deadline: float | None = None
    while any(process.poll() is None for process in ranks):
        codes = [process.returncode for process in ranks]
        bad = [code for code in codes if code]
        if bad and deadline is None:
            deadline = time.monotonic() + (_STOP_S if bad[0] in _STOPS else _GRACE_S)
        if deadline is not None and time.monotonic() > deadline:
            for rank, process in enumerate(ranks):
                if process.poll() is None:
                    process.kill()
                    ended.add(rank)
        time.sleep(_POLL_S)
    return ended


@contextmanager
def _passing_on(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, _: Any) -> None:
        for process in ranks:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    numbers = [getattr(signal, name) for name in _PASSED_ON if hasattr(signal, name)]
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
