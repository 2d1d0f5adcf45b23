"""The loop when things go wrong: values that are not finite, lack of memory, what cannot be."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from told_runs import train_told, weights_of

from neurocli.core.data.loader import epoch_order
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.loop import fit
from neurocli.core.engine.task import Summary
from neurocli.core.errors import InputError, MissingDependencyError, NeuroError, UsageError
from neurocli.core.events import EvalDone, Note, StepDone, ignore


def test_non_finite_loss_stops_and_names_step_and_subjects(toy: ModuleType, tmp_path: Path) -> None:
    order = epoch_order(22, seed=1234, epoch=0, shuffle=True)
    bad = order[9]  # the third batch of four
    config = toy.toy_config(run={"checkpoint_every_steps": 1})
    with pytest.raises(NeuroError, match="the loss is nan at step 3") as caught:
        train_told(toy, tmp_path, config=config, data=toy.toy_data(bad=[bad]))
    assert f"sub-{bad:02d}" in str(caught.value.where)
    assert "--lr" in str(caught.value.hint)
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pth")
    assert saved["progress"]["step"] == 2
    assert all(bool(torch.isfinite(w).all()) for w in saved["state_dict"].values())


def test_bad_steps_are_skipped_as_often_as_allowed(toy: ModuleType, tmp_path: Path) -> None:
    order = epoch_order(22, seed=1234, epoch=0, shuffle=True)
    data = toy.toy_data(bad=[order[0], order[4], order[16]])  # batches 1, 2 and 5
    train = {"epochs": 1, "max_bad_steps": 2}
    result, told = train_told(toy, tmp_path / "two", train=train, data=data)
    steps = [event for event in told if isinstance(event, StepDone)]
    assert [event.step for event in steps if event.logs.get("skipped")] == [1, 2, 5]
    notes = [event.message for event in told if isinstance(event, Note)]
    assert len(notes) == 3
    assert all("the step was skipped" in note for note in notes)
    assert result.steps == 6
    (mean,) = [e.metrics["loss"] for e in told if isinstance(e, EvalDone) and e.part == "train"]
    assert mean == pytest.approx(
        sum(steps[i].logs["loss"] * n for i, n in ((2, 4), (3, 4), (5, 2))) / 10
    )
    with pytest.raises(NeuroError, match="at step 2, as at 1 before it in a row"):
        train_told(toy, tmp_path / "one", train={"max_bad_steps": 1}, data=data)


def test_a_skipped_step_changes_no_weight(toy: ModuleType, tmp_path: Path) -> None:
    data = toy.toy_data(bad=range(22))
    model = toy.LinearModel()
    before = copy.deepcopy(model.state_dict())
    train = {"epochs": 1, "max_bad_steps": 99}
    result, _ = train_told(toy, tmp_path, train=train, data=data, model=model)
    for name, value in weights_of(result.last_path).items():
        assert torch.equal(value, before[name])


def test_infinite_gradient_of_a_finite_loss_is_caught(toy: ModuleType, tmp_path: Path) -> None:
    class Cliff(toy.ToyTask):  # type: ignore[misc,name-defined]
        def train_step(self, model: Any, batch: Any) -> Any:
            output = super().train_step(model, batch)
            # sqrt has slope infinity at nothing: finite value, gradient 0 * inf = NaN.
            return type(output)(output.loss + (output.loss * 0).sqrt())

    config = toy.toy_config(clip_norm=None)
    with pytest.raises(NeuroError, match="the gradient is nan at step 1"):
        train_told(toy, tmp_path, config=config, task=Cliff(config))


def test_failed_judgement_keeps_the_trained_epoch(toy: ModuleType, tmp_path: Path) -> None:
    class Broken(toy.ToyTask):  # type: ignore[misc,name-defined]
        def summarise(self, rows: Any) -> Any:
            raise RuntimeError("out of memory")

    config = toy.toy_config(ema=0.9)
    with pytest.raises(RuntimeError, match="out of memory"):
        train_told(toy, tmp_path / "run", config=config, task=Broken(config))
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pth")
    assert (saved["progress"]["epoch"], saved["progress"]["batch"]) == (0, 6)
    resumed, _ = train_told(toy, tmp_path / "run", config=config)
    whole, _ = train_told(toy, tmp_path / "whole", config=config)
    assert resumed.last_path.read_bytes() == whole.last_path.read_bytes()
    assert (tmp_path / "run/metrics.csv").read_bytes() == (
        tmp_path / "whole/metrics.csv"
    ).read_bytes()


def test_missing_primary_metric_is_named(toy: ModuleType, tmp_path: Path) -> None:
    class Other(toy.ToyTask):  # type: ignore[misc,name-defined]
        def summarise(self, rows: Any) -> Any:
            return Summary({"mae": 1.0}, {}, {}, [], 9)

    config = toy.toy_config()
    with pytest.raises(NeuroError, match="no metric 'mse' among mae"):
        train_told(toy, tmp_path, config=config, task=Other(config))


@pytest.mark.parametrize("where", ["train_step", "eval_step"])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_lack_of_memory_says_what_to_do(
    toy: ModuleType, tmp_path: Path, where: str, error: Exception
) -> None:
    def fail(model: Any, batch: Any) -> Any:
        raise error

    task = toy.ToyTask(toy.toy_config())
    setattr(task, where, fail)
    with pytest.raises(NeuroError, match=r"memory ran out in (step|batch) 1") as caught:
        train_told(toy, tmp_path, task=task)
    assert "--batch-size" in str(caught.value.hint)


def test_other_errors_of_a_task_pass(toy: ModuleType, tmp_path: Path) -> None:
    def fail(model: Any, batch: Any) -> Any:
        raise RuntimeError("shapes differ")

    task = toy.ToyTask(toy.toy_config())
    task.train_step = fail
    with pytest.raises(RuntimeError, match="shapes differ"):
        train_told(toy, tmp_path, task=task)


def test_bad_sample_keeps_its_error(toy: ModuleType, tmp_path: Path) -> None:
    data = toy.toy_data()

    def fail(index: int, epoch: int) -> Any:
        raise InputError("sub-03.h5", "is damaged")

    data.parts["train"].sample = fail
    with pytest.raises(InputError, match=r"sub-03\.h5: is damaged"):
        train_told(toy, tmp_path, data=data)


@pytest.mark.parametrize("part", ["absent", "empty"])
def test_nothing_to_train_on(toy: ModuleType, tmp_path: Path, part: str) -> None:
    data = toy.toy_data(n_train=0)
    if part == "absent":
        del data.parts["train"]
    with pytest.raises(NeuroError, match="nobody is in the training part"):
        toy.train_toy(tmp_path, toy.toy_config(), data=data)


@pytest.mark.parametrize(
    ("train", "run", "kind"),
    [
        ({"precision": "fp16"}, {}, UsageError),
        ({}, {"device": "xpu"}, MissingDependencyError),
        ({"schedule": "cosine_restarts", "warmup": 0.9}, {}, UsageError),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_written(
    toy: ModuleType, tmp_path: Path, train: Any, run: Any, kind: type[Exception]
) -> None:
    config = toy.toy_config(run=run, **train)
    with pytest.raises(kind):
        toy.train_toy(tmp_path, config)
    assert list(tmp_path.iterdir()) == []


def test_extra_must_be_plain(toy: ModuleType, tmp_path: Path) -> None:
    config, data = toy.toy_config(), toy.toy_data()
    extra = {"config": {"path": tmp_path}}
    with pytest.raises(NeuroError, match=r"checkpoint\.config\.path: .*PosixPath"):
        fit(
            toy.ToyTask(config),
            toy.ToyModel(),
            data,
            config,
            tmp_path,
            listener=ignore,
            extra=extra,
        )
    assert list(tmp_path.iterdir()) == []
