"""Contrastive losses against loops over pairs, torch's cross entropy, and values by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.chunked import encode_in_chunks
from neurocli.core.nn.gathered import gather, gathered_loss
from neurocli.core.nn.pair_loss import Kind, pair_loss
from neurocli.core.nn.shapes import ShapeError

N = 9
LABELS = torch.tensor([4, 0, 4, 7, 0, 1, 4, 2, 9])
KINDS: tuple[Kind, Kind] = ("clip", "siglip")


def vectors(seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    left, right = torch.randn(2, N, 5, dtype=torch.float64)
    return F.normalize(left, dim=1), F.normalize(right, dim=1)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def clip_by_loops(left: Tensor, right: Tensor, scale: float, labels: list[int]) -> float:
    """Return the mean of cross entropies of rows and columns, number by number."""
    total = 0.0
    for rows, columns in ((left, right), (right, left)):
        for i in range(len(rows)):
            logits = [scale * float(rows[i] @ columns[j]) for j in range(len(columns))]
            log_sum = math.log(sum(math.exp(x) for x in logits))
            same = [j for j in range(len(labels)) if labels[j] == labels[i]]
            total += sum(log_sum - logits[j] for j in same) / len(same)
    return total / (2 * len(left))


def siglip_by_loops(
    left: Tensor, right: Tensor, scale: float, bias: float, labels: list[int]
) -> float:
    """Return the sum of logistic losses of all pairs over the number of people."""
    total = 0.0
    for i in range(len(left)):
        for j in range(len(right)):
            sign = 1.0 if labels[i] == labels[j] else -1.0
            total += math.log1p(math.exp(-sign * (scale * float(left[i] @ right[j]) + bias)))
    return total / len(left)


@pytest.mark.parametrize("tile", [1, 4, None])
@pytest.mark.parametrize("labels", [None, LABELS], ids=["pairs", "classes"])
def test_clip_equals_loops(labels: Tensor | None, tile: int | None) -> None:
    left, right = vectors()
    known = list(range(N)) if labels is None else labels.tolist()
    found = pair_loss(left, right, number(3.0), labels=labels, tile=tile)
    assert float(found) == pytest.approx(clip_by_loops(left, right, 3.0, known), rel=1e-12)


@pytest.mark.parametrize("tile", [1, 4, None])
@pytest.mark.parametrize("labels", [None, LABELS], ids=["pairs", "classes"])
def test_siglip_equals_loops(labels: Tensor | None, tile: int | None) -> None:
    left, right = vectors()
    known = list(range(N)) if labels is None else labels.tolist()
    found = pair_loss(
        left, right, number(3.0), kind="siglip", bias=number(-1.5), labels=labels, tile=tile
    )
    assert float(found) == pytest.approx(siglip_by_loops(left, right, 3, -1.5, known), rel=1e-12)


def test_clip_is_torchs_cross_entropy_both_ways() -> None:
    left, right = vectors(1)
    logits = 7.0 * left @ right.T
    target = torch.arange(N)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    assert float(pair_loss(left, right, number(7.0))) == pytest.approx(float(expected), rel=1e-12)


def test_equal_vectors_cost_the_log_of_their_number() -> None:
    # All logits are equal, so every softmax is uniform: ln N for CLIP, whatever the scale.
    same = F.normalize(torch.ones(N, 4, dtype=torch.float64), dim=1)
    for scale in (0.5, 30.0):
        assert float(pair_loss(same, same, number(scale))) == pytest.approx(math.log(N))
    # SigLIP with scale 0 and bias 0: N^2 pairs at ln 2 each, over N.
    zero = pair_loss(same, same, number(0.0), kind="siglip")
    assert float(zero) == pytest.approx(N * math.log(2))


def test_a_bias_moves_siglip_alone() -> None:
    left, right = vectors(2)
    for kind, moves in (("clip", False), ("siglip", True)):
        plain, moved = (
            float(pair_loss(left, right, number(2.0), kind=kind, bias=number(b)))  # type: ignore[arg-type]
            for b in (0.0, -4.0)
        )
        assert (abs(plain - moved) > 0.1) is moves


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_in_another_order_have_the_same_loss_and_gradients(kind: Kind) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    found = []
    for at in (torch.arange(N), order):
        left, right = (x.clone().requires_grad_() for x in vectors(3))
        loss = pair_loss(left[at], right[at], number(5.0), kind=kind, labels=LABELS[at], tile=4)
        loss.backward()
        found.append((loss.detach(), left.grad, right.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_labels_mean_nothing(kind: Kind) -> None:
    left, right = vectors(4)
    plain = pair_loss(left, right, number(5.0), kind=kind, labels=LABELS)
    assert torch.equal(plain, pair_loss(left, right, number(5.0), kind=kind, labels=-3 * LABELS))


@pytest.mark.parametrize("kind", KINDS)
def test_the_sides_may_be_swapped(kind: Kind) -> None:
    left, right = vectors(5)
    one = pair_loss(left, right, number(5.0), kind=kind, labels=LABELS)
    other = pair_loss(right, left, number(5.0), kind=kind, labels=LABELS)
    assert float(one) == pytest.approx(float(other), rel=1e-12)


def test_gradients_scale_with_what_comes_after() -> None:
    found = []
    for factor in (1.0, -2.5):
        left, right = (x.clone().requires_grad_() for x in vectors(6))
        scale = number(4.0).requires_grad_()
        (factor * pair_loss(left, right, scale, tile=2)).backward()
        assert left.grad is not None
        assert scale.grad is not None
        found.append((left.grad, scale.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(-2.5 * one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_needs_no_gathering(kind: Kind) -> None:
    left, right = vectors(7)
    assert gather(left) is left
    plain = pair_loss(left, right, number(2.0), kind=kind, labels=LABELS, tile=4)
    assert torch.equal(
        gathered_loss(left, right, number(2.0), kind=kind, labels=LABELS, tile=4), plain
    )
    with pytest.raises(ShapeError, match="make no pairs"):
        gathered_loss(left, right[1:], number(2.0), kind=kind)


def test_chunks_larger_than_the_batch_change_nothing() -> None:
    torch.manual_seed(0)
    model = torch.nn.Bilinear(3, 2, 4).double()

    class Towers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            out = self.inner(x, y)
            return out, out.sin()

    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    whole = Towers()(x, y)
    for chunk in (None, 5, 99):
        for one, other in zip(encode_in_chunks(Towers(), [x, y], chunk), whole, strict=True):
            assert torch.equal(one, other)
