"""Losses of a difference, element by element, by name.

Squares reward the mean and punish outliers most; the others bound what one voxel can weigh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

HUBER_DELTA = 0.1
"""Where Huber's loss turns from squares to lines, as in the family's code."""
CHARBONNIER_EPS = 1e-3
"""Where Charbonnier's loss turns from squares to lines."""
CAUCHY_SCALE = 1.0
"""Difference that Cauchy's loss takes for usual."""


def charbonnier(difference: Tensor) -> Tensor:
    """Return sqrt(d^2 + eps^2): an absolute value without its kink.

    Args:
        difference: d, any shape.

    >>> round(float(charbonnier(torch.tensor(0.0))), 6)
    0.001
    """
    return torch.sqrt(difference.square() + CHARBONNIER_EPS**2)


def cauchy(difference: Tensor) -> Tensor:
    """Return log(1 + (d/c)^2): outliers weigh ever less.

    Args:
        difference: d, any shape.

    >>> round(float(cauchy(torch.tensor(1.0))), 4)
    0.6931
    """
    return torch.log1p((difference / CAUCHY_SCALE).square())


def _huber(difference: Tensor) -> Tensor:
    zero = torch.zeros((), dtype=difference.dtype, device=difference.device)
    return F.huber_loss(difference, zero.expand_as(difference), reduction="none", delta=HUBER_DELTA)


def _smooth_l1(difference: Tensor) -> Tensor:
    zero = torch.zeros((), dtype=difference.dtype, device=difference.device)
    return F.smooth_l1_loss(difference, zero.expand_as(difference), reduction="none")


LOSSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mse": torch.square,
    "l1": torch.abs,
    "smooth_l1": _smooth_l1,
    "huber": _huber,
    "charbonnier": charbonnier,
    "cauchy": cauchy,
}
"""Loss of a difference, element by element, by the name a configuration gives."""
