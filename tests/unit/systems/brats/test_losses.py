"""Losses against MONAI's, against the formulas written out, and their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurocli.systems.brats.blocks import BratsTaskBlock
from neurocli.systems.brats.losses import LOSSES, segmentation_loss, soft_dice


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    truth = torch.randint(0, 4, (2, 6, 5, 7))
    truth[0][truth[0] == 3] = 0  # a class that one sample lacks
    return torch.randn(2, 4, 6, 5, 7), truth


def test_the_names_are_those_of_the_config() -> None:
    import typing

    hints = typing.get_type_hints(BratsTaskBlock)
    assert set(typing.get_args(hints["loss"])) == set(LOSSES)


@pytest.mark.parametrize(("name", "weight"), [("dice5_ce5", 0.5), ("dice7_ce3", 0.7)])
def test_equals_monai(pair: tuple[Tensor, Tensor], name: str, weight: float) -> None:
    from monai.losses import DiceCELoss

    theirs = DiceCELoss(
        softmax=True, to_onehot_y=True, lambda_dice=weight, lambda_ce=1 - weight,
        smooth_nr=1e-5, smooth_dr=1e-5,
    )  # fmt: skip
    logits, truth = pair
    expected = theirs(logits, truth[:, None])
    torch.testing.assert_close(segmentation_loss(name, logits, truth), expected, rtol=1e-6, atol=0)


def test_nnunet_equals_its_formula_and_monai(pair: tuple[Tensor, Tensor]) -> None:
    from monai.losses import DiceCELoss

    logits, truth = pair
    p, t = logits.double().softmax(1), functional.one_hot(truth, 4).movedim(-1, 1).double()
    scores = [
        (2 * (p[:, k] * t[:, k]).sum() + 1e-5) / (p[:, k].sum() + t[:, k].sum() + 1e-5)
        for k in (1, 2, 3)
    ]
    entropy = -(p.log() * t).sum(1).mean()
    expected = entropy + 1 - sum(scores) / 3
    found = segmentation_loss("nnunet", logits, truth)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    theirs = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    assert float(theirs(logits, truth[:, None])) == pytest.approx(float(expected), rel=1e-5)


def test_squared_probabilities_punish_doubt() -> None:
    # One voxel of class 1 with p = 1/2: plain 2*0.5/(0.5+1), squared 2*0.25/(0.25+1).
    logits, truth = torch.zeros(1, 2, 1, 1, 1), torch.ones(1, 1, 1, 1, dtype=torch.long)
    plain = soft_dice(logits, truth, with_background=False)
    squared = soft_dice(logits, truth, squared=True, with_background=False)
    assert float(plain) == pytest.approx(2 / 3, abs=1e-4)
    assert float(squared) == pytest.approx(0.4, abs=1e-4)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients(name: str) -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 4, 3, 2, 2, requires_grad=True)
    truth = torch.randint(0, 4, (2, 3, 2, 2))
    loss = segmentation_loss(name, logits, truth)
    (slope,) = torch.autograd.grad(loss, logits)
    step = 1e-2
    for place in [(0, 1, 0, 0, 0), (1, 3, 2, 1, 1)]:
        shifted = [logits.detach().clone() for _ in range(2)]
        shifted[0][place] += step
        shifted[1][place] -= step
        up, down = (segmentation_loss(name, x, truth) for x in shifted)
        assert float(slope[place]) == pytest.approx(float(up - down) / (2 * step), abs=2e-4)


def test_deep_supervision_weighs_levels_and_leaves_the_lowest_out(
    pair: tuple[Tensor, Tensor],
) -> None:
    logits, truth = pair
    levels = [logits, logits[..., ::2, ::2, ::2], torch.full((2, 4, 2, 2, 2), torch.nan)]
    # The nearest voxel of (6, 5, 7) on a grid of (3, 3, 4), as nearest-exact places it.
    where = [torch.arange(m).add(0.5).mul(n / m).long() for n, m in ((6, 3), (5, 3), (7, 4))]
    small = truth[:, where[0]][:, :, where[1]][:, :, :, where[2]]
    fine, coarse = (segmentation_loss("nnunet", *x) for x in ((logits, truth), (levels[1], small)))
    found = segmentation_loss("nnunet", levels, truth)
    torch.testing.assert_close(found, (fine + 0.5 * coarse) / 1.5)


def test_a_perfect_answer_costs_nothing(pair: tuple[Tensor, Tensor]) -> None:
    truth = pair[1]
    logits = 50 * functional.one_hot(truth, 4).movedim(-1, 1).float()
    for name in LOSSES:
        assert float(segmentation_loss(name, logits, truth)) < 0.01
