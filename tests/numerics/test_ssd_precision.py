"""The scan in float32 and below: finite gradients, kept digits, any size of step."""

from __future__ import annotations

import pytest
import torch
from scan_calls import both, random_call, relative, slow_scan
from torch import Tensor

from neurocli.core.nn.ssd import ssd_scan
from neurocli.core.nn.ssd_decays import choose_chunk


@pytest.mark.parametrize("length", [100, 256, 300])
def test_float32_gradients_stay_finite_at_chunk_256(length: int) -> None:
    # Masking after the exponential gives inf * 0 = NaN here; the loop gives the values.
    call = random_call(batch=1, length=length, heads=2, groups=1, dtype=torch.float32)
    call["dt_bias"] = torch.full((2,), 20.0)
    values = [value.requires_grad_() for value in call.values() if isinstance(value, Tensor)]
    y, states = both(call, 256)
    (y.square().sum() + states.sum()).backward()
    assert all(bool(torch.isfinite(value.grad).all()) for value in values)
    assert relative(y, slow_scan(**call)[0].detach()) <= 2e-5


@pytest.mark.parametrize("chunk_size", [16, 64, 256])
def test_small_steps_after_huge_ones_keep_their_digits(chunk_size: int) -> None:
    # Expected: the float64 loop. Sums of log decay reach -40,000 before the small steps begin,
    # where float32 has a spacing of 0.004; the decays that matter differ by less.
    call = random_call(batch=1, length=200, heads=2, groups=1, dtype=torch.float32)
    del call["dt_bias"], call["D"], call["z"]
    call["dt"] = torch.full((1, 200, 2), -6.0)
    call["dt"][:, :100] = 30.0
    call["A"] = torch.tensor([-14.0, -1.0])
    y, states = both(call, chunk_size)
    want_y, want_states = slow_scan(**call)
    tail = slice(100, 200)
    assert relative(y[:, tail], want_y[:, tail]) <= 2e-6
    assert relative(states, want_states) <= 2e-6


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 2e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)],
)
def test_reduced_precision_keeps_a_float32_state(dtype: torch.dtype, tolerance: float) -> None:
    # Expected: the float64 loop over the same rounded inputs; y is rounded again, and bfloat16
    # inputs take bfloat16 products (8 bits), whose sums the state keeps in float32.
    call = random_call(length=150, groups=1, dtype=dtype)
    y, states = both(call, 16)
    want_y, want_states = slow_scan(**call)
    assert (y.dtype, states.dtype) == (dtype, torch.float32)
    assert relative(y.float(), want_y) <= tolerance
    assert relative(states, want_states) <= (5e-3 if dtype == torch.bfloat16 else 2e-6)


def test_autocast_does_not_reach_the_scan() -> None:
    # Expected: the same call outside autocast, bit for bit.
    call = random_call(dtype=torch.float32)
    plain, _ = both(call)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = both(call)
    assert torch.equal(cast, plain)


SCALES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_any_step_size_keeps_the_error(scale: float, packed: bool) -> None:
    # Expected: the float64 loop and its autograd. Published initial step sizes (0.001 to 0.1) and
    # rates (1 to 16), times the scale: from barely any decay to none left after one token.
    gen = torch.Generator().manual_seed(1)
    call = {
        "x": torch.randn(1, 300, 4, 16, generator=gen),
        "dt": torch.rand(1, 300, 4, generator=gen).mul(4.6).sub(6.9).exp() * scale,
        "A": -(1 + 15 * torch.rand(4, generator=gen)),
        "B": torch.randn(1, 300, 1, 8, generator=gen),
        "C": torch.randn(1, 300, 1, 8, generator=gen),
    }
    got = {name: value.clone().requires_grad_() for name, value in call.items()}
    want = {name: value.double().requires_grad_() for name, value in call.items()}
    seq_idx = torch.bucketize(torch.arange(300), torch.tensor([37, 100, 101, 250]))[None]
    options = {"seq_idx": seq_idx} if packed else {}
    y, slow = ssd_scan(**got, chunk_size=64, **options), slow_scan(**want, **options)[0]
    assert relative(y, slow) <= 5e-7
    grad = torch.randn(y.shape, generator=gen)
    y.backward(grad)
    slow.backward(grad.double())
    for name, tolerance in {"x": 1e-6, "B": 1e-6, "C": 1e-6, "dt": 5e-6, "A": 3e-5}.items():
        assert relative(got[name].grad, want[name].grad) <= tolerance, name


def test_strong_decays_take_shorter_chunks() -> None:
    # Expected: |a_end| <= 128 over a chunk, so 64 tokens of -1 fit and 64 of -3 (192) do not; the
    # floor of -20 caps what one token counts, so 4 tokens always fit.
    def chunk(log: float) -> int:
        return choose_chunk(torch.full((1, 256, 2), log), torch.float32, 256)

    assert [chunk(log) for log in (-1.0, -3.0, -7.0, -15.0, -1e6)] == [64, 32, 16, 8, 4]


def test_gradients_of_time_constants_do_not_drown_in_the_skip() -> None:
    # Expected: the float64 run. The skip's share of y is a thousand times the scan's here.
    call = random_call(length=200, groups=1, headdim=16, dtype=torch.float32)
    call["D"] = torch.full((4,), 1e3)
    grads = []
    for dtype in (torch.float32, torch.float64):
        cast = {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in call.items()}
        bias = cast["dt_bias"].requires_grad_()
        y = ssd_scan(**cast, chunk_size=64)
        grads.append(torch.autograd.grad(y, bias, torch.ones_like(y))[0])
    assert relative(grads[0], grads[1]) <= 5e-5
