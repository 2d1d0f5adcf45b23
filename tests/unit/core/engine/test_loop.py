"""The loop against loops written out by hand: steps, judgements, what is stored."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from told_runs import toy_summary, train_told, weights_of

from neurocli.core.data.loader import epoch_order
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.loop import fit
from neurocli.core.engine.task import Summary
from neurocli.core.errors import StoppedError
from neurocli.core.events import (
    CheckpointSaved,
    EvalDone,
    Event,
    RunFinished,
    RunStarted,
    StepDone,
    ignore,
)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_weights_equal_a_loop_by_hand(toy: ModuleType, tmp_path: Path, accumulate: int) -> None:
    # A linear model: the mean over 22 samples in ragged batches must be one large batch's mean.
    train: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05, "weight_decay": 0.0}
    train |= {"schedule": "constant", "warmup": 0.0}
    config = toy.toy_config(**train, epochs=2, accumulate=accumulate, clip_norm=0.5)
    model = toy.LinearModel()
    mine = copy.deepcopy(model)
    data = toy.toy_data()
    result, _ = train_told(toy, tmp_path, config=config, model=model, data=data)
    samples, optimizer = data.parts["train"], torch.optim.SGD(mine.parameters(), lr=0.05)
    for epoch in range(2):
        order = epoch_order(22, seed=1234, epoch=epoch, shuffle=True)
        for first in range(0, 22, 4 * accumulate):
            chosen = order[first : first + 4 * accumulate]
            optimizer.zero_grad()
            ((mine(samples.x[chosen]) - samples.y[chosen] - 0.25) ** 2).mean().backward()
            torch.nn.utils.clip_grad_norm_(mine.parameters(), 0.5)
            optimizer.step()
    for name, value in weights_of(result.last_path).items():
        torch.testing.assert_close(value, mine.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert result.steps == 2 * -(-6 // accumulate)


def test_it_learns_and_tells(toy: ModuleType, tmp_path: Path) -> None:
    result, told = train_told(toy, tmp_path, train={"epochs": 6, "lr": 0.05})
    losses = [e.metrics["loss"] for e in told if isinstance(e, EvalDone) and e.part == "train"]
    assert losses[-1] < 0.7 * losses[0]
    started, finished = told[0], told[-1]
    assert isinstance(started, RunStarted)
    assert (started.total_steps, started.start_step, started.n_parameters) == (36, 0, 81)
    assert started.context["device"] == "cpu"
    assert isinstance(finished, RunFinished)
    assert (finished.step, finished.epoch, finished.reason) == (36, 6, "completed")
    steps = [event for event in told if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, 37))
    assert [event.epoch for event in steps[::6]] == [1, 2, 3, 4, 5, 6]
    assert set(steps[0].logs) == {"loss", "lr", "grad_norm", "abs_error"}
    assert result.best_part == "val"


def test_epoch_loss_is_the_mean_over_samples(toy: ModuleType, tmp_path: Path) -> None:
    _, told = train_told(toy, tmp_path, train={"epochs": 1})
    losses = [event.logs["loss"] for event in told if isinstance(event, StepDone)]
    (mean,) = [e.metrics["loss"] for e in told if isinstance(e, EvalDone) and e.part == "train"]
    wanted = sum(loss * n for loss, n in zip(losses, [4] * 5 + [2], strict=True)) / 22
    assert mean == pytest.approx(wanted, rel=1e-12)


def test_rates_follow_the_schedule(toy: ModuleType, tmp_path: Path) -> None:
    _, told = train_told(toy, tmp_path, train={"warmup": 0.5, "lr": 0.1, "min_lr_ratio": 0.1})
    rates = [event.logs["lr"] for event in told if isinstance(event, StepDone)]
    # 18 steps, 9 of warm-up from a tenth of the peak.
    assert rates[:10] == pytest.approx([0.01 + 0.09 * step / 9 for step in range(10)])
    assert rates[10] < rates[9]


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (6, 1), (7, 2), (14, 3)])
def test_steps_win_over_epochs(toy: ModuleType, tmp_path: Path, steps: int, epochs: int) -> None:
    result, told = train_told(toy, tmp_path, train={"steps": steps, "epochs": 1})
    assert (result.steps, result.epochs, result.reason) == (steps, epochs, "completed")
    judged = [e.step for e in told if isinstance(e, EvalDone) and e.part == "val"]
    assert judged[-1] == steps


def test_best_checkpoint_holds_the_best_judgement(toy: ModuleType, tmp_path: Path) -> None:
    result, told = train_told(toy, tmp_path, train={"epochs": 8, "lr": 0.3, "schedule": "constant"})
    judged = {
        e.epoch: e.metrics["mse"] for e in told if isinstance(e, EvalDone) and e.part == "val"
    }
    best = min(judged, key=lambda epoch: judged[epoch])
    assert (result.best_metric, result.best_epoch) == ("mse", best)
    assert result.best_value == judged[best]
    payload = load_checkpoint(result.best_path)
    assert payload["best"] == {"metric": "mse", "part": "val", "value": judged[best], "epoch": best}
    assert payload["optimizer"] is payload["rng"] is None
    task, config = toy.ToyTask(toy.toy_config()), toy.toy_config()
    task.load_state_dict(payload["task_state"])
    model = toy.ToyModel()
    model.load_state_dict(payload["state_dict"])
    summary = toy_summary(toy, task, model, config)
    assert summary == pytest.approx(judged[best], rel=1e-6)


def test_averaged_weights_are_judged_and_stored(toy: ModuleType, tmp_path: Path) -> None:
    config = toy.toy_config(ema=0.8, epochs=4, lr=0.1)
    result, told = train_told(toy, tmp_path, config=config)
    last = load_checkpoint(result.last_path)
    trained = last["ema"]["trained"]
    assert not torch.equal(last["state_dict"]["body.weight"], trained["body.weight"])
    model = toy.ToyModel()
    model.load_state_dict(last["state_dict"])
    task = toy.ToyTask(config)
    task.load_state_dict(last["task_state"])
    final = [e.metrics["mse"] for e in told if isinstance(e, EvalDone) and e.part == "val"][-1]
    assert toy_summary(toy, task, model, config) == pytest.approx(final, rel=1e-6)


def test_judgement_never_changes_training(toy: ModuleType, tmp_path: Path) -> None:
    often, _ = train_told(toy, tmp_path / "a", train={"eval_every_epochs": 1})
    once, told = train_told(toy, tmp_path / "b", train={"eval_every_epochs": 3})
    assert len([e for e in told if isinstance(e, EvalDone) and e.part == "val"]) == 1
    for name, value in weights_of(often.last_path).items():
        assert torch.equal(value, weights_of(once.last_path)[name])


def test_prefetching_changes_nothing(toy: ModuleType, tmp_path: Path) -> None:
    results = [
        train_told(toy, tmp_path / str(n), config=toy.toy_config(data={"prefetch": n}))[0]
        for n in (0, 3)
    ]
    one, two = (weights_of(result.last_path) for result in results)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_without_validation_the_training_loss_chooses(toy: ModuleType, tmp_path: Path) -> None:
    result, told = train_told(toy, tmp_path, data=toy.toy_data(n_val=0))
    losses = [e.metrics["loss"] for e in told if isinstance(e, EvalDone)]
    assert (result.best_part, result.best_metric) == ("train", "loss")
    assert result.best_value == min(losses)
    assert result.best_path.name == "best.pth"


def test_early_stop_waits_for_its_patience(toy: ModuleType, tmp_path: Path) -> None:
    class Worsening(toy.ToyTask):  # type: ignore[misc,name-defined]
        n = 0

        def summarise(self, rows: Any) -> Any:
            self.n += 1
            return Summary({"mse": [5.0, 3.0, 4.0, 4.0, 3.5, 1.0][self.n - 1]}, {}, {}, [], 9)

    config = toy.toy_config(epochs=6, early_stop=3)
    result, _ = train_told(toy, tmp_path, config=config, task=Worsening(config))
    assert (result.reason, result.epochs, result.best_epoch) == ("early_stop", 5, 2)
    # A resumed early stop stays stopped.
    again, told = train_told(toy, tmp_path, config=config, task=Worsening(config))
    assert (again.reason, again.epochs) == ("early_stop", 5)
    assert not [event for event in told if isinstance(event, StepDone)]


def test_a_metric_that_is_never_finite_leaves_the_last_as_best(
    toy: ModuleType, tmp_path: Path
) -> None:
    class Undefined(toy.ToyTask):  # type: ignore[misc,name-defined]
        def summarise(self, rows: Any) -> Any:
            return Summary({"mse": float("nan")}, {}, {}, [], 9)

    config = toy.toy_config()
    result, _ = train_told(toy, tmp_path, config=config, task=Undefined(config))
    assert (result.best_value, result.best_epoch) == (None, None)
    assert result.best_path == result.last_path


def test_freeze_trains_the_head_only(toy: ModuleType, tmp_path: Path) -> None:
    model = toy.ToyModel()
    before = copy.deepcopy(model.state_dict())
    config = toy.toy_config(freeze=True, init_from="x.pth")
    result, told = train_told(toy, tmp_path, config=config, model=model)
    changed = {
        name for name, value in weights_of(result.last_path).items()
        if not torch.equal(value, before[name])
    }  # fmt: skip
    assert changed == {"output_head.weight", "output_head.bias"}
    assert isinstance(told[0], RunStarted)
    assert told[0].n_parameters == 9


def test_signal_stops_between_two_steps(toy: ModuleType, tmp_path: Path) -> None:
    told: list[Event] = []

    def listen(event: Event) -> None:
        told.append(event)
        if isinstance(event, StepDone) and event.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="stopped after step 2 of 18") as caught:
        toy.train_toy(tmp_path, toy.toy_config(), listener=listen)
    assert int(caught.value.code) == 75
    assert caught.value.hint == f"neuro train --resume {tmp_path}"
    assert isinstance(told[-1], RunFinished)
    assert told[-1].reason == "stopped"
    saved = told[-2]
    assert isinstance(saved, CheckpointSaved)
    assert (saved.step, saved.is_best) == (2, False)


def test_checkpoints_are_saved_when_due(toy: ModuleType, tmp_path: Path) -> None:
    config = toy.toy_config(epochs=1, run={"checkpoint_every_steps": 2})
    _, told = train_told(toy, tmp_path, config=config)
    steps = [e.step for e in told if isinstance(e, CheckpointSaved) and not e.is_best]
    assert steps == [0, 2, 4, 6, 6]


def test_a_fresh_run_replaces_old_checkpoints(toy: ModuleType, tmp_path: Path) -> None:
    config = toy.toy_config(steps=1)
    toy.train_toy(tmp_path, config)
    assert (tmp_path / "checkpoints" / "best.pth").exists()
    task, data = toy.ToyTask(config), toy.toy_data()
    task.summarise = lambda rows: Summary({"mse": float("nan")}, {}, {}, [], 0)
    fit(task, toy.ToyModel(), data, config, tmp_path, listener=ignore, extra={})
    steps = {
        path.name: load_checkpoint(path)["progress"]["step"]
        for path in (tmp_path / "checkpoints").iterdir()
    }
    # The best of another run must not pass for this one's, which has none.
    assert steps == {"last.pth": 1, "last.prev.pth": 0}


def test_extra_values_stand_in_every_checkpoint(toy: ModuleType, tmp_path: Path) -> None:
    result, _ = train_told(toy, tmp_path, train={"epochs": 1})
    for path in (result.last_path, result.best_path):
        payload = load_checkpoint(path)
        assert payload["model_name"] == "toy"
        assert payload["info"] == {"dropout": 0.2}
        assert payload["task_state"] == {"offset": 0.25}
        assert payload["versions"]["torch"]
