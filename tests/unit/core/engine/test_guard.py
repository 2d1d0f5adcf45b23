"""Spikes are told from the running median; expected verdicts are worked out by hand."""

from __future__ import annotations

import math
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from neurocli.core.config.run import TrainBlock
from neurocli.core.engine.guard import SpikeGuard
from neurocli.core.engine.parallel.holder import Holder
from neurocli.core.engine.parallel.team import ALONE
from neurocli.core.engine.precision import Precision
from neurocli.core.engine.state import Progress
from neurocli.core.engine.step import count_bad, take_step
from neurocli.core.engine.task import StepOutput
from neurocli.core.events import Note


def seen(guard: SpikeGuard, *norms: float) -> list[bool]:
    return [guard.is_spike(norm) for norm in norms]


def test_nothing_is_a_spike_before_sixteen_norms() -> None:
    guard = SpikeGuard(3.0)
    assert not any(seen(guard, *[1.0] * 15, 1e9))
    assert seen(guard, 3.0, 3.1) == [False, True]


def test_the_median_moves_and_spikes_do_not_enter_it() -> None:
    guard = SpikeGuard(2.0)
    seen(guard, *[1.0] * 16)
    assert all(seen(guard, *[50.0] * 10))
    assert guard.limit() == 2.0
    seen(guard, *[4 / 3] * 64)
    assert guard.limit() == pytest.approx(8 / 3)
    assert len(guard.norms) == 64


def test_a_new_level_is_accepted_after_sixteen_spikes() -> None:
    guard = SpikeGuard(2.0)
    seen(guard, *[1.0] * 20)
    assert seen(guard, *[9.0] * 18) == [True] * 16 + [False] * 2
    assert guard.norms == [9.0, 9.0]
    assert guard.n_skipped == 16


def test_off_and_not_finite_are_left_alone() -> None:
    assert not any(seen(SpikeGuard(None), *[1.0] * 40, 1e30))
    guard = SpikeGuard(2.0)
    seen(guard, *[1.0] * 16)
    assert seen(guard, math.inf, math.nan) == [False, False]
    assert guard.norms == [1.0] * 16


def test_state_goes_on_where_it_was_and_old_files_have_none() -> None:
    guard, other = SpikeGuard(2.0), SpikeGuard(2.0)
    seen(guard, *[1.0, 1.5] * 10, 7.0)
    other.load_state_dict(guard.state_dict())
    assert other.state_dict() == guard.state_dict()
    assert seen(other, 2.4, 3.1) == seen(guard, 2.4, 3.1) == [False, True]
    other.load_state_dict(None)
    assert other.norms == []


def steps_of(toy: ModuleType, factor: float | None) -> Any:
    """Return a state of a linear model, enough for `take_step`."""
    model = toy.LinearModel()
    train = TrainBlock(spike_factor=factor)
    task = SimpleNamespace(train_step=_squared, joins_batches=False)
    return SimpleNamespace(
        holder=Holder(ALONE, task, model),
        peak_lr=0.0,
        schedule=SimpleNamespace(set_rates=lambda *_: 1.0),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        precision=Precision("fp32", torch.device("cpu")),
        task=task,
        model=model,
        trained=list(model.parameters()),
        device=torch.device("cpu"),
        config=SimpleNamespace(train=train),
        ema=None,
        guard=SpikeGuard(factor),
        progress=Progress(),
    )


def _squared(model: torch.nn.Module, batch: Any) -> Any:
    return StepOutput(((model(batch["x"]) - batch["y"]) ** 2).mean())


@pytest.mark.parametrize("factor", [10.0, None])
def test_a_planted_spike_changes_no_weight_and_is_told(
    toy: ModuleType, factor: float | None
) -> None:
    torch.manual_seed(0)
    state, told = steps_of(toy, factor), []
    x = torch.randn(4, toy.N_FEATURES)
    calm = {"x": x, "y": torch.zeros(4), "participant": ["a"]}
    for _ in range(20):
        assert take_step(state, [calm], [4]).is_applied
    before = [p.detach().clone() for p in state.trained]
    result = take_step(state, [{**calm, "y": torch.full((4,), 1e4), "participant": ["odd"]}], [4])
    state.progress.step = 21
    count_bad(state, result, told.append)
    unchanged = all(torch.equal(a, b) for a, b in zip(before, state.trained, strict=True))
    assert unchanged == (factor is not None)
    assert result.is_finite
    assert result.is_applied == (factor is None)
    if factor is None:
        assert told == []
        return
    (note,) = told
    assert isinstance(note, Note)
    assert note.level == "warning"
    assert "at step 21" in note.message
    assert "10 times the running median (odd); the step was skipped, 1 so far" in note.message
    assert take_step(state, [calm], [4]).is_applied
