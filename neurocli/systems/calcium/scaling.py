"""The scale of every neuron: mean and standard deviation over the training part alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurocli.systems.calcium.session import Session

_BLOCK = 8192


@dataclass(frozen=True)
class Scaler:
    """Hold what turns traces into scaled ones: x * factor + shift.

    Args:
        factor: Inverse standard deviation (N,).
        shift: Minus the mean, scaled (N,).
    """

    factor: Tensor
    shift: Tensor


def fit_scaler(session: Session) -> Scaler:
    """Return the scale of the neurons of a session, read block by block.

    A neuron that is constant over the training part is left at its mean, 0.

    Args:
        session: The session.
    """
    total = np.zeros(session.n_neurons)
    squares = np.zeros(session.n_neurons)
    count = 0
    # Shifted sums: large offsets would eat the digits of a sum of squares.
    first = session.segments["train"][0]
    origin = session.rows(slice(int(first[0]), int(first[0]) + 1))[0].astype(np.float64)
    for start, stop in session.segments["train"]:
        for at in range(int(start), int(stop), _BLOCK):
            block = session.rows(slice(at, min(at + _BLOCK, int(stop)))).astype(np.float64) - origin
            total += block.sum(0)
            squares += np.square(block).sum(0)
            count += len(block)
    session.release()
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    factor = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0.0)
    shift = -(mean + origin) * factor
    return Scaler(torch.from_numpy(factor).float(), torch.from_numpy(shift).float())
