"""Which neurons an embedding follows: the Jacobian of outputs by inputs, and its pseudo-inverse.

A neuron's score is the mean over windows of the norm of its part of the Jacobian, over frames and
outputs; the inverse score uses the pseudo-inverse of each window's Jacobian summed over frames,
which discounts neurons that only share what others carry.

Letters: B windows, L frames, N neurons, D outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurocli.systems.calcium.models.encoder import SessionEncoders


@dataclass(frozen=True)
class Attribution:
    """Hold one score per neuron (N,), by the Jacobian and by its pseudo-inverse."""

    jacobian: Tensor
    inverse: Tensor


def jacobian(model: SessionEncoders, windows: Tensor, session: int = 0) -> Tensor:
    """Return the derivative of every output by every input (B, D, L, N).

    Args:
        model: In evaluation mode.
        windows: Scaled traces (B, L, N).
        session: Which session's input layer.
    """
    with torch.enable_grad():
        inputs = windows.detach().requires_grad_(True)
        outputs = model(inputs, session)
        # Windows do not meet in the encoder, so one sum per output gives all their gradients.
        rows = [
            torch.autograd.grad(outputs[:, d].sum(), inputs, retain_graph=True)[0]
            for d in range(outputs.shape[1])
        ]
    return torch.stack(rows, dim=1)


def attribute(model: SessionEncoders, windows: Tensor, session: int = 0) -> Attribution:
    """Return how much the embedding follows each neuron.

    Args:
        model: In evaluation mode.
        windows: Scaled traces (B, L, N).
        session: Which session's input layer.
    """
    found = jacobian(model, windows, session)
    over_time = found.sum(2)  # (B, D, N): a change that lasts the whole window
    inverse = torch.linalg.pinv(over_time, rtol=1e-3)
    return Attribution(found.square().sum((1, 2)).sqrt().mean(0), inverse.norm(dim=2).mean(0))
