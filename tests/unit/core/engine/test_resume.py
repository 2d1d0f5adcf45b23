"""A run that is killed anywhere and resumed ends with the bytes of one that never was.

The reference is the uninterrupted run itself. Kills are real: the process sends itself SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.errors import NeuroError

# Dropout and batch statistics are on in the toy model, augmentation in its data, always.
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"train": {}},
    "accumulate, ema, every step saved": {
        "train": {"accumulate": 4, "ema": 0.9, "eval_every_epochs": 2},
        "run": {"checkpoint_every_steps": 1},
    },
    "steps, sgd, restarts, odd saves": {
        "train": {
            "steps": 14, "optimizer": "sgd", "momentum": 0.9, "lr": 0.001,
            "schedule": "cosine_restarts", "warmup": 0.1, "precision": "bf16",
        },
        "run": {"checkpoint_every_steps": 4},
    },
    "spike guard": {
        "train": {"steps": 40, "spike_factor": 1.05, "lr": 0.001},
        "run": {"checkpoint_every_steps": 3},
    },
}  # fmt: skip


def _fork(toy: ModuleType, run_dir: Path, options: dict[str, Any]) -> int:
    """Train in a forked process and return its status: the exit code, or minus the signal."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = toy.main(str(run_dir), json.dumps(options))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _files(run_dir: Path) -> dict[str, Any]:
    """Return what must be equal: checkpoints byte for byte, table, log without its clock."""
    log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    for line in log:
        line.pop("seconds", None)
    found: dict[str, Any] = {"log": log, "metrics": (run_dir / "metrics.csv").read_bytes()}
    for name in ("last.pth", "best.pth"):
        found[name] = (run_dir / "checkpoints" / name).read_bytes()
    return found


@pytest.fixture(scope="module", params=SETTINGS)
def reference(
    request: pytest.FixtureRequest, toy: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return settings, and the files of their uninterrupted run."""
    settings = SETTINGS[request.param]
    # The first optimiser of a process imports a second's worth of torch; children inherit it.
    torch.optim.SGD([torch.zeros(1)], lr=0.1)
    run_dir = tmp_path_factory.mktemp("reference") / "run"
    assert _fork(toy, run_dir, settings) == 0
    return settings, _files(run_dir)


def _n_steps(files: dict[str, Any]) -> int:
    return max(line.get("step", 0) for line in files["log"])


def test_kill_at_steps_all_over_the_run(toy: ModuleType, reference: Any, tmp_path: Path) -> None:
    settings, wanted = reference
    n_steps = _n_steps(wanted)
    for step in {*range(1, n_steps, max(1, n_steps // 5)), n_steps}:
        run_dir = tmp_path / str(step)
        assert _fork(toy, run_dir, {**settings, "kill_at": step}) == -signal.SIGKILL
        assert _fork(toy, run_dir, settings) == 0
        assert _files(run_dir) == wanted, f"killed at step {step}"


def test_kill_while_judging(toy: ModuleType, reference: Any, tmp_path: Path) -> None:
    settings, wanted = reference
    n_judged = sum(line["event"] == "eval" and line["part"] == "val" for line in wanted["log"])
    for number in range(1, n_judged + 1):
        run_dir = tmp_path / str(number)
        assert _fork(toy, run_dir, {**settings, "kill_at_eval": number}) == -signal.SIGKILL
        assert _fork(toy, run_dir, settings) == 0
        assert _files(run_dir) == wanted, f"killed at judgement {number}"


def test_many_kills_of_one_run(toy: ModuleType, reference: Any, tmp_path: Path) -> None:
    settings, wanted = reference
    for step in (2, 3, 5, 9, 10):
        _fork(toy, tmp_path, {**settings, "kill_at": step})
    assert _fork(toy, tmp_path, settings) == 0
    assert _files(tmp_path) == wanted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signal_saves_and_the_resumed_run_is_the_same(
    toy: ModuleType, reference: Any, tmp_path: Path, number: signal.Signals
) -> None:
    settings, wanted = reference
    code = 130 if number == signal.SIGINT else 75
    for step in (3, 6):
        run_dir = tmp_path / str(step)
        told = {**settings, "signal_at": step, "signal": number}
        assert _fork(toy, run_dir, told) == code
        saved = load_checkpoint(run_dir / "checkpoints" / "last.pth")
        assert saved["progress"]["step"] == step
        assert _fork(toy, run_dir, settings) == 0
        assert _files(run_dir) == wanted, f"stopped at step {step}"


def test_a_fresh_process_agrees_and_its_stop_says_how_to_go_on(
    toy: ModuleType, root: Path, tmp_path: Path
) -> None:
    told = {**SETTINGS["plain"], "signal_at": 4, "signal": int(signal.SIGTERM)}
    stopped = subprocess.run(
        [sys.executable, str(toy.__file__), str(tmp_path / "run"), json.dumps(told)],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.returncode == 75, stopped.stderr
    assert stopped.stdout == f"neuro train --resume {tmp_path / 'run'}\n"
    for run_dir in (tmp_path / "run", tmp_path / "whole"):
        assert _fork(toy, run_dir, SETTINGS["plain"]) == 0
    assert _files(tmp_path / "run") == _files(tmp_path / "whole")


def test_resuming_a_finished_run_changes_nothing(toy: ModuleType, tmp_path: Path) -> None:
    config = toy.toy_config()
    first = toy.train_toy(tmp_path, config)
    before = _files(tmp_path)
    again = toy.train_toy(tmp_path, config)
    assert _files(tmp_path) == before
    assert (again.best_value, again.steps, again.reason) == (first.best_value, 18, "completed")


def test_weights_alone_cannot_be_resumed(toy: ModuleType, tmp_path: Path) -> None:
    toy.train_toy(tmp_path, toy.toy_config())
    folder = tmp_path / "checkpoints"
    (folder / "best.pth").replace(folder / "last.pth")
    with pytest.raises(NeuroError, match="holds weights, but not the state of a run"):
        toy.train_toy(tmp_path, toy.toy_config())


def test_checkpoint_of_another_model_is_refused(toy: ModuleType, tmp_path: Path) -> None:
    toy.train_toy(tmp_path, toy.toy_config())
    with pytest.raises(NeuroError, match="do not fit LinearModel"):
        toy.train_toy(tmp_path, toy.toy_config(), model=toy.LinearModel())


def test_damaged_newest_generation_costs_an_epoch_only(toy: ModuleType, tmp_path: Path) -> None:
    config = toy.toy_config()
    toy.train_toy(tmp_path / "whole", config)
    toy.train_toy(tmp_path / "run", config)
    last = tmp_path / "run" / "checkpoints" / "last.pth"
    last.write_bytes(last.read_bytes()[:-1000])
    toy.train_toy(tmp_path / "run", config)
    assert _files(tmp_path / "run") == _files(tmp_path / "whole")


def test_random_draws_of_others_between_runs_do_not_matter(toy: ModuleType, tmp_path: Path) -> None:
    one = toy.train_toy(tmp_path / "a", toy.toy_config())
    torch.rand(100)
    two = toy.train_toy(tmp_path / "b", toy.toy_config())
    assert one.best_value == two.best_value
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
