"""The Mamba-1 block and its scan against golden arrays and a scan token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.core.errors import UsageError
from neurocli.core.nn import selective_scan as scan_module
from neurocli.core.nn.mamba1 import Mamba1
from neurocli.core.nn.selective_scan import selective_scan
from neurocli.core.nn.shapes import ShapeError
from neurocli.core.nn.sizes import SELECTIVE_CHUNK


@pytest.fixture(scope="module")
def arrays(golden: Path) -> dict[str, Any]:
    return dict(np.load(golden / "mamba1_head_embed64_f64.npz"))


def golden_block(arrays: dict[str, Any], dtype: torch.dtype) -> Mamba1:
    block = Mamba1(int(arrays["cfg.d_model"]), int(arrays["cfg.d_state"])).to(dtype)
    weights = {key[2:]: torch.tensor(v) for key, v in arrays.items() if key.startswith("w.")}
    block.load_state_dict(weights)
    return block


def relative(got: Tensor, want: Any) -> float:
    want = np.asarray(want)
    return float(np.abs(got.detach().double().numpy() - want).max() / np.abs(want).max())


def inputs(batch: int, length: int, channels: int, states: int) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = ((batch, length, channels), (batch, length, channels), (channels, states))
    x, dt, A = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    B, C = torch.randn(2, batch, length, states, dtype=torch.float64)
    return [x, torch.nn.functional.softplus(dt), -A.exp(), B, C]


def token_by_token(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Scan by the definition: one token after another."""
    state = x.new_zeros(x.shape[0], *A.shape)
    outputs = []
    for t in range(x.shape[1]):
        step = dt[:, t].unsqueeze(-1)
        state = (step * A).exp() * state + step * x[:, t].unsqueeze(-1) * B[:, t].unsqueeze(1)
        outputs.append((state * C[:, t].unsqueeze(1)).sum(-1))
    return torch.stack(outputs, 1), state


def test_equals_golden(arrays: dict[str, Any]) -> None:
    # Expected: the official block in float64, outputs and every gradient, stored in the file.
    block = golden_block(arrays, torch.float64)
    u = torch.tensor(arrays["u"], requires_grad=True)
    y = block(u)
    assert relative(y, arrays["y"]) <= 1e-10
    y.backward(torch.tensor(arrays["grad_y"]))
    assert u.grad is not None
    assert relative(u.grad, arrays["grad_u"]) <= 1e-9
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None
        assert relative(parameter.grad, arrays[f"grad.{name}"]) <= 1e-9, name


def test_float32_stays_close_to_golden(arrays: dict[str, Any]) -> None:
    block = golden_block(arrays, torch.float32)
    assert relative(block(torch.tensor(arrays["u"], dtype=torch.float32)), arrays["y"]) <= 2e-5


def test_the_last_state_equals_golden(
    arrays: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Expected: the state of the official block after decoding the sequence token by token.
    states = []

    def watched(*parts: Tensor) -> tuple[Tensor, Tensor]:
        y, state = selective_scan(*parts)
        states.append(state)
        return y, state

    monkeypatch.setattr("neurocli.core.nn.mamba1.selective_scan", watched)
    golden_block(arrays, torch.float64)(torch.tensor(arrays["u"]))
    assert relative(states[0], arrays["ssm_state"]) <= 1e-9


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 64, 100])
@pytest.mark.parametrize("elements", [1, 3000, 1 << 20])
def test_any_length_and_block_equals_a_loop(
    length: int, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Expected: the definition, one token after another, and autograd through it. One element per
    # block means blocks of one chunk; 3000 gives blocks of several.
    monkeypatch.setattr(scan_module, "SELECTIVE_BLOCK_ELEMENTS", elements)
    parts = [part.requires_grad_() for part in inputs(2, length, 5, 3)]
    want, want_state = token_by_token(*parts)
    got, got_state = selective_scan(*parts)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * float(want.detach().abs().max()))
    torch.testing.assert_close(got_state, want_state.detach(), rtol=1e-10, atol=1e-12)
    weights = torch.randn_like(want)
    want_grads = torch.autograd.grad((want * weights).sum(), parts)
    got_grads = torch.autograd.grad((got * weights).sum(), parts)
    for got_grad, want_grad in zip(got_grads, want_grads, strict=True):
        torch.testing.assert_close(got_grad, want_grad, rtol=1e-9, atol=1e-9)


def test_the_blocks_of_this_test_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "SELECTIVE_BLOCK_ELEMENTS", 3000)
    x, _, A, *_ = inputs(2, 100, 5, 3)
    parts = scan_module._parts(x, A)
    assert [part.stop - part.start for part in parts] == [96, 4]
    assert SELECTIVE_CHUNK == 32


def test_gradients_equal_finite_differences() -> None:
    parts = [part.requires_grad_() for part in inputs(1, 35, 2, 2)]
    assert torch.autograd.gradcheck(lambda *given: selective_scan(*given)[0], parts)


def test_strong_decay_and_large_steps_stay_finite() -> None:
    # Expected: finite numbers where exp(-dt A) underflows to 0 within one token.
    x, dt, A, B, C = (part.float() for part in inputs(1, 300, 4, 3))
    parts = [part.requires_grad_() for part in (x, dt * 200, A * 50, B, C)]
    y, state = selective_scan(*parts)
    grads = torch.autograd.grad(y.square().sum(), parts)
    assert all(bool(torch.isfinite(value).all()) for value in (y, state, *grads))


def test_later_tokens_change_nothing_before_them() -> None:
    # Expected: the same sequence cut short; heads rely on it when they pad a batch.
    torch.manual_seed(0)
    block = Mamba1(16, 2).double()
    u = torch.randn(3, 90, 16, dtype=torch.float64)
    longer = torch.cat([u, torch.zeros(3, 40, 16, dtype=torch.float64)], 1)
    torch.testing.assert_close(block(longer)[:, :90], block(u), rtol=1e-12, atol=1e-12)


def test_bfloat16_autocast_scans_in_float32() -> None:
    # Expected: the same block in float32; bfloat16 products alone differ by about 0.4 %.
    torch.manual_seed(0)
    block, u = Mamba1(32, 2), torch.randn(2, 200, 32)
    want = block(u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = block(u)
    assert float(((got.float() - want).norm() / want.norm()).detach()) < 0.02


def test_start_values_are_the_published_ones() -> None:
    # Expected: A = -1..-N, D = 1, step sizes log-uniform in 0.001 to 0.1, projections within the
    # bounds of the rank.
    torch.manual_seed(0)
    block = Mamba1(128, 8)
    assert block.dt_rank == 8
    torch.testing.assert_close(block.A_log.exp(), torch.arange(1.0, 9.0).expand(256, 8))
    assert bool((block.D == 1).all())
    steps = torch.nn.functional.softplus(block.dt_proj.bias.detach())
    assert 1e-3 * 0.99 <= float(steps.min()) < 2e-3 < 5e-2 < float(steps.max()) <= 0.1 * 1.01
    assert float(block.dt_proj.weight.detach().abs().max()) <= 8**-0.5


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(UsageError, match="d_state is 0"):
        Mamba1(16, 0)
    with pytest.raises(ShapeError, match=r"u has shape \(2, 3, 8\)"):
        Mamba1(16)(torch.zeros(2, 3, 8))
    x, dt, A, B, C = inputs(2, 7, 5, 3)
    with pytest.raises(ShapeError, match="A has shape"):
        selective_scan(x, dt, A[:4], B, C)
    with pytest.raises(ShapeError, match="C has shape"):
        selective_scan(x, dt, A, B, C[:, :6])
