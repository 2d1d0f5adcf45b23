"""The Mamba-2 block against golden arrays and a plain loop, step by step, packed, in bfloat16."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.core.nn import mamba2, ssd_blocks
from neurocli.core.nn.mamba2 import Mamba2
from neurocli.core.nn.mamba2_fused import fused_block

GOLDEN = [
    "mamba2_a_basic_f64",
    "mamba2_c_embed64_defaults_f32",
    "mamba2_e_normbeforegate_f64",
]


def load(path: Path) -> tuple[dict[str, Any], Mamba2]:
    """Return a golden file's arrays and the block it holds."""
    arrays = dict(np.load(path))
    config = {key[4:]: value.item() for key, value in arrays.items() if key.startswith("cfg.")}
    block = Mamba2(**config).to(torch.tensor(arrays["u"]).dtype)
    weights = {key[2:]: torch.tensor(v) for key, v in arrays.items() if key.startswith("w.")}
    block.load_state_dict(weights)
    return arrays, block


def relative(got: Tensor, want: Any) -> float:
    want = np.asarray(want)
    return float(np.abs(got.detach().numpy() - want).max() / np.abs(want).max())


def small_block(**changed: Any) -> Mamba2:
    """Return a small float64 block with weights that are all off their start values."""
    torch.manual_seed(3)
    sizes: dict[str, Any] = {"d_model": 16, "d_state": 6, "headdim": 8, "chunk_size": 4} | changed
    block = Mamba2(**sizes).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block


def slow_block(block: Mamba2, u: Tensor) -> Tensor:
    """Run the block token by token with plain loops (float64), straight from its definition."""
    d_inner, n_grouped = block.d_inner, block.ngroups * block.d_state
    batch, length, _ = u.shape
    projected = u @ block.in_proj.weight.T
    z, xBC, dt = projected.split([d_inner, d_inner + 2 * n_grouped, block.nheads], -1)
    taps = block.conv1d.weight[:, 0]
    outputs = []
    state = torch.zeros(batch, block.nheads, block.headdim, block.d_state, dtype=u.dtype)
    for t in range(length):
        mixed = block.conv1d.bias.expand(batch, -1)
        for lag in range(block.d_conv):
            if t - lag >= 0:
                mixed = mixed + xBC[:, t - lag] * taps[:, block.d_conv - 1 - lag]
        mixed = mixed * torch.sigmoid(mixed)
        x, B, C = mixed.split([d_inner, n_grouped, n_grouped], -1)
        x = x.view(batch, block.nheads, block.headdim)
        group = torch.arange(block.nheads) // (block.nheads // block.ngroups)
        B, C = (m.view(batch, block.ngroups, -1)[:, group] for m in (B, C))
        step = torch.log1p(torch.exp(dt[:, t] + block.dt_bias)).clamp(*block.dt_limit)
        decay = torch.exp(-step * torch.exp(block.A_log))
        state = state * decay[..., None, None] + (step[..., None] * x)[..., None] * B[:, :, None]
        skip = block.D.view(block.nheads, -1)
        y = ((state * C[:, :, None]).sum(-1) + skip * x).flatten(1)
        gate = z[:, t] * torch.sigmoid(z[:, t])
        y = y if block.norm.norm_before_gate else y * gate
        grouped = y.view(batch, block.ngroups, -1)
        y = (grouped / (grouped.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(1)
        y = y * block.norm.weight
        y = y * gate if block.norm.norm_before_gate else y
        outputs.append(y @ block.out_proj.weight.T)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_equals_golden(golden: Path, name: str, chunk_size: int | None) -> None:
    # Expected: the official block, outputs and all gradients, stored in the golden file.
    arrays, block = load(golden / f"{name}.npz")
    block.chunk_size = chunk_size or block.chunk_size
    u = torch.tensor(arrays["u"]).requires_grad_()
    y = block(u)
    y.backward(torch.tensor(arrays["grad_y"]))
    is_double = name.endswith("f64")
    assert relative(y, arrays["y"]) <= (1e-10 if is_double else 2e-5)
    grads = {"u": (u.grad, arrays["grad_u"])}
    grads |= {n: (p.grad, arrays[f"grad.{n}"]) for n, p in block.named_parameters()}
    for key, (got, want) in grads.items():
        assert relative(got, want) <= (1e-9 if is_double else 2e-5), key


@pytest.mark.parametrize("name", GOLDEN[:2])
def test_steps_equal_golden(golden: Path, name: str) -> None:
    # Expected: the official block's decode and its states, and its parallel pass.
    arrays, block = load(golden / f"{name}.npz")
    u = torch.tensor(arrays["u"])
    states = block.allocate_states(u.shape[0])
    outputs = []
    with torch.no_grad():
        for token in u.split(1, dim=1):
            y, *states = block.step(token, *states)
            outputs.append(y)
    tolerance = 1e-10 if name.endswith("f64") else 2e-5
    stepped = torch.cat(outputs, 1)
    assert relative(stepped, arrays["y_step"]) <= tolerance
    assert relative(stepped, arrays["y"]) <= tolerance
    assert relative(states[0], arrays["conv_state"]) <= tolerance
    assert relative(states[1], arrays["ssm_state"]) <= tolerance


def test_step_updates_its_states_in_place() -> None:
    block = small_block()
    states = block.allocate_states(2)
    with torch.no_grad():
        _, *returned = block.step(torch.randn(2, 1, 16, dtype=torch.float64), *states)
    assert all(new is old for new, old in zip(returned, states, strict=True))
    assert all(bool(state.any()) for state in states)


@pytest.mark.parametrize("name", GOLDEN)
def test_state_dict_has_the_official_names_and_shapes(golden: Path, name: str) -> None:
    arrays, block = load(golden / f"{name}.npz")
    ours = {f"w.{key}": tuple(value.shape) for key, value in block.state_dict().items()}
    assert ours == {key: v.shape for key, v in arrays.items() if key.startswith("w.")}


VARIANTS: list[dict[str, Any]] = [
    {"ngroups": 2},
    {"ngroups": 4, "norm_before_gate": True},
    {"d_conv": 2},
    {"d_conv": 6, "expand": 3},
    {"D_has_hdim": True},
    {"dt_limit": (0.01, 0.05)},
    {"headdim": 32},
    {"headdim": 1},
]


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_every_variant_equals_the_loop(changed: dict[str, Any]) -> None:
    # Expected: the float64 loop above; then decoding token by token.
    block = small_block(**changed)
    u = torch.randn(2, 11, 16, dtype=torch.float64)
    y = block(u)
    assert relative(y, slow_block(block, u).detach()) <= 1e-12
    states = block.allocate_states(2)
    with torch.no_grad():
        stepped = torch.cat([block.step(token, *states)[0] for token in u.split(1, 1)], 1)
    assert relative(stepped, y.detach()) <= 1e-12


@pytest.mark.parametrize("length", [1, 2, 3])
def test_sequences_shorter_than_the_convolution(length: int) -> None:
    # Expected: the float64 loop.
    block = small_block()
    u = torch.randn(1, length, 16, dtype=torch.float64)
    assert relative(block(u), slow_block(block, u).detach()) <= 1e-12


@pytest.mark.parametrize("pieces", [[4, 9, 1, 1, 7], [1, 1, 1], [8, 8]])
def test_packed_samples_equal_separate_ones(pieces: list[int]) -> None:
    # Expected: each piece through the block alone, values and gradients: neither the state nor
    # the convolution may cross a border.
    block = small_block(ngroups=2)
    u = torch.randn(1, sum(pieces), 16, dtype=torch.float64, requires_grad=True)
    numbers = torch.arange(len(pieces)).flip(0)
    seq_idx = torch.repeat_interleave(numbers, torch.tensor(pieces)).unsqueeze(0)
    packed = block(u, seq_idx)
    alone = torch.cat([block(part) for part in u.split(pieces, 1)], 1)
    assert relative(packed, alone.detach()) <= 1e-12
    grads = [torch.autograd.grad(y.sin().sum(), u)[0] for y in (packed, alone)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-11, atol=1e-12)
    assert relative(block(u), alone.detach()) > 1e-3


def test_a_segment_value_that_comes_back_is_a_new_segment() -> None:
    # Expected: the same borders under fresh numbers.
    block = small_block()
    u = torch.randn(1, 5, 16, dtype=torch.float64)
    back = block(u, torch.tensor([[0, 0, 1, 0, 0]]))
    fresh = block(u, torch.tensor([[0, 0, 1, 2, 2]]))
    assert torch.equal(back, fresh)


def test_gradcheck() -> None:
    # Expected: finite differences in the input and every parameter, with a packed border.
    block = small_block(d_model=4, headdim=4, d_state=2)
    u = torch.randn(1, 6, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in block.named_parameters()]
    seq_idx = torch.tensor([[0, 0, 0, 0, 1, 1]])

    def run(u: Tensor, *values: Tensor) -> Tensor:
        weights = dict(zip(names, values, strict=True))
        return torch.func.functional_call(block, weights, (u, seq_idx))

    assert torch.autograd.gradcheck(run, (u, *block.parameters()))


def test_parameter_count_follows_the_formula() -> None:
    # Expected: E(4E + 2N + H) + 5(2E + 2N) + 3H + 2E + 2E*E, the published block's count.
    width, state, heads = 128, 32, 4
    block = Mamba2(width, state)
    want = width * (4 * width + 2 * state + heads) + 5 * (2 * width + 2 * state)
    want += 3 * heads + 2 * width + 2 * width * width
    assert sum(parameter.numel() for parameter in block.parameters()) == want


def test_start_values_are_the_official_ones() -> None:
    # Expected: A uniform in 1..16, softplus(dt_bias) in 0.001..0.1 (log-uniform), D = 1.
    torch.manual_seed(0)
    block = Mamba2(1024, headdim=1)
    rates = block.A_log.detach().exp()
    steps = torch.nn.functional.softplus(block.dt_bias.detach())
    assert float(rates.min()) >= 1.0
    assert float(rates.max()) <= 16.0
    assert float(rates.mean()) == pytest.approx(8.5, abs=0.5)
    assert float(steps.min()) >= 0.99e-3
    assert float(steps.max()) <= 0.101
    assert float(steps.log().mean()) == pytest.approx(math.log(0.01), abs=0.1)
    assert torch.equal(block.D, torch.ones(2048))
    marked = {name for name, p in block.named_parameters() if hasattr(p, "_no_weight_decay")}
    assert marked == {"dt_bias", "A_log", "D"}


def test_bfloat16_autocast_stays_near_float32() -> None:
    # Expected: the same block in float32; the bar is 2 %.
    torch.manual_seed(0)
    block = Mamba2(64, 16, chunk_size=32)
    u = torch.randn(2, 200, 64)
    want = block(u)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(u)
        loss = y.float().square().mean()
    loss.backward()
    assert y.dtype == torch.bfloat16
    assert relative(y.float(), want.detach()) <= 0.02
    assert all(bool(torch.isfinite(p.grad).all()) for p in block.parameters())


def test_the_scan_gets_float32_rates_and_steps_in_a_bfloat16_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Time constants in bfloat16 would lose the decays.
    seen: list[torch.dtype] = []

    def spy(u: Tensor, projections: Any, weights: Any, *args: Any) -> Any:
        seen.extend(part.dtype for part in weights)
        return fused_block(u, projections, weights, *args)

    monkeypatch.setattr(mamba2, "fused_block", spy)
    y = Mamba2(32, 8, headdim=16).bfloat16()(torch.randn(1, 9, 32).bfloat16())
    assert (set(seen), y.dtype) == ({torch.float32}, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("packed", [False, True])
def test_streaming_equals_the_training_path(dtype: torch.dtype, packed: bool) -> None:
    # Expected: the pass that keeps what gradients need. 2500 tokens are three blocks, the last
    # ragged; segments end inside blocks and near their borders.
    block = small_block().to(dtype)
    u = torch.randn(2, 2500, 16, dtype=dtype)
    segments = None
    if packed:
        segments = torch.bucketize(torch.arange(2500), torch.tensor([5, 511, 512, 1025, 2400]))
        segments = segments.expand(2, -1)
    want = block(u, segments)
    with torch.no_grad():
        got = block(u, segments)
    torch.testing.assert_close(
        got, want.detach(), rtol=0, atol=1e-12 if dtype.itemsize == 8 else 2e-6
    )


@pytest.mark.parametrize("changed", [{}, {"ngroups": 2}, {"norm_before_gate": True}])
def test_gradients_over_several_blocks_equal_autograd(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    # Expected: autograd through the slow loop, in float64. Blocks of 64 tokens, 150 tokens.
    monkeypatch.setattr(ssd_blocks, "BLOCK_TOKENS", 64)
    block = small_block(**changed)
    u = torch.randn(1, 150, 16, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(1, 150, 16, dtype=torch.float64)
    inputs = [u, *block.parameters()]
    got = torch.autograd.grad(block(u), inputs, grad)
    want = torch.autograd.grad(slow_block(block, u), inputs, grad)
    for mine, theirs in zip(got, want, strict=True):
        assert relative(mine, theirs.numpy()) <= 1e-9
