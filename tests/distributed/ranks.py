"""What two ranks do together: many small trainings in one process group.

`main(JOBS_JSON)` with the variables of a launcher. A job is a run folder, a strategy and keywords
of the toy room's configuration; rank 0 leaves `result.json` in each folder. Jobs share a group.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import rooms
import torch

from neurocli.core.engine import checkpoint
from neurocli.core.engine.loop import fit
from neurocli.core.engine.parallel.shard_files import load_newest
from neurocli.core.engine.parallel.team import Team, joined
from neurocli.core.engine.sinks import CsvSink, JsonlSink
from neurocli.core.errors import NeuroError
from neurocli.core.events import Event, StepDone, fan_out, ignore

TOY = Path(__file__).parents[1] / "unit" / "core" / "engine" / "toy.py"


def load_toy() -> ModuleType:
    """Return the toy room as a module."""
    spec = importlib.util.spec_from_file_location("toy_room", TOY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_room"] = module
    spec.loader.exec_module(module)
    return module


def train(team: Team, toy: ModuleType, job: dict[str, Any]) -> dict[str, Any]:
    """Train one job, going on from what its folder holds, and return how it ended."""
    run_dir = Path(job["run"])
    options = dict(job.get("data", {}))
    config = toy.toy_config(run=job.get("run_block"), data=job.get("block"), **job.get("train", {}))
    data, task = toy.toy_data(**options), toy.ToyTask(config)
    torch.manual_seed(7)
    task.fit(data)
    model = toy.LinearModel() if job.get("linear") else toy.ToyModel(job.get("dropout", 0.0))
    found = load_newest(run_dir / "checkpoints")
    team.strategy = job.get("parallel", "none")

    def listen(event: Event) -> None:
        # One rank is told; all must stop at the same step.
        is_told = team.rank == team.n_ranks - 1
        if isinstance(event, StepDone) and event.step == job.get("signal_at") and is_told:
            os.kill(os.getpid(), signal.SIGTERM)
        if isinstance(event, StepDone) and event.step == job.get("raise_at"):
            raise NeuroError("as if it had been killed")
        if isinstance(event, StepDone) and event.step == job.get("full_at") and team.is_first:
            patch.setattr(checkpoint, "write_torch_file", _fail_full)

    patch = pytest.MonkeyPatch()
    sinks = [JsonlSink(run_dir / "log.jsonl"), CsvSink(run_dir / "metrics.csv")]
    try:
        result = fit(
            task,
            model,
            data,
            config,
            run_dir,
            listener=fan_out(*(sinks if team.is_first else [ignore]), listen),
            resume=found[1] if found else None,
            extra={"model_name": "toy", "info": dict(data.info)},
        )
    except NeuroError as error:
        patch.undo()
        return {"error": error.message, "code": int(error.code), "hint": error.hint}
    return {"best": result.best_value, "steps": result.steps, "reason": result.reason}


def _fail_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def main(path: str) -> None:
    """Do the jobs of a file, in order."""
    toy = load_toy()
    with joined() as team:
        for job in json.loads(Path(path).read_text()):
            if "rooms" in job:
                rooms.run(Path(job["run"]), Path(job["rooms"]))
            ended = team.gather({} if "rooms" in job else train(team, toy, job))
            if team.is_first:
                (Path(job["run"]) / f"{job.get('name', 'result')}.json").write_text(
                    json.dumps(ended)
                )
