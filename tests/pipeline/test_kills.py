"""A tiny run of each room, killed and resumed, leaves what one left in peace leaves.

`tests/pipeline/kills.py` as a program does the same with twenty random kills per room.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import kills
import pytest

_IN_TRAINING = 12  # what is written before the first step are fewer points
_CHEAP = ("fmri", "brats", "calcium", "genes", "align")


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Import once what forked runs share."""
    kills.import_everything()


@pytest.mark.parametrize("room", _CHEAP)
def test_killed_then_stopped_then_resumed(room: str, tmp_path: Path) -> None:
    told: list[str] = []
    # One run: killed in its second half, stopped by the scheduler further on, then let end.
    wrong = kills.kill_and_resume(
        kills.ROOMS[room],
        tmp_path,
        kills=[(signal.SIGKILL, 0.5, 0.3), (signal.SIGTERM, 0.3, 0.0)],
        per_run=2,
        say=told.append,
    )
    assert wrong == []
    assert "exit -9" in told[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 75), (signal.SIGINT, 130)])
def test_signals_finish_the_step_save_and_say_how_to_go_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = [*kills.ROOMS["calcium"], "--out", str(run)]
    got, _, errors = kills.fork_run(words, point=_IN_TRAINING, kill=number)
    assert got == code
    assert f"neuro train --resume {run}" in errors
    assert kills.fork_run(["train", "--resume", str(run)])[0] == 0


@pytest.mark.slow
@pytest.mark.skipif("NEURO_KILLS" not in os.environ, reason="a minute a room: set NEURO_KILLS=1")
@pytest.mark.parametrize("room", kills.ROOMS)
def test_twenty_random_kills(room: str, tmp_path: Path) -> None:
    chosen = kills.random_kills(20, seed=1)
    assert kills.kill_and_resume(kills.ROOMS[room], tmp_path, kills=chosen, per_run=2) == []
