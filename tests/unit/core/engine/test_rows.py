"""Judging: every sample once, and training is not disturbed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from neurocli.core.engine.rows import evaluate_part, gather_rows
from neurocli.core.engine.runtime import rng_state
from neurocli.core.errors import NeuroError, StoppedError
from neurocli.core.events import Event, ItemDone, Note, WorkFinished, WorkStarted

CPU = torch.device("cpu")


def _gather(toy: ModuleType, task: Any = None, **options: Any) -> list[dict[str, Any]]:
    config = toy.toy_config(**options.pop("train", {}))
    torch.manual_seed(0)
    model = options.pop("model", None) or toy.ToyModel(0.5)
    task = task or toy.ToyTask(config)
    rows: list[dict[str, Any]] = gather_rows(task, model, toy.ToySamples(9), config, CPU, **options)
    return rows


def test_every_sample_gives_one_row_in_order(toy: ModuleType) -> None:
    told: list[Event] = []
    rows = _gather(toy, listener=told.append)
    assert [row["participant"] for row in rows] == [f"sub-{i:02d}" for i in range(9)]
    assert told[0] == WorkStarted("evaluate", 2, "batches")
    assert sum(isinstance(event, ItemDone) for event in told) == 2
    assert told[-1] == WorkFinished("evaluate")


def test_summary_equals_a_plain_loop(toy: ModuleType) -> None:
    config = toy.toy_config()
    task, model, samples = toy.ToyTask(config), toy.ToyModel(0.5), toy.ToySamples(9)
    summary = evaluate_part(task, model, samples, config, CPU)
    model.eval()
    wanted = ((model(samples.x) - samples.y).double() ** 2).mean().item()
    assert summary.metrics["mse"] == pytest.approx(wanted, rel=1e-5)


def test_random_state_modes_and_gradients_are_untouched(toy: ModuleType) -> None:
    model = toy.ToyModel(0.5)
    model.train()
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    running = model.norm.running_mean.clone()
    before = rng_state(CPU)

    class Restless(toy.ToyTask):  # type: ignore[misc,name-defined]
        def eval_step(self, model: Any, batch: Any) -> Any:
            torch.rand(3)
            assert not torch.is_grad_enabled()
            return super().eval_step(model, batch)

    torch.set_rng_state(before["torch"])
    config = toy.toy_config()
    gather_rows(Restless(config), model, toy.ToySamples(9), config, CPU)
    assert torch.equal(rng_state(CPU)["torch"], before["torch"])
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.norm.running_mean, running)


def test_tensors_cached_while_judging_can_be_trained_on(toy: ModuleType) -> None:
    # Position tables are often built in the first pass; inference mode would poison them.
    class Caching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.table: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.table is None:
                self.table = torch.arange(x.shape[1]).float()
            return (x * self.table * self.scale).sum(1)

    model = Caching()
    _gather(toy, model=model)
    model(torch.ones(2, toy.N_FEATURES)).sum().backward()
    assert model.scale.grad is not None


def test_wrong_number_of_rows_names_the_task(toy: ModuleType) -> None:
    class Forgetful(toy.ToyTask):  # type: ignore[misc,name-defined]
        def eval_step(self, model: Any, batch: Any) -> Any:
            return super().eval_step(model, batch)[1:]

    with pytest.raises(NeuroError, match="4 rows for 5 samples") as caught:
        _gather(toy, Forgetful(toy.toy_config()))
    assert caught.value.where == "Forgetful.eval_step"


def test_a_stop_ends_the_judgement_and_the_mode_comes_back(toy: ModuleType) -> None:
    model = toy.ToyModel(0.5)

    def stop() -> None:
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        _gather(toy, model=model, check_stop=stop)
    assert model.training


def test_fp16_checkpoint_is_judged_in_fp32_on_the_cpu(toy: ModuleType) -> None:
    told: list[Event] = []
    assert _gather(toy, train={"precision": "fp16"}, listener=told.append) == _gather(toy)
    assert isinstance(told[0], Note)
    assert "judged in fp32 on cpu" in told[0].message
    assert _gather(toy, train={"precision": "bf16"}) != _gather(toy)
