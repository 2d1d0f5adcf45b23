"""Contrastive losses against golden values, gradients and slow loops."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neurocli.core.nn.contrastive import clip_loss, info_nce, nt_xent, temporal_contrastive
from neurocli.core.nn.shapes import ShapeError


def pairs(n: int = 5, width: int = 6) -> tuple[Tensor, Tensor]:
    gen = torch.Generator().manual_seed(n)
    first, second = torch.randn(2, n, width, generator=gen, dtype=torch.float64)
    return first.requires_grad_(), second.requires_grad_()


@pytest.mark.parametrize("size", ["4_16", "1_8", "7_128"])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_equals_golden(golden: Path, size: str, temperature: float) -> None:
    # Expected: the family's code on the same vectors.
    arrays = np.load(golden / "contrastive_losses.npz")
    first, second = (torch.tensor(arrays[f"{side}_{size}"]) for side in "ab")
    got = float(nt_xent(first, second, temperature))
    assert got == pytest.approx(float(arrays[f"ntxent_{size}_{temperature}"]), rel=1e-5, abs=1e-6)
    got = float(temporal_contrastive(first, second, temperature))
    assert got == pytest.approx(float(arrays[f"gltc_{size}_{temperature}"]), rel=1e-5, abs=1e-6)


def test_pairs_of_one_owner_are_no_negatives() -> None:
    # Expected: the definition written out; pairs 0 and 2 belong to one person.
    first, second = pairs(4)
    owners = [0, 1, 0, 2]
    vectors = torch.cat([first, second]).detach()
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(8):
        partner = (i + 4) % 8
        rivals = [j for j in range(8) if owners[j % 4] != owners[i % 4]]
        similar = {j: float(vectors[i] @ vectors[j]) / 0.2 for j in [*rivals, partner]}
        total += math.log(sum(map(math.exp, similar.values()))) - similar[partner]
    got = nt_xent(first, second, 0.2, owners=torch.tensor(owners))
    assert float(got) == pytest.approx(total / 8, rel=1e-12)


def test_info_nce_and_clip_loss_by_hand() -> None:
    # Expected: two orthonormal queries and keys swapped; logits are 0 on the diagonal, 1/t off it.
    queries, keys = torch.eye(2), torch.eye(2).flip(0)
    want = math.log(1 + math.exp(1 / 0.5))
    assert float(info_nce(queries, keys, 0.5)) == pytest.approx(want, rel=1e-6)
    assert float(clip_loss(3 * queries, keys, 2.0)) == pytest.approx(want, rel=1e-6)


def test_gradients() -> None:
    first, second = pairs(3, 4)
    owners = torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.3, owners=owners), (first, second))
    assert torch.autograd.gradcheck(lambda a, b: temporal_contrastive(a, b, 0.7), (first, second))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.7), (first, second))
    assert torch.autograd.gradcheck(lambda a, b: clip_loss(a, b, 3.0), (first, second))


def test_what_makes_no_pairs_is_refused() -> None:
    first, _ = pairs(3)
    with pytest.raises(ShapeError, match=r"shapes \(3, 6\) and \(2, 6\)"):
        nt_xent(first, first[:2], 0.1)
    with pytest.raises(ShapeError, match="temperature is 0"):
        info_nce(first, first, 0)
