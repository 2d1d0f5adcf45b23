"""The scale of every neuron, learned on the training part alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurocli.systems.calcium.session import Session

Float = npt.NDArray[np.float64]
_BLOCK = 8192
_NEURONS = 64  # whose training frames are in memory together
# Of a normal distribution the standard deviation is so many times the median deviation.
_PER_MAD = 1.4826022185056018


@dataclass(frozen=True)
class Scaler:
    """Hold what turns traces into scaled ones: x * factor + shift.

    Args:
        factor: Inverse standard deviation (N,).
        shift: Minus the mean, scaled (N,).
    """

    factor: Tensor
    shift: Tensor


def fit_scaler(session: Session, kind: str = "standard") -> Scaler:
    """Return the scale of the neurons of a session.

    A neuron that is constant over the training part is left at its centre, 0.

    Args:
        session: The session.
        kind: "standard": mean and standard deviation. "robust": median and the median distance
            from it, times 1.4826; a neuron at its median more than half of the time, as sparse
            events are, keeps its standard deviation.
    """
    centre, spread = _moments(session)
    if kind == "robust":
        centre, distance = _medians(session)
        spread = np.where(distance > 0, _PER_MAD * distance, spread)
    session.release()
    factor = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0.0)
    return Scaler(torch.from_numpy(factor).float(), torch.from_numpy(-centre * factor).float())


def _medians(session: Session) -> tuple[Float, Float]:
    """Return the median (N,) and the median distance from it, few neurons at a time."""
    centre, distance = np.zeros(session.n_neurons), np.zeros(session.n_neurons)
    for first in range(0, session.n_neurons, _NEURONS):
        own = slice(first, first + _NEURONS)
        parts = [
            session.rows(slice(at, min(at + _BLOCK, int(stop))))[:, own]
            for start, stop in session.segments["train"]
            for at in range(int(start), int(stop), _BLOCK)
        ]
        values = np.concatenate(parts).astype(np.float64)
        centre[own] = np.median(values, axis=0)
        distance[own] = np.median(np.abs(values - centre[own]), axis=0)
        session.release()
    return centre, distance


def _moments(session: Session) -> tuple[Float, Float]:
    """Return mean (N,) and standard deviation, read block by block."""
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
    mean = total / count
    spread: Float = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return mean + origin, spread
