"""The state-space-dual scan against golden arrays and a token-by-token float64 loop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.core.nn import ssd_blocks
from neurocli.core.nn.ssd import ssd_scan
from neurocli.core.nn.ssd_decays import choose_chunk

GOLDEN = [
    "ssd_01_plain_f32",
    "ssd_02_ragged_full_f64",
    "ssd_03_dhp_grads_f64",
    "ssd_05_single_token_f64",
    "ssd_06_strong_decay_f32",
    "ssd_08_dt_limit_f64",
    "ssd_10_ragged_f32",
]
OPTIONS = {"D": "D", "z": "z", "dt_bias": "dt_bias", "initial_state": "initial_states"}


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a golden file's arrays and the call it stands for."""
    arrays = dict(np.load(path))
    names = ["x", "dt", "A", "B", "C", *(name for name in OPTIONS if name in arrays)]
    call: dict[str, Any] = {
        OPTIONS.get(name, name): torch.tensor(arrays[name]).requires_grad_() for name in names
    }
    call |= {"dt_softplus": bool(arrays["dt_softplus"]), "chunk_size": int(arrays["chunk_size"])}
    if "dt_limit" in arrays:
        call["dt_limit"] = tuple(arrays["dt_limit"].tolist())
    return arrays, call


def relative(got: Tensor, want: Any) -> float:
    want = np.asarray(want.detach() if isinstance(want, Tensor) else want)
    return float(np.abs(got.detach().numpy() - want).max() / max(np.abs(want).max(), 1e-30))


def slow_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """Step through h_t = exp(dt A) h_{t-1} + dt x B^T, y_t = h C in float64, head by head."""
    batch, length, n_heads, headdim = x.shape
    per_group = n_heads // B.shape[2]
    steps = dt.double()
    if options.get("dt_bias") is not None:
        steps = steps + options["dt_bias"].double()
    if options.get("dt_softplus"):
        steps = torch.log1p(torch.exp(-steps.abs())) + steps.clamp(min=0)
    steps = steps.clamp(*options.get("dt_limit", (0.0, math.inf)))
    seq_idx = options.get("seq_idx")
    y = torch.zeros(x.shape, dtype=torch.float64)
    final = torch.zeros(batch, n_heads, headdim, B.shape[3], dtype=torch.float64)
    for b in range(batch):
        for h in range(n_heads):
            state = torch.zeros(headdim, B.shape[3], dtype=torch.float64)
            if options.get("initial_states") is not None:
                state = options["initial_states"][b, h].double()
            for t in range(length):
                if seq_idx is not None and t and seq_idx[b, t] != seq_idx[b, t - 1]:
                    state = torch.zeros_like(state)
                step, group = steps[b, t, h], h // per_group
                added = torch.outer(x[b, t, h].double(), B[b, t, group].double()) * step
                state = torch.exp(step * A[h].double()) * state + added
                y[b, t, h] = state @ C[b, t, group].double()
            final[b, h] = state
    D = options.get("D")
    if D is not None:
        y = y + x.double() * (D if D.ndim == 2 else D.unsqueeze(-1)).double()
    if options.get("z") is not None:
        z = options["z"].double()
        y = y * z * torch.sigmoid(z)
    return y, final


def random_call(
    batch: int = 2, length: int = 23, heads: int = 4, headdim: int = 3, *, groups: int = 2,
    state: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64,
) -> dict[str, Any]:  # fmt: skip
    """Return inputs in the range that a Mamba-2 block makes."""
    gen = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, dtype=torch.float64).to(dtype)

    return {
        "x": normal(batch, length, heads, headdim),
        "dt": normal(batch, length, heads),
        "A": -torch.rand(heads, generator=gen, dtype=torch.float64).mul(15).add(1).to(dtype),
        "B": normal(batch, length, groups, state),
        "C": normal(batch, length, groups, state),
        "D": normal(heads),
        "z": normal(batch, length, heads, headdim),
        "dt_bias": normal(heads) - 3,
        "initial_states": normal(batch, heads, headdim, state),
        "dt_softplus": True,
    }


def both(call: dict[str, Any], chunk_size: int = 8) -> tuple[Tensor, Tensor]:
    result = ssd_scan(**call, chunk_size=chunk_size, return_final_states=True)
    assert isinstance(result, tuple)
    return result


@pytest.mark.parametrize("name", GOLDEN)
def test_equals_golden(golden: Path, name: str) -> None:
    # Expected: a token-by-token reference, stored in the golden file.
    arrays, call = load(golden / f"{name}.npz")
    y, states = ssd_scan(**call, return_final_states=True)
    is_double = name.endswith("f64")
    assert relative(y, arrays["y"]) <= (1e-10 if is_double else 2e-5)
    assert relative(states, arrays["final_state"]) <= (1e-9 if is_double else 2e-5)
    assert y.dtype == call["x"].dtype


@pytest.mark.parametrize("name", [n for n in GOLDEN if n[4:6] in ("02", "03", "05")])
@pytest.mark.parametrize("chunk_size", [None, 1, 7, 512])
def test_gradients_equal_golden(golden: Path, name: str, chunk_size: int | None) -> None:
    # Expected: autograd of the token-by-token reference, stored in the golden file.
    arrays, call = load(golden / f"{name}.npz")
    if chunk_size is not None:
        call["chunk_size"] = chunk_size
    outputs = ssd_scan(**call, return_final_states=True)
    grads = [torch.tensor(arrays[f"grad_{key}"]) for key in ("y", "final_state")]
    torch.autograd.backward(outputs, grads)
    for name, argument in {**{n: n for n in ("x", "dt", "A", "B", "C")}, **OPTIONS}.items():
        if f"grad_{name}" in arrays:
            np.testing.assert_allclose(
                call[argument].grad.numpy(), arrays[f"grad_{name}"], rtol=1e-9, atol=1e-9
            )


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 8, 16, 23, 24, 64, 100, 255, 512])
def test_result_does_not_depend_on_the_chunk(chunk_size: int) -> None:
    # Expected: the float64 loop.
    call = random_call()
    want_y, want_states = slow_scan(**call)
    y, states = both(call, chunk_size)
    assert relative(y, want_y) <= 1e-12
    assert relative(states, want_states) <= 1e-12


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 64, 65])
def test_any_length(length: int) -> None:
    # Expected: the float64 loop.
    call = random_call(batch=1, length=length, heads=2, groups=1)
    y, states = both(call)
    want_y, want_states = slow_scan(**call)
    assert relative(y, want_y) <= 1e-12
    assert relative(states, want_states) <= 1e-12


@pytest.mark.parametrize(("heads", "groups"), [(6, 1), (6, 2), (6, 3), (6, 6), (1, 1)])
def test_groups_and_heads(heads: int, groups: int) -> None:
    # Expected: the float64 loop, in which head h reads group h // (H/G).
    call = random_call(length=19, heads=heads, groups=groups)
    assert relative(both(call)[0], slow_scan(**call)[0]) <= 1e-12


@pytest.mark.parametrize(
    "dropped",
    [("D",), ("z",), ("dt_bias",), ("initial_states",), ("D", "z", "dt_bias", "initial_states")],
)
def test_every_option_may_be_left_out(dropped: tuple[str, ...]) -> None:
    # Expected: the float64 loop.
    call = {key: value for key, value in random_call().items() if key not in dropped}
    assert relative(both(call)[0], slow_scan(**call)[0]) <= 1e-12


@pytest.mark.parametrize(
    "changed",
    [
        {"D": torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3)},
        {"dt_softplus": False},  # negative steps are clamped to 0 by the default limit
        {"dt_limit": (0.02, 0.06)},
    ],
    ids=["skip per channel", "no softplus", "limit"],
)
def test_options_change_the_result_as_in_the_loop(changed: dict[str, Any]) -> None:
    call = random_call() | changed
    for got, want, plain in zip(both(call), slow_scan(**call), both(random_call()), strict=True):
        assert relative(got, want) <= 1e-12
        assert "D" in changed or relative(got, plain) > 1e-3


SEGMENTS = {
    "rising": [0] * 5 + [1] * 9 + [2] * 9,
    "at chunk borders": [0] * 8 + [1] * 8 + [2] * 7,
    "single tokens": list(range(23)),
    "value comes back": [4] * 3 + [1] * 2 + [4] * 10 + [0] * 8,
    "within one chunk": [0, 1, 1, 2, 0] + [5] * 18,
    "one segment": [3] * 23,
}


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("chunk_size", [1, 4, 8, 64])
def test_state_restarts_where_the_segment_changes(name: str, chunk_size: int) -> None:
    # Expected: the float64 loop; the second row has other borders than the first.
    rows = [SEGMENTS[name], SEGMENTS[name][::-1]]
    call = random_call() | {"seq_idx": torch.tensor(rows)}
    y, states = both(call, chunk_size)
    want_y, want_states = slow_scan(**call)
    assert relative(y, want_y) <= 1e-12
    assert relative(states, want_states) <= 1e-12


def test_packed_sequences_equal_separate_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    # Expected: our own scan of each piece; blocks are made tiny, so borders meet block borders.
    monkeypatch.setattr(ssd_blocks, "BLOCK_TOKENS", 1)
    call = random_call(batch=1, length=40)
    del call["initial_states"]
    pieces = [11, 5, 1, 23]
    seq_idx = torch.repeat_interleave(torch.arange(4), torch.tensor(pieces)).unsqueeze(0)
    packed, _ = both(call | {"seq_idx": seq_idx}, 4)
    start = 0
    for length in pieces:
        part = {
            key: value[:, start : start + length] if key in ("x", "dt", "B", "C", "z") else value
            for key, value in call.items()
        }
        alone, _ = both(part, 4)
        assert relative(packed[:, start : start + length], alone) <= 1e-13
        start += length


@pytest.mark.parametrize("chunk_size", [1, 4, 5])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk_size: int) -> None:
    # Expected: the same call in one block; outputs and every gradient.
    seq_idx = torch.tensor([[0] * 9 + [1] * 14, [0] * 20 + [2] * 3])
    results = []
    for limit in (1, 1 << 20):
        monkeypatch.setattr(ssd_blocks, "BLOCK_TOKENS", limit)
        call = random_call()
        floats = [value.requires_grad_() for value in call.values() if isinstance(value, Tensor)]
        y, states = both(call | {"seq_idx": seq_idx}, chunk_size)
        (y.sin().sum() + states.cos().sum()).backward()
        results.append([y.detach(), states.detach(), *(value.grad for value in floats)])
    for many, one in zip(*results, strict=True):
        torch.testing.assert_close(many, one, rtol=1e-12, atol=1e-12)


def test_a_scan_may_be_continued() -> None:
    # Expected: the scan in one go.
    call = random_call(length=30)
    y, states = both(call)
    halves = []
    carried = call["initial_states"]
    for part in (slice(0, 13), slice(13, 30)):
        piece = {k: v[:, part] if k in ("x", "dt", "B", "C", "z") else v for k, v in call.items()}
        half, carried = both(piece | {"initial_states": carried})
        halves.append(half)
    assert relative(torch.cat(halves, 1), y) <= 1e-12
    assert relative(carried, states) <= 1e-12


@pytest.mark.parametrize("packed", [False, True])
def test_gradcheck(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    # Expected: finite differences, in every float input, over several blocks.
    monkeypatch.setattr(ssd_blocks, "BLOCK_TOKENS", 1)
    call = random_call(batch=1, length=7, heads=2, headdim=2, groups=1, state=2)
    names = [name for name, value in call.items() if isinstance(value, Tensor)]
    options: dict[str, Any] = {"dt_softplus": True}
    if packed:
        options["seq_idx"] = torch.tensor([[0, 0, 1, 1, 1, 2, 2]])

    def scan(*values: Tensor) -> tuple[Tensor, Tensor]:
        return both(dict(zip(names, values, strict=True)) | options, 3)

    assert torch.autograd.gradcheck(scan, [call[name].requires_grad_() for name in names])


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


def test_a_row_does_not_feel_the_other_rows() -> None:
    # Expected: the row alone.
    call = random_call(batch=3, dtype=torch.float32)
    y, _ = both(call)
    batched = ("x", "dt", "B", "C", "z", "initial_states")
    alone, _ = both({k: v[1:2] if k in batched else v for k, v in call.items()})
    assert relative(y[1:2], alone.numpy()) <= 1e-6


def test_later_tokens_do_not_reach_earlier_ones() -> None:
    # Expected: exactly no gradient from the past to the future, over chunk and block borders.
    call = random_call(length=20)
    call["x"].requires_grad_()
    both(call, 4)[0][:, :11].sum().backward()
    assert torch.equal(call["x"].grad[:, 11:], torch.zeros(2, 9, 4, 3, dtype=torch.float64))


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
