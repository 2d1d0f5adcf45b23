"""The average of weights against a float64 loop of its formula."""

from __future__ import annotations

import copy
from types import ModuleType

import pytest
import torch
from torch import nn

from neurocli.core.engine.ema import Ema


def _moved(model: nn.Module, step: int) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * (step + 1))


def test_average_follows_its_formula() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(model, decay=0.5)
    wanted = model.weight.detach().double().clone()
    for n in range(20):
        _moved(model, n)
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        wanted = decay * wanted + (1 - decay) * model.weight.detach().double()
    with ema.applied():
        torch.testing.assert_close(model.weight.double(), wanted, rtol=1e-6, atol=1e-6)


def test_applied_is_undone_also_after_an_error() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(model, decay=0.9)
    _moved(model, 0)
    before = model.weight.detach().clone()
    ema.apply()
    assert not torch.equal(model.weight, before)
    ema.restore()
    assert torch.equal(model.weight, before)
    with pytest.raises(ZeroDivisionError), ema.applied():
        1 / 0  # noqa: B018
    assert torch.equal(model.weight, before)


def test_frozen_weights_and_buffers_are_the_models_own(toy: ModuleType) -> None:
    model = toy.ToyModel()
    model.body.requires_grad_(False)
    ema = Ema(model, decay=0.9)
    with torch.no_grad():
        model.body.weight.fill_(3.0)
        model.norm.running_mean.fill_(5.0)
    with ema.applied():
        assert bool((model.body.weight == 3.0).all())
        assert bool((model.norm.running_mean == 5.0).all())


def test_state_goes_on_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    ema = Ema(model, decay=0.9)
    for step in range(4):
        _moved(model, step)
        ema.update()
    with ema.applied():
        weights = copy.deepcopy(model.state_dict())
        state = copy.deepcopy(ema.state_dict())
    again = nn.Linear(3, 2)
    again.load_state_dict(weights)
    other = Ema(again, decay=0.9)
    other.load_state_dict(state)
    assert torch.equal(again.weight, model.weight)
    for step in range(3):
        for one, average in ((model, ema), (again, other)):
            _moved(one, step)
            average.update()
    with ema.applied(), other.applied():
        assert torch.equal(again.weight, model.weight)
