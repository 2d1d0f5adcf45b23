"""Kill a command at random instants, run it again, and compare what it leaves byte for byte.

As a program, `python tests/pipeline/kills.py [--kills 20] [ROOM...]` does so for a tiny run of each
room and prints one line per kill. The process imports everything once and forks each run, so a
kill costs the work of a run and no start.

A run passes points: every optimiser step and every file that takes its final name. A kill waits
for a random point, then for a random part of a step, and comes from outside, as a scheduler's
does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from neurocli.cli.main import main as neuro

_COMMON = ("-s", "run.threads=1", "--device", "cpu", "--seed", "3")
_TRAIN = ("-s", "run.checkpoint_every_steps=2", "-s", "data.eval_batch_size=4", *_COMMON)

ROOMS: Mapping[str, tuple[str, ...]] = {
    "fmri": (
        *("train", "fmamba", "--pretrain", "ar", "-p", "fmri/tiny", "--steps", "5", "--ema", "0.9"),
        *("-s", "model.embed_dim=32", "-s", "model.depth=1", "-s", "model.patch_size=8,8,8,2"),
        *("-s", "data.sequence_length=8", "--batch-size", "16", *_TRAIN),
    ),
    "brats": (
        *("train", "unet3d_xs", "-p", "brats/tiny", "--epochs", "2", "--accumulate", "2"),
        *("-s", "model.width=4", "-s", "data.patch=16,16,16", "-s", "data.samples_per_case=1"),
        *("-s", "data.augment=all", *_TRAIN),
    ),
    "calcium": (
        *("train", "cebra", "-p", "calcium/tiny", "--epochs", "2", "--batch-size", "32"),
        *("-s", "data.epoch_steps=4", *_TRAIN),
    ),
    "genes": (
        *("train", "gene_sequence", "-p", "genes/tiny", "--epochs", "2", "--batch-size", "400"),
        *("-s", "model.dropout=0.1", *_TRAIN),
    ),
    "align": (
        *("align-genes", "-p", "genes/tiny", "--epochs", "2", "--batch-size", "300"),
        *("--permutations", "50", "-s", "run.checkpoint_every_steps=2", *_COMMON),
    ),
}
"""A tiny run of each room, without its folder."""

_KILLS = (signal.SIGKILL, signal.SIGTERM)
_CODES = {0, -signal.SIGKILL, 75, 130}
# What may differ between two runs of one thing: clocks, machines, an older generation, and the
# scalars for TensorBoard, of which each start writes a file with its clock.
_UNEQUAL = ("environment.json", "last.prev.pth")
_CLOCKS = {"seconds", "cpu_seconds", "created", "time"}


def fork_run(
    words: Sequence[str], *, point: int | None = None, kill: int = 0, delay_s: float = 0.0
) -> tuple[int, int, str]:
    """Run a command line in a forked process.

    Args:
        words: The command line without `neuro`.
        point: The point of the run to wait for before the kill; None kills nothing.
        kill: Number of the signal.
        delay_s: Seconds from the point to the kill.

    Returns:
        Exit code, or minus the signal that ended it; points passed; what it wrote to stderr.
    """
    read, write = os.pipe()
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.dup2(errors.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                # Whoever runs this may have put other streams in their place.
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                _tell_points(write)
                code = neuro(words)
                sys.stderr.flush()
            finally:
                os._exit(code)
        os.close(write)
        passed = 0
        while got := os.read(read, 1):
            passed += len(got)
            if passed == point:
                time.sleep(delay_s)
                os.kill(child, kill)
        os.close(read)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        errors.seek(0)
        return code, passed, errors.read().decode(errors="replace")


def _tell_points(write: int) -> None:
    """Have the process say when it passes a point."""
    from neurocli.core.engine import trainer

    def told(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            found = work(*args, **kwargs)
            os.write(write, b".")
            return found

        return run

    vars(trainer)["take_step"] = told(vars(trainer)["take_step"])
    os.replace = told(os.replace)


def left_behind(folder: Path) -> dict[str, Any]:
    """Return what a run left: bytes of tensors and tables, records without their clocks."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name in _UNEQUAL or name.startswith("tensorboard"):
            continue
        if path.suffix in (".json", ".jsonl"):
            # A record names its own folder.
            text = path.read_text().replace(str(folder), "RUN")
            lines = text.splitlines() if path.suffix == ".jsonl" else [text]
            found[name] = [_timeless(json.loads(line)) for line in lines]
        elif path.suffix == ".md":
            found[name] = re.sub(r", [0-9.]+ s$", "", path.read_text(), flags=re.MULTILINE)
        else:
            found[name] = path.read_bytes()
    return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in _CLOCKS}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def kill_and_resume(
    words: Sequence[str],
    work: Path,
    *,
    kills: Sequence[tuple[int, float, float]],
    per_run: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Kill runs of a command, let each end, and return how they differ from one left in peace.

    Args:
        words: A command line that takes `--out`.
        work: Folder for the runs.
        kills: Signal, place between the first point (0) and the last (1), and part of a step's
            time after it.
        per_run: Kills of one run before it may end.
        say: Told of every kill.

    Returns:
        One sentence per difference.
    """
    whole = work / "whole"
    # In this process: it makes the built-in data and imports what forked runs then share.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        neuro([*words, "--out", str(work / "first")])
    began = time.monotonic()
    code, n_points, errors = fork_run([*words, "--out", str(whole)])
    if code:
        return [f"the run itself ends with {code}: {errors}"]
    pace_s = (time.monotonic() - began) / n_points
    wanted, wrong = left_behind(whole), []
    for first in range(0, len(kills), per_run):
        run, left = work / f"run{first}", n_points
        for kill, place, part in kills[first : first + per_run]:
            point = 1 + round(place * (left - 1))
            code, passed, errors = fork_run(
                _again(words, run), point=point, kill=kill, delay_s=part * pace_s
            )
            name = signal.Signals(kill).name
            say(f"{name} at point {point} of {left}: exit {code} after {passed} points")
            left = max(left - passed, 2)
            if code not in _CODES:
                wrong.append(f"{name} at point {point}: exit {code}: {errors}")
        code, _, errors = fork_run(_again(words, run))
        if code:
            wrong.append(f"resumed after {kills[first : first + per_run]}: exit {code}: {errors}")
        else:
            found = _differences(wanted, left_behind(run))
            say(f"resumed: {', '.join(found) or 'nothing differs'}")
            wrong += [f"{kills[first : first + per_run]}: {difference}" for difference in found]
        shutil.rmtree(run, ignore_errors=True)
    return wrong


def _again(words: Sequence[str], run: Path) -> list[str]:
    """Return the command that goes on: `--resume` once there is a run, else the same one."""
    if words[0] == "train" and (run / "checkpoints" / "last.pth").exists():
        return ["train", "--resume", str(run)]
    return [*words, "--out", str(run)]


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    names = sorted({*wanted, *found})
    return [f"{name} differs" for name in names if wanted.get(name) != found.get(name)]


def random_kills(n: int, *, seed: int) -> list[tuple[int, float, float]]:
    """Return kills all over a run, half of them with a signal that lets it save."""
    rng = random.Random(seed)
    return [(_KILLS[number % 2], rng.random(), rng.random()) for number in range(n)]


def main() -> int:
    """Kill a run of each room and say what differs; 1 if anything does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rooms", nargs="*", default=list(ROOMS), choices=[*ROOMS, []])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--per-run", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import_everything()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("NEURO_CACHE", str(Path(folder) / "cache"))
        for room in options.rooms:
            wrong = kill_and_resume(
                ROOMS[room],
                Path(folder) / room,
                kills=random_kills(options.kills, seed=options.seed),
                per_run=options.per_run,
                say=partial(_print, room),
            )
            failed += bool(wrong)
            print("\n".join(wrong) or f"{room}: {options.kills} kills, nothing differs", flush=True)
    return int(bool(failed))


def _print(room: str, line: str) -> None:
    print(f"{room}: {line}", flush=True)


def import_everything() -> None:
    """Import what a run needs, so that forked runs do not."""
    import torch

    import neurocli.core.engine.evaluate
    import neurocli.core.engine.loop
    import neurocli.core.engine.train  # noqa: F401

    # The first optimiser of a process imports a second's worth of torch.
    torch.optim.SGD([torch.zeros(1)], lr=0.1)


if __name__ == "__main__":
    sys.exit(main())
