"""A Mamba-2 block piece by piece: what a piece leaves makes the next one continue it exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neurocli.core.nn.mamba2 import Mamba2
from neurocli.core.nn.sequence_parallel import Border, Carry, SequenceGroup


class Chain(Border):
    """Stand for a border whose other side is in this process: a list holds what was left."""

    def receive(self, tokens: Tensor, empty: Carry) -> tuple[Tensor, Carry]:
        left: list[Carry] = self.group.left  # type: ignore[attr-defined]
        return tokens, left.pop() if left else empty

    def send(self, tokens: Tensor, left: Carry) -> Tensor:
        self.group.left.append(left)  # type: ignore[attr-defined]
        return tokens


def in_pieces(block: Mamba2, u: Tensor, seq_idx: Tensor | None, cuts: list[int]) -> Tensor:
    group = SequenceGroup()
    group.left = []  # type: ignore[attr-defined]
    parts, n_before = [], block.d_conv - 1
    for start, stop in zip([0, *cuts], [*cuts, u.shape[1]], strict=True):
        before = own = None
        if seq_idx is not None:
            places = torch.arange(start - n_before, start).clamp(min=0)
            before, own = seq_idx[:, places], seq_idx[:, start:stop]
        parts.append(block(u[:, start:stop], own, Chain(group, before=before)))
    return torch.cat(parts, 1)


# Cuts leave pieces shorter than the convolution, of one block, and of two blocks (1024 tokens).
@pytest.mark.parametrize("cuts", [[1, 3, 4, 40], [1100]])
@pytest.mark.parametrize("packed", [False, True])
def test_pieces_equal_the_whole(cuts: list[int], packed: bool) -> None:
    # Expected: the same block over the whole sequence.
    torch.manual_seed(0)
    length = cuts[-1] + 30
    block = Mamba2(8, 4, headdim=8, chunk_size=16).double()
    u = torch.randn(1, length, 8, dtype=torch.float64, requires_grad=True)
    seq_idx = None
    if packed:  # a border inside a segment, one where it changes, one a token behind a change
        changes = torch.zeros(length, dtype=torch.int64)
        changes[[2, cuts[-1] - 1, cuts[-1] + 5]] = 1
        seq_idx = changes.cumsum(0).unsqueeze(0)
    weight = torch.randn(1, length, 8, dtype=torch.float64)
    whole, split = block(u, seq_idx), in_pieces(block, u, seq_idx, cuts)
    assert float((whole - split).detach().abs().max()) <= 1e-12
    inputs = [u, *block.parameters()]
    want = torch.autograd.grad((whole * weight).sum(), inputs)
    got = torch.autograd.grad((split * weight).sum(), inputs)
    for one, other in zip(got, want, strict=True):
        assert float((one - other).abs().max()) <= 1e-10 * max(1.0, float(other.abs().max()))
    with torch.no_grad():  # the path without gradients has a kernel of its own
        assert float((in_pieces(block, u, seq_idx, cuts) - whole).abs().max()) <= 1e-12


def test_reduced_precision_carries_wide_states() -> None:
    # Expected: the whole under the same autocast; bfloat16 keeps 8 bits, 2^-8 of the largest value.
    torch.manual_seed(0)
    block, u = Mamba2(8, 4, headdim=8, chunk_size=16), torch.randn(1, 60, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, split = block(u), in_pieces(block, u, None, [2, 31])
    assert split.dtype == torch.bfloat16
    scale = float(whole.detach().abs().max())
    assert float((whole - split).detach().abs().max()) <= 2**-7 * scale
