"""Two CPU ranks against one single-threaded process on the same global batches.

Run: `python tests/bench/parallel.py --json`. The same command line trains fmamba on the built-in
cohort with `--procs 1` and `--procs 2`, one thread each, in turns; a step's time is the median of
the differences between the log's step lines, so starting and saving do not count. Wall time: two
free cores are needed, or the figure says nothing.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

from measure import arguments, show

STEPS, BATCH = 10, 16
SIZE = ("model.embed_dim=128", "model.depth=4")


def step_seconds(procs: int, folder: Path) -> float:
    """Return the median seconds of a step of a training with so many processes."""
    settings = [word for key in SIZE for word in ("-s", key)]
    command = [
        sys.executable, "-m", "neurocli", "train", "fmamba", "-p", "fmri/tiny", "--device", "cpu",
        "--steps", str(STEPS), "--batch-size", str(BATCH), "--procs", str(procs),
        "-o", str(folder), *settings,
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    seen: list[float] = []

    def watch() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            # One line for every tenth of the work: here, for every step.
            if " of " in line and line.startswith("train fmamba:"):
                seen.append(time.monotonic())

    reader = threading.Thread(target=watch)
    reader.start()
    process.wait()
    reader.join()
    assert process.returncode == 0, f"--procs {procs} ended with {process.returncode}"
    times = [after - before for before, after in pairwise(seen[1:])]
    return statistics.median(times)


def main() -> None:
    """Measure in turns and show."""
    options = arguments(__doc__, runs=2)
    found: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.runs):
            for procs, seconds in found.items():
                seconds.append(step_seconds(procs, Path(folder) / f"{number}-{procs}"))
    one, two = (statistics.median(seconds) for seconds in found.values())
    show(
        "parallel",
        {"two_ranks_over_one": one / two},
        {"step_s_one_rank": one, "step_s_two_ranks": two, "threads_per_rank": 1, "batch": BATCH},
        options.json,
    )


if __name__ == "__main__":
    main()
