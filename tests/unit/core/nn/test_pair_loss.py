"""Tiled contrastive losses against the dense formulas that autograd differentiates."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.contrastive import clip_loss
from neurocli.core.nn.pair_loss import pair_loss
from neurocli.core.nn.shapes import ShapeError

N, WIDTH = 23, 6
LABELS = torch.tensor([i % 9 for i in range(N)])


def inputs(dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """Return unit vectors, a scale and a bias that need gradients."""
    torch.manual_seed(seed)
    left, right = (F.normalize(torch.randn(N, WIDTH, dtype=dtype), dim=-1) for _ in range(2))
    found = [left, right, torch.tensor(9.0, dtype=dtype), torch.tensor(-2.0, dtype=dtype)]
    return [value.clone().requires_grad_() for value in found]


def dense(kind: str, values: list[Tensor], labels: Tensor | None) -> Tensor:
    """Return the loss from the whole table of logits."""
    left, right, scale, bias = values
    logits = left @ right.T * scale + bias
    own = torch.arange(N) if labels is None else labels
    same = own[:, None] == own[None, :]
    if kind == "siglip":
        sign = torch.where(same, 1.0, -1.0).to(logits.dtype)
        return -F.logsigmoid(sign * logits).sum() / N
    target = same.to(logits.dtype) / same.sum(1, keepdim=True)
    rows = -(target * logits.log_softmax(1)).sum(1).mean()
    columns = -(target * logits.T.log_softmax(1)).sum(1).mean()
    return (rows + columns) / 2


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("labels", [None, LABELS], ids=["pairs", "classes"])
@pytest.mark.parametrize("tile", [1, 2, 5, 22, 23, 100, None])
def test_value_and_gradients_equal_the_dense_ones(
    kind: str, labels: Tensor | None, tile: int | None
) -> None:
    ours, theirs = inputs(), inputs()
    loss = pair_loss(*ours[:3], kind=kind, bias=ours[3], labels=labels, tile=tile)  # type: ignore[arg-type]
    expected = dense(kind, theirs, labels)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    loss.backward()
    expected.backward()
    for mine, other in zip(ours, theirs, strict=True):
        # A shift of all logits changes nothing in a softmax, so the bias of clip is near 0.
        assert torch.allclose(mine.grad, other.grad, rtol=1e-10, atol=1e-12)  # type: ignore[arg-type]


def test_it_is_the_clip_loss_of_the_house() -> None:
    left, right, scale, _ = inputs()
    expected = clip_loss(left, right, scale)
    found = pair_loss(left, right, scale).detach()
    assert float(found) == pytest.approx(float(expected.detach()), rel=1e-12)


def test_float32_agrees_with_float64() -> None:
    wide, narrow = inputs(), inputs()
    narrow = [value.detach().float().requires_grad_() for value in narrow]
    pair_loss(*wide[:3]).backward()
    pair_loss(*narrow[:3], tile=4).backward()
    for mine, other in zip(narrow[:3], wide[:3], strict=True):
        assert torch.allclose(mine.grad.double(), other.grad, atol=1e-6)  # type: ignore[union-attr]


def test_large_scales_stay_finite() -> None:
    left, right, _, _ = inputs(torch.float32)
    scale = torch.tensor(100.0, requires_grad=True)
    loss = pair_loss(left, right, scale, tile=3)
    loss.backward()
    assert math.isfinite(float(loss))
    assert torch.isfinite(left.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_gradcheck(kind: str) -> None:
    values = inputs(seed=1)
    assert torch.autograd.gradcheck(
        lambda a, b, s, t: pair_loss(a, b, s, kind=kind, bias=t, labels=LABELS, tile=4),  # type: ignore[arg-type]
        values,
    )


def test_labels_that_are_all_different_change_nothing() -> None:
    left, right, scale, _ = inputs()
    labels = torch.arange(N) * 7 + 3
    plain = pair_loss(left, right, scale)
    assert float(pair_loss(left, right, scale, labels=labels)) == pytest.approx(float(plain))


def test_equal_vectors_are_no_negatives_with_labels() -> None:
    # Two people with the same gene vector: as mere pairs the loss cannot go below ln 2 / ... ;
    # with labels perfect vectors reach the entropy of the targets, ln 2.
    vectors = F.normalize(torch.eye(4, dtype=torch.float64)[[0, 0, 1, 1]], dim=-1)
    scale = torch.tensor(100.0, dtype=torch.float64)
    loss = pair_loss(vectors, vectors, scale, labels=torch.tensor([0, 0, 1, 1]))
    assert float(loss) == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize("shapes", [((3, 2), (4, 2)), ((3, 2), (3, 3)), ((0, 2), (0, 2))])
def test_shapes_that_make_no_pairs(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ShapeError, match="make no pairs"):
        pair_loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]), torch.tensor(1.0))
