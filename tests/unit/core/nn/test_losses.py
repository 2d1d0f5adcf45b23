"""Losses against torch's own and closed values."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from neurocli.core.nn.losses import LOSSES


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("mse", F.mse_loss),
        ("l1", F.l1_loss),
        ("smooth_l1", F.smooth_l1_loss),
        ("huber", lambda a, b: F.huber_loss(a, b, delta=0.1)),
    ],
)
def test_equals_torch(name: str, peer: object) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 50, dtype=torch.float64)
    torch.testing.assert_close(LOSSES[name](a - b).mean(), peer(a, b))  # type: ignore[operator]


def test_charbonnier_and_cauchy_by_hand() -> None:
    # Expected: sqrt(9 + 1e-6) and log(1 + 9).
    three = torch.tensor(3.0, dtype=torch.float64)
    assert float(LOSSES["charbonnier"](three)) == pytest.approx(math.sqrt(9 + 1e-6), rel=1e-12)
    assert float(LOSSES["cauchy"](three)) == pytest.approx(math.log(10), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    values = torch.tensor([-2.0, -0.4, 0.03, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(LOSSES[name], values)
    assert float(LOSSES[name](torch.zeros(()))) == pytest.approx(0, abs=1.1e-3)
