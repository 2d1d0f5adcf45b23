"""What a Mamba-2 block keeps, joins and leaves out on its way back changes no gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from neurocli.core.nn import norms, ssd_block, ssd_blocks
from neurocli.core.nn.mamba2 import Mamba2, RMSNorm


def block(**changed: Any) -> Mamba2:
    """Return a small float64 block whose weights are all off their start values."""
    torch.manual_seed(3)
    sizes: dict[str, Any] = {"d_model": 16, "d_state": 6, "headdim": 8, "chunk_size": 8} | changed
    mixer = Mamba2(**sizes).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return mixer


def gradients(mixer: Mamba2, u: Tensor, segments: Tensor | None = None) -> list[Tensor]:
    inputs = [u, *mixer.parameters()]
    return list(torch.autograd.grad((mixer(u, segments) * waves(u)).sum(), inputs))


def waves(u: Tensor) -> Tensor:
    """Return a gradient for tokens like u, another for each value."""
    return torch.linspace(-9, 9, u.numel(), dtype=u.dtype).sin().view(u.shape)


def operations(mixer: Mamba2, u: Tensor) -> int:
    """Count the operations of a training step."""
    with FlopCounterMode(display=False) as counter:
        mixer(u).sum().backward()
    return int(counter.get_total_flops())


def assert_equal(got: list[Tensor], want: list[Tensor]) -> None:
    for one, other in zip(got, want, strict=True):
        assert float((one - other).abs().max()) <= 1e-11 * float(other.abs().max())


@pytest.mark.parametrize("changed", [{}, {"ngroups": 2}, {"norm_before_gate": True}])
@pytest.mark.parametrize("packed", [False, True])
def test_kept_states_give_the_gradients_of_states_computed_again(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], packed: bool
) -> None:
    # Expected: the same block that computes them again, which test_mamba2 holds to the slow loop.
    # 150 tokens are three blocks of 64, the last ragged; segments end inside one and at a border.
    monkeypatch.setattr(ssd_blocks, "BLOCK_TOKENS", 64)
    mixer, u = block(**changed), torch.randn(2, 150, 16, dtype=torch.float64, requires_grad=True)
    segments = None
    if packed:
        segments = torch.bucketize(torch.arange(150), torch.tensor([20, 63, 130])).expand(2, -1)
    kept, few = gradients(mixer, u, segments), operations(mixer, u)
    monkeypatch.setattr(ssd_block, "keeps_states", lambda chunk, state: False)
    assert_equal(kept, gradients(mixer, u, segments))
    assert few < operations(mixer, u)  # or neither was kept


def test_blocks_that_threads_share_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Expected: one thread's blocks. 300 tokens are four blocks of 64 and a ragged one of its own.
    monkeypatch.setattr(ssd_blocks, "BLOCK_TOKENS", 64)
    mixer, u = block(), torch.randn(1, 300, 16, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = gradients(mixer, u)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    borders = [(rows.start, rows.stop) for rows in ssd_blocks.row_blocks(u)]
    assert borders == [(0, 128), (128, 256), (256, 300)]
    assert_equal(gradients(mixer, u), alone)


def test_weights_that_are_frozen_get_no_gradient_and_cost_none() -> None:
    # Expected: the gradient of the input is that of the whole block.
    mixer, u = block(), torch.randn(1, 40, 16, dtype=torch.float64, requires_grad=True)
    want = gradients(mixer, u)[0]
    all_of_them = operations(mixer, u)
    mixer.in_proj.weight.requires_grad_(False).grad = None
    # 2 operations per multiply-add of 40 tokens, 16 columns and the rows of z, x, B, C and dt.
    saved = all_of_them - operations(mixer, u)
    assert saved == 2 * 40 * 16 * (32 + 32 + 6 + 6 + 4)
    assert mixer.in_proj.weight.grad is None
    (got,) = torch.autograd.grad((mixer(u) * waves(u)).sum(), [u])
    assert_equal([got], [want])


@pytest.mark.parametrize("cached", [7, 40, 1 << 17])
def test_norms_in_parts_equal_autograd(monkeypatch: pytest.MonkeyPatch, cached: int) -> None:
    # Expected: autograd through x / sqrt(mean(x^2) + eps) * weight, float64; 11 rows of 5 values,
    # one, eight or all of them at a time, read through a transposed view.
    monkeypatch.setattr(norms, "_CACHED", cached)
    torch.manual_seed(0)
    norm = RMSNorm(5).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(1, 5, 11, dtype=torch.float64, requires_grad=True)
    rows, weight = x.mT, torch.randn(1, 11, 5, dtype=torch.float64)
    want = rows / (rows.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight
    got = norm(rows)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    inputs = [x, norm.weight]
    assert_equal(
        list(torch.autograd.grad(got, inputs, weight)),
        list(torch.autograd.grad(want, inputs, weight)),
    )
