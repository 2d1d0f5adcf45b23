"""A room of one line, y = w x + noise, for tests of the engine; also a program that can be killed.

`python toy.py RUN_DIR OPTIONS_JSON` trains it and resumes what it finds. `kill_at` names the step
event after which the process kills itself with SIGKILL, `signal_at` one after which it sends
itself a signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neurocli.core.config.run import DataBlock, ModelBlock, RunBlock, RunConfig, TrainBlock
from neurocli.core.engine.checkpoint import load_latest
from neurocli.core.engine.loop import FitResult, fit
from neurocli.core.engine.sinks import CsvSink, JsonlSink
from neurocli.core.engine.task import Batch, PrimaryMetric, Rows, RunData, StepOutput, Summary, Task
from neurocli.core.errors import StoppedError
from neurocli.core.events import EvalDone, Event, Listener, StepDone, fan_out, ignore

N_FEATURES = 6


class ToySamples:
    """Samples that are a function of (seed, index) and, when augmented, of the epoch."""

    def __init__(self, n: int, *, seed: int = 0, noise: float = 0.0, bad: Sequence[int] = ()):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, N_FEATURES, generator=generator)
        self.y = self.x @ torch.arange(1.0, N_FEATURES + 1)
        self.noise, self.bad = noise, set(bad)
        self.asked: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.x)

    @property
    def participants(self) -> list[str]:
        return [f"sub-{index:02d}" for index in range(len(self))]

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        self.asked.append((index, epoch))
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        x = self.x[index] + self.noise * torch.randn(N_FEATURES, generator=generator)
        y = torch.tensor(float("nan")) if index in self.bad else self.y[index]
        return {"x": x, "y": y, "participant": f"sub-{index:02d}"}

    def collate(self, samples: Sequence[dict[str, Any]]) -> Batch:
        return {
            "x": torch.stack([sample["x"] for sample in samples]),
            "y": torch.stack([sample["y"] for sample in samples]),
            "participant": [sample["participant"] for sample in samples],
        }


class ToyModel(nn.Module):
    """A backbone with dropout and batch statistics, and a head."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.body = nn.Linear(N_FEATURES, 8)
        self.norm = nn.BatchNorm1d(8, momentum=0.1)
        self.dropout = nn.Dropout(dropout)
        self.output_head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.dropout(self.norm(self.body(x)).tanh())
        return self.output_head(hidden)[:, 0]


class LinearModel(nn.Module):
    """A plain linear map, for which gradients add up exactly over batches."""

    def __init__(self) -> None:
        super().__init__()
        self.output_head = nn.Linear(N_FEATURES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output_head(x)[:, 0]


class ToyTask(Task):
    """Least squares."""

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.offset = 0.0

    @property
    def primary_metric(self) -> PrimaryMetric:
        return PrimaryMetric("mse", "min")

    def build(self, info: Mapping[str, Any]) -> nn.Module:
        return ToyModel(float(info["dropout"]))

    def fit(self, data: RunData) -> None:
        self.offset = 0.25

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        error = (model(batch["x"]) - batch["y"] - self.offset).float()
        return StepOutput((error**2).mean(), {"abs_error": error.detach().abs().mean().item()})

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        errors = (model(batch["x"]) - batch["y"] - self.offset).float()
        pairs = zip(batch["participant"], errors.tolist(), strict=True)
        return [{"participant": person, "error": error} for person, error in pairs]

    def summarise(self, rows: Rows) -> Summary:
        mse = sum(row["error"] ** 2 for row in rows) / len(rows)
        return Summary({"mse": mse}, {}, {}, rows, len(rows))

    def state_dict(self) -> dict[str, Any]:
        return {"offset": self.offset}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.offset = float(state["offset"])


def toy_data(n_train: int = 22, n_val: int = 9, **options: Any) -> RunData:
    """Return data whose batches are ragged: 22 samples in batches of 4 make 6."""
    parts: dict[Any, Any] = {"train": ToySamples(n_train, seed=1, **options)}
    if n_val:
        parts["val"] = ToySamples(n_val, seed=2)
    return RunData(
        objective="toy",
        parts=parts,
        info={"dropout": 0.2},
        split={"train": ["sub-00"], "val": ["sub-01"]},
        split_sha256="0" * 64,
        fingerprint="1" * 64,
    )


def toy_config(
    *,
    data: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    **train: Any,
) -> RunConfig:
    """Return a configuration of three epochs of six batches; keywords are keys of `train`."""
    return RunConfig(
        model=ModelBlock(name="toy"),
        data=DataBlock(**{"batch_size": 4, "eval_batch_size": 5, **(data or {})}),
        train=TrainBlock(**{"epochs": 3, "lr": 0.01, **train}),
        run=RunBlock(**{"device": "cpu", **(run or {})}),
    )


def train_toy(
    run_dir: Path,
    config: RunConfig,
    *,
    data: RunData | None = None,
    model: nn.Module | None = None,
    listener: Listener = ignore,
    task: Task | None = None,
) -> FitResult:
    """Train in `run_dir`, going on from what it holds."""
    data = data or toy_data()
    task = task or ToyTask(config)
    torch.manual_seed(7)
    task.fit(data)
    model = model or task.build(data.info)
    found = load_latest(run_dir / "checkpoints")
    sinks = JsonlSink(run_dir / "log.jsonl"), CsvSink(run_dir / "metrics.csv")
    return fit(
        task,
        model,
        data,
        config,
        run_dir,
        listener=fan_out(*sinks, listener),
        resume=found[1] if found else None,
        extra={"model_name": "toy", "info": dict(data.info)},
    )


def main(run_dir: str, options_json: str) -> int:
    """Train, kill or signal the own process where told, and return the exit code."""
    options = json.loads(options_json)
    seen: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == options.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(event, StepDone) and event.step == options.get("signal_at"):
            os.kill(os.getpid(), options["signal"])
        if isinstance(event, EvalDone) and event.part == "val":
            seen.append(event)
            if len(seen) == options.get("kill_at_eval"):
                os.kill(os.getpid(), signal.SIGKILL)

    data = toy_data(noise=0.1)
    config = toy_config(run=options.get("run"), **options.get("train", {}))
    try:
        train_toy(Path(run_dir), config, data=data, listener=listen)
    except StoppedError as error:
        print(error.hint)
        return int(error.code)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
