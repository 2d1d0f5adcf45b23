"""What the benchmarks share: CPU time in turns, peak memory of a fresh process, one object out.

A ratio is the peer's time over ours (above 1: ours is faster), or our memory over the peer's
(below 1: ours is smaller); keys of memory say so. Times are CPU times of one thread, A B A B in
one run, medians of the cleaner half, because other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Work = Callable[[], object]


def arguments(doc: str | None, runs: int, **more: str) -> argparse.Namespace:
    """Read the command line that all benchmarks share.

    Args:
        doc: The benchmark's own description.
        runs: Turns per measurement where none are asked for.
        **more: Options that this benchmark alone has, and their help.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=runs, help="turns per measurement")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    for name, text in more.items():
        parser.add_argument(f"--{name}", help=text)
    return parser.parse_args()


def seconds_in_turns(works: Mapping[str, Work], runs: int) -> dict[str, float]:
    """Return the CPU seconds of each work, done in turns after one untimed turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(runs + 1):
        for name, work in works.items():
            began = time.thread_time()
            work()
            if turn:
                times[name].append(time.thread_time() - began)
    return {
        name: statistics.median(sorted(taken)[: (len(taken) + 1) // 2])
        for name, taken in times.items()
    }


def peak_mib(work: Work) -> float:
    """Return what a work adds to the resident memory of this process at its peak, in MiB.

    Call it in a fresh process: memory that was freed before would hide what is taken now.
    """
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the old peak
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def peak_elsewhere(script: str, name: str) -> float:
    """Return what `script --peak NAME` prints in a process of its own."""
    command = [sys.executable, script, "--peak", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _status(key: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0


def show(
    bench: str, ratios: Mapping[str, float], figures: Mapping[str, Any], as_json: bool
) -> None:
    """Print the result as one JSON object, or as lines."""
    result = {
        "bench": bench,
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
        "figures": {
            name: float(f"{value:.4g}") if isinstance(value, float) else value
            for name, value in figures.items()
        },
    }
    if as_json:
        print(json.dumps(result))
        return
    for name, value in {**result["ratios"], **result["figures"]}.items():  # type: ignore[dict-item]
        print(f"{name:48} {value}")
