"""The state-space-dual scan against golden arrays and a token-by-token float64 loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scan_calls import both, random_call, relative, slow_scan
from torch import Tensor

from neurocli.core.nn import ssd_blocks
from neurocli.core.nn.ssd import ssd_scan

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
