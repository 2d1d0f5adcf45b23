"""Works timed in processes of their own, so that neither side profits from the other's memory.

What a process has freed it may use again, so two libraries in one process change each other's
times. Here each side stays in one process, and the works are still done in turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from measure import Work


def serve(works: Mapping[str, Work]) -> None:
    """Do the work that each line of the standard input names, and print its CPU seconds."""
    for line in sys.stdin:
        began = time.thread_time()
        works[line.strip()]()
        print(time.thread_time() - began, flush=True)


def seconds_elsewhere(
    script: str, sides: Mapping[str, Sequence[str]], runs: int
) -> dict[str, float]:
    """Return the CPU seconds of works, done in turns after one untimed turn.

    Args:
        script: Calls `serve` when it is run with `--worker SIDE`.
        sides: The names of the works that each process does.
        runs: Turns.
    """
    times: dict[str, list[float]] = {name: [] for names in sides.values() for name in names}
    with ExitStack() as held:
        processes = {side: held.enter_context(_started(script, side)) for side in sides}
        for turn in range(runs + 1):
            for side, names in sides.items():
                for name in names:
                    seconds = _asked(processes[side], name)
                    if turn:
                        times[name].append(seconds)
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.close()
    return {
        name: statistics.median(sorted(taken)[: (len(taken) + 1) // 2])
        for name, taken in times.items()
    }


def _started(script: str, side: str) -> subprocess.Popen[str]:
    command = [sys.executable, script, "--worker", side]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def _asked(process: subprocess.Popen[str], name: str) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{name}\n")
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"the process of '{name}' ended with {process.wait()}")
    return float(answer)
