"""The norms against golden arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.core.errors import UsageError
from neurocli.core.nn.norms import RMSNorm, RMSNormGated


def relative(got: Tensor, want: Any) -> float:
    want = np.asarray(want)
    return float(np.abs(got.detach().numpy() - want).max() / np.abs(want).max())


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("group_size", [24, 8])
def test_gated_norm_equals_golden(golden: Path, order: int, group_size: int) -> None:
    # Expected: the official gated norm, stored in the golden file.
    arrays = np.load(golden / "rmsnorm_gated_f64.npz")
    norm = RMSNormGated(24, group_size=group_size, norm_before_gate=bool(order)).double()
    norm.weight.data = torch.tensor(arrays["weight"])
    y = norm(torch.tensor(arrays["x"]), torch.tensor(arrays["z"]))
    assert relative(y, arrays[f"y_nbg{order}_group{group_size}"]) <= 1e-12


def test_norms_without_a_gate_equal_golden(golden: Path) -> None:
    # Expected: the official norm without a gate; the plain norm is the same function.
    arrays = np.load(golden / "rmsnorm_gated_f64.npz")
    for norm in (RMSNormGated(24).double(), RMSNorm(24).double()):
        norm.weight.data = torch.tensor(arrays["weight"])
        assert relative(norm(torch.tensor(arrays["x"])), arrays["y_noz"]) <= 1e-12


def test_norms_work_in_float32_inside() -> None:
    # Expected: the float32 norm of the same numbers, rounded once. 300^2 overflows float16.
    x = torch.full((1, 8), 300.0)
    for norm in (RMSNorm(8), RMSNormGated(8)):
        torch.testing.assert_close(norm(x.half()), norm(x).half(), rtol=0, atol=0)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(UsageError, match="group_size 7 does not divide the norm's size 24"):
        RMSNormGated(24, group_size=7)
    with pytest.raises(ValueError, match=r"z has shape \(2, 8\).*x \(3, 8\)"):
        RMSNormGated(8)(torch.zeros(3, 8), torch.zeros(2, 8))
