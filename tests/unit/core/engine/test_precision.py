"""The precision policy; narrow types are seen in the output of a matrix product."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurocli.core.engine.precision import Precision
from neurocli.core.errors import ExitCode, UsageError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_runs_products_narrow(name: str, dtype: torch.dtype) -> None:
    precision = Precision(name, CPU)  # type: ignore[arg-type]
    for _ in range(2):  # a context per pass, not one that can be entered once
        with precision.autocast():
            assert nn.Linear(4, 4)(torch.ones(1, 4)).dtype is dtype
    assert not precision.is_scaled
    assert precision.state_dict() == {}


def test_fp16_needs_cuda() -> None:
    with pytest.raises(
        UsageError, match="'fp16' needs a CUDA device, this run is on cpu"
    ) as caught:
        Precision("fp16", CPU)
    assert caught.value.code is ExitCode.USAGE
    assert "bf16" in str(caught.value.hint)


def _model_with_gradient() -> tuple[nn.Linear, torch.optim.Optimizer, float]:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    precision = Precision("fp32", CPU)
    precision.backward((model.weight**2).sum() / 2)  # the gradient is the weight: norm 5
    return model, optimizer, 5.0


@pytest.mark.parametrize(("limit", "after"), [(None, 5.0), (1.0, 1.0), (10.0, 5.0)])
def test_clip_measures_before_it_limits(limit: float | None, after: float) -> None:
    model, optimizer, before = _model_with_gradient()
    precision = Precision("fp32", CPU)
    norm = precision.clip(optimizer, list(model.parameters()), limit)
    assert norm.item() == pytest.approx(before)
    assert model.weight.grad is not None
    assert model.weight.grad.norm().item() == pytest.approx(after, rel=1e-5)


def _scaled() -> Precision:
    # The scaler itself runs on the CPU too, so its part of the policy is tested without a GPU.
    precision = Precision("fp32", CPU)
    precision._scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    return precision


def test_scaled_gradients_are_clipped_and_applied_in_their_own_size() -> None:
    model, optimizer, before = _model_with_gradient()
    model.weight.grad = None
    precision = _scaled()
    assert precision.is_scaled
    precision.backward((model.weight**2).sum() / 2)
    assert model.weight.grad.norm().item() == pytest.approx(1024 * before)
    norm = precision.clip(optimizer, list(model.parameters()), 1.0)
    assert norm.item() == pytest.approx(before)
    precision.step(optimizer)
    # w - w/|w| for w = (3, 4)
    assert model.weight.flatten().tolist() == pytest.approx([2.4, 3.2], rel=1e-5)


def test_a_skipped_step_leaves_the_scaler_ready_for_the_next() -> None:
    model, optimizer, before = _model_with_gradient()
    precision = _scaled()
    for _ in range(2):
        model.weight.grad = None
        precision.backward((model.weight**2).sum() / 2)
        norm = precision.clip(optimizer, list(model.parameters()), 1.0)
        assert norm.item() == pytest.approx(before)
        precision.skip()
    assert model.weight.tolist() == [[3.0, 4.0]]


def test_overflow_of_scaled_gradients_is_skipped_and_lowers_the_scale() -> None:
    model, optimizer, _ = _model_with_gradient()
    model.weight.grad = None
    precision = _scaled()
    precision.backward(model.weight.sum() * 1e38)
    assert not precision.clip(optimizer, list(model.parameters()), 1.0).isfinite()
    precision.step(optimizer)
    assert model.weight.tolist() == [[3.0, 4.0]]
    assert precision.state_dict()["scale"] == 512.0
    again = _scaled()
    again.load_state_dict(precision.state_dict())
    assert again.state_dict() == precision.state_dict()


def test_step_applies_the_gradient() -> None:
    model, optimizer, _ = _model_with_gradient()
    Precision("fp32", CPU).step(optimizer)
    assert model.weight.tolist() == [[0.0, 0.0]]
