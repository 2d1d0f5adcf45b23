"""The Mamba-2 block's choice of scan and its errors; its numbers are in tests/numerics."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from neurocli.core.errors import MissingDependencyError, UsageError
from neurocli.core.nn import mamba2
from neurocli.core.nn.mamba2 import Mamba2, fast_scan_available, head_size
from neurocli.core.nn.ssd import ssd_scan


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Put a stand-in for mamba-ssm in place and return the calls it gets."""
    calls: list[dict[str, Any]] = []

    def scan(*args: Any, **options: Any) -> Any:
        calls.append(options)
        return ssd_scan(*args, **options)

    module = types.ModuleType("mamba_ssm.ops.triton.ssd_combined")
    module.mamba_chunk_scan_combined = scan  # type: ignore[attr-defined]
    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(mamba2, "find_spec", lambda name: object())
    mamba2._fused_scan.cache_clear()
    yield calls
    mamba2._fused_scan.cache_clear()


def test_a_cpu_never_takes_the_fused_scan(fused: list[dict[str, Any]]) -> None:
    block = Mamba2(32, 8, headdim=16)
    assert block.scan_backend is None
    block(torch.randn(1, 5, 32))
    assert (block.scan_backend, fused) == ("torch", [])
    assert not fast_scan_available("cpu")
    assert fast_scan_available("cuda")


class _OnCuda(torch.Tensor):
    """A CPU tensor that says it is on CUDA."""

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True


def test_the_fused_scan_gets_the_same_arguments(fused: list[dict[str, Any]]) -> None:
    # Expected: the torch path; the stand-in runs our scan on whatever arguments it is given.
    block = Mamba2(16, 6, headdim=8)
    u = torch.randn(1, 6, 16)
    seq_idx = torch.tensor([[7, 7, 7, 2, 2, 7]])
    want = block(u, seq_idx)
    got = block(u.as_subclass(_OnCuda), seq_idx)
    assert block.scan_backend == "mamba-ssm"
    torch.testing.assert_close(got.as_subclass(torch.Tensor), want)
    # The kernel counts segments from 0 and wants int32.
    assert fused[0]["seq_idx"].tolist() == [[0, 0, 0, 1, 1, 2]]
    assert fused[0]["seq_idx"].dtype == torch.int32
    block.backend = "torch"
    block(u.as_subclass(_OnCuda), seq_idx)
    assert block.scan_backend == "torch"


def test_float64_stays_in_torch(fused: list[dict[str, Any]]) -> None:
    block = Mamba2(16, 6, headdim=8)
    block._choose_scan(torch.zeros(1, 1, dtype=torch.float64).as_subclass(_OnCuda))
    assert block.scan_backend == "torch"


def test_a_broken_build_is_logged_and_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mamba2, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)  # makes the import fail
    mamba2._fused_scan.cache_clear()
    assert not fast_scan_available("cuda")
    mamba2._fused_scan.cache_clear()
    assert "does not load" in caplog.text


def test_asking_for_an_absent_fused_scan_fails() -> None:
    block = Mamba2(32, 8, headdim=16, backend="mamba-ssm")
    with pytest.raises(MissingDependencyError, match=r"mamba-ssm cannot scan .* on cpu"):
        block(torch.randn(1, 5, 32))


@pytest.mark.parametrize(("d_inner", "size"), [(256, 64), (96, 32), (48, 16), (40, 8), (36, None)])
def test_head_size_is_the_largest_that_divides(d_inner: int, size: int | None) -> None:
    assert head_size(d_inner) == size


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "width": ({"d_model": 24}, "headdim 64 does not divide.* 48", "d_model that fit: 32; "),
    "head": ({"d_model": 80}, "headdim 64 does not divide.* 160", "headdim that fit: 32, 16, 8"),
    "odd": ({"d_model": 3, "headdim": 5}, "does not divide.* 6", "d_model that fit: 5"),
    "groups": ({"d_model": 64, "ngroups": 3}, "ngroups 3 .* the 2 heads", "fit: 1, 2"),
    "zero": ({"d_model": 64, "d_state": 0}, "d_state is 0", ""),
    "backend": ({"d_model": 64, "backend": "cuda"}, "unknown scan backend 'cuda'", "mamba-ssm"),
}


@pytest.mark.parametrize("case", WRONG)
def test_sizes_that_cannot_be_built_are_named(case: str) -> None:
    changed, message, hint = WRONG[case]
    with pytest.raises(UsageError, match=message) as caught:
        Mamba2(**changed)
    assert hint in (caught.value.hint or "")


def test_wrong_inputs_are_named() -> None:
    block = Mamba2(32, 8, headdim=16)
    with pytest.raises(ValueError, match=r"u has shape \(1, 5, 31\).*d_model 32"):
        block(torch.zeros(1, 5, 31))
    with pytest.raises(ValueError, match=r"seq_idx has shape \(5,\)"):
        block(torch.zeros(1, 5, 32), torch.zeros(5, dtype=torch.int64))
    states = block.allocate_states(1)
    with pytest.raises(ValueError, match=r"u has shape \(1, 2, 32\).*token 1"):
        block.step(torch.zeros(1, 2, 32), *states)
    with pytest.raises(ValueError, match="conv_state has shape"):
        block.step(torch.zeros(1, 1, 32), states[0][:, :, 1:], states[1])
    with pytest.raises(ValueError, match="ssm_state has shape"):
        block.step(torch.zeros(1, 1, 32), states[0], states[1][:, 1:])
