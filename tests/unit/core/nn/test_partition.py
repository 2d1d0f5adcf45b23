"""The prior loss and its partition: closed forms, slow loops, symmetries, half precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.contrastive import info_nce, nt_xent, prior_info_nce, temporal_contrastive
from neurocli.core.nn.partition import log_partition
from neurocli.core.nn.shapes import ShapeError

KINDS = ("cosine", "euclidean")


def units(*shape: int, seed: int = 0) -> Tensor:
    """Return vectors of unit length in float64."""
    own = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=own, dtype=torch.float64), dim=-1)


def three(n: int = 6, n_neg: int = 9, width: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Return references, positives and negatives."""
    return units(n, width, seed=1), units(n, width, seed=2), units(n_neg, width, seed=3)


def turned(width: int) -> Tensor:
    """Return an orthogonal matrix."""
    own = torch.Generator().manual_seed(9)
    return torch.linalg.qr(torch.randn(width, width, generator=own, dtype=torch.float64))[0]


@pytest.mark.parametrize("scale", [0.5, 1.0, 7.0, 40.0])
def test_one_reference_and_two_negatives_by_hand(scale: float) -> None:
    # phi(ref, pos) = 1, the negatives have cosines 0 and -1: log(1 + e^-s) - s.
    ref = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    neg = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    found = float(prior_info_nce(ref, ref, neg, scale))
    assert found == pytest.approx(math.log(1 + math.exp(-scale)) - scale, abs=1e-12)


def test_squared_distances_by_hand() -> None:
    # |ref - pos|^2 = 25; |ref - neg|^2 = 4 and 1: log(e^-4 + e^-1) + 25.
    ref, pos = torch.zeros(1, 2).double(), torch.tensor([[3.0, 4.0]]).double()
    neg = torch.tensor([[0.0, 2.0], [1.0, 0.0]]).double()
    found = float(prior_info_nce(ref, pos, neg, 1.0, distance="euclidean"))
    assert found == pytest.approx(math.log(math.exp(-4) + math.exp(-1)) + 25, abs=1e-12)


@pytest.mark.parametrize("n_neg", [1, 2, 17])
def test_collapsed_embeddings_lose_the_logarithm_of_the_negatives(n_neg: int) -> None:
    # All vectors equal: every similarity is s, so log(N e^s) - s = log N for cosines, and log N
    # for distances of 0.
    same = units(1, 5).expand(4, 5)
    for kind in KINDS:
        found = prior_info_nce(same, same, same[:1].expand(n_neg, 5), 3.0, distance=kind)
        assert float(found) == pytest.approx(math.log(n_neg), abs=1e-12)


def test_distances_of_unit_vectors_are_cosines_at_twice_the_scale() -> None:
    # -|a - b|^2 = 2 a.b - 2 on the sphere, and the constant cancels.
    ref, pos, neg = three()
    near = prior_info_nce(ref, pos, neg, 0.8, distance="euclidean")
    assert float(near) == pytest.approx(float(prior_info_nce(ref, pos, neg, 1.6)), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_rotation_and_order_change_nothing(kind: str) -> None:
    ref, pos, neg = three()
    plain = float(prior_info_nce(ref, pos, neg, 2.0, distance=kind))
    turn = turned(4)
    spun = prior_info_nce(ref @ turn, pos @ turn, neg @ turn, 2.0, distance=kind)
    assert float(spun) == pytest.approx(plain, abs=1e-12)
    order = torch.randperm(len(ref), generator=torch.Generator().manual_seed(0))
    moved = prior_info_nce(ref[order], pos[order], neg.flip(0), 2.0, distance=kind)
    assert float(moved) == pytest.approx(plain, abs=1e-12)
    # It can fail: positives that are not moved along belong to others.
    assert float(prior_info_nce(ref[order], pos, neg, 2.0, distance=kind)) != pytest.approx(plain)


def test_only_distances_ignore_a_shift() -> None:
    ref, pos, neg = three()
    shift = torch.tensor([5.0, -3.0, 0.5, 2.0]).double()
    moved = tuple(x + shift for x in (ref, pos, neg))
    near = [prior_info_nce(*x, 1.3, distance="euclidean") for x in ((ref, pos, neg), moved)]
    assert float(near[0]) == pytest.approx(float(near[1]), abs=1e-9)
    assert float(prior_info_nce(*moved, 1.3)) != pytest.approx(
        float(prior_info_nce(ref, pos, neg, 1.3))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_doubled_negatives_add_ln_2(kind: str) -> None:
    ref, pos, neg = three()
    plain = prior_info_nce(ref, pos, neg, 2.0, distance=kind)
    twice = prior_info_nce(ref, pos, torch.cat([neg, neg]), 2.0, distance=kind)
    assert float(twice - plain) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sessions_side_by_side_are_the_mean_of_sessions_alone(kind: str) -> None:
    ref, pos, neg = units(3, 5, 4, seed=1), units(3, 5, 4, seed=2), units(3, 7, 4, seed=3)
    alone = [
        float(prior_info_nce(*parts, 1.4, distance=kind))
        for parts in zip(ref, pos, neg, strict=True)
    ]
    found = float(prior_info_nce(ref, pos, neg, 1.4, distance=kind))
    assert found == pytest.approx(float(np.mean(alone)), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.5, 30.0])
def test_gradients_are_those_of_differences(kind: str, scale: float) -> None:
    values = [x.clone().requires_grad_() for x in three(3, 4, 3)]
    assert torch.autograd.gradcheck(
        lambda a, b, c: prior_info_nce(a, b, c, scale, distance=kind), values
    )


def test_a_learned_scale_gets_the_gradient_of_its_formula() -> None:
    # d/ds [mean log sum e^(s c_ij) - s mean c_i+] = mean sum_j p_ij c_ij - mean c_i+.
    ref, pos, neg = three()
    scale = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    prior_info_nce(ref, pos, neg, scale).backward()
    cosine = (ref @ neg.T).numpy()
    share = np.exp(2.5 * cosine) / np.exp(2.5 * cosine).sum(1, keepdims=True)
    expected = (share * cosine).sum(1).mean() - (ref * pos).sum(1).mean().item()
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(expected, abs=1e-12)


def test_a_number_and_a_tensor_as_scale_are_one_loss() -> None:
    ref, pos, neg = three()
    as_tensor = prior_info_nce(ref, pos, neg, torch.tensor(6.0, dtype=torch.float64))
    assert float(prior_info_nce(ref, pos, neg, 6.0)) == pytest.approx(float(as_tensor), abs=1e-12)


@pytest.mark.parametrize("scale", [19.9, 20.0, 20.1])
def test_both_forms_meet_at_the_largest_scale(scale: float) -> None:
    a, b = units(5, 6, seed=4), units(8, 6, seed=5)
    slow = [math.log(sum(math.exp(scale * float(x @ y)) for y in b)) for x in a]
    assert log_partition(a, b, scale).tolist() == pytest.approx(slow, abs=1e-12)


def test_opposite_vectors_at_the_largest_scale_stay_exact_in_float32() -> None:
    # One negative at cosine -1: the logarithm of e^-20 is -20, of a term near the shift's floor.
    a = units(3, 4).float()
    assert log_partition(a[:1], -a[:1], 20.0).item() == pytest.approx(-20.0, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 10.0, 20.0])
def test_autocast_neither_underflows_nor_breaks_gradients(dtype: torch.dtype, scale: float) -> None:
    # exp(-20 - 20) is 0 in float16, whose logarithm was minus infinity; here the loss is finite
    # and within the rounding of the products (2^-8 of a cosine times the scale for bfloat16).
    ref = units(6, 4).float().requires_grad_()
    with torch.autocast("cpu", dtype):
        found = prior_info_nce(ref, -ref.detach(), -ref.detach()[:1], scale)
    found.backward()
    exact = prior_info_nce(ref.detach().double(), -ref.detach(), -ref.detach()[:1].double(), scale)
    assert float(found.detach()) == pytest.approx(float(exact), abs=2 * scale * 2**-8)
    assert ref.grad is not None
    assert torch.isfinite(ref.grad).all()


def test_halves_take_the_plain_form() -> None:
    a, b = units(4, 6, seed=6), units(5, 6, seed=7)
    for dtype in (torch.float16, torch.bfloat16):
        found = log_partition(a.to(dtype), -b.to(dtype), 15.0).double()
        # Cosines are rounded to 2^-8 or better, and fifteen of them weigh on each logarithm.
        assert torch.allclose(found, torch.logsumexp(-15 * a @ b.T, 1), atol=0.3)


@pytest.mark.parametrize(("shapes", "text"), [
    (((4, 3), (5, 3)), r"\(4, 3\) and \(5, 3\) make no pairs"),
    (((0, 3), (0, 3)), "make no pairs"),
    (((3,), (3,)), "make no pairs"),
])  # fmt: skip
def test_shapes_that_make_no_pairs(shapes: tuple[tuple[int, ...], ...], text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        prior_info_nce(torch.zeros(shapes[0]), torch.zeros(shapes[1]), torch.zeros(2, 3), 1.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    x = units(3, 2)
    for loss in (info_nce, nt_xent, temporal_contrastive):
        with pytest.raises(ShapeError, match="expected more than 0"):
            loss(x, x, temperature)


def test_one_pair_has_nothing_to_be_told_from() -> None:
    # A softmax over one entry is 1, so both losses are 0.
    x, y = units(1, 3, seed=1), units(1, 3, seed=2)
    assert float(info_nce(x, y, 0.1)) == 0.0
    assert float(nt_xent(x, y, 0.1)) == 0.0
    # With all pairs of one owner, only the partner is left: 0 again.
    many = units(4, 3)
    assert float(nt_xent(many, many, 0.1, owners=torch.zeros(4, dtype=torch.long))) == 0.0
