"""Maps of a model that tells two frequencies apart find the voxels that carry them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from neurocli.core.metrics.classification import auroc
from neurocli.systems.fmri.attribution import integrated_gradients
from neurocli.systems.fmri.explain import smooth_inside
from neurocli.systems.fmri.snr import LineTally, Map

SIDE, FRAMES, PEOPLE = 8, 20, 6
CYCLES = (2, 8)  # of the two classes in a clip


def network() -> np.ndarray:
    """Return the weight of each voxel (H, W, D), smooth around a centre off the middle."""
    axes = np.indices((SIDE,) * 3) - np.array([2, 4, 5]).reshape(3, 1, 1, 1)
    return np.asarray(np.exp(-np.square(axes).sum(0) / (2 * 1.5**2)))


def clip_of(cycles: int, random: np.random.Generator) -> Tensor:
    """Return a clip (1, H, W, D, T): unit noise, and an oscillation of any phase in the network."""
    phase = 2 * np.pi * (cycles * np.arange(FRAMES) / FRAMES + random.random())
    noise = random.standard_normal((SIDE,) * 3 + (FRAMES,))
    clip = network()[..., None] * np.sin(phase) * math.sqrt(2) + noise
    return torch.as_tensor(clip[None], dtype=torch.float32)


class Reader:
    """Tell slow from fast: one weighted sum of voxels, and how it goes on from frame to frame.

    As in a trained model, weights are the network's beside random ones that every voxel has.
    """

    def __init__(self, random: np.random.Generator) -> None:
        own = random.standard_normal((SIDE,) * 3)
        self.weights = torch.as_tensor(2 * network() + own, dtype=torch.float32)

    def __call__(self, clips: Tensor) -> Tensor:
        course = torch.einsum("bchwdt,hwd->bt", clips, self.weights) / 20
        return torch.tanh((course[:, 1:] * course[:, :-1]).mean(1)) * 5


def maps() -> tuple[Map, Map]:
    """Return the group's maps of size and of how surely, made as the command makes them."""
    random = np.random.default_rng(0)
    reader = Reader(random)
    brain = np.ones((SIDE,) * 3, dtype=bool)
    signed, snr = [], []
    for person in range(PEOPLE):
        mine, theirs = CYCLES if person % 2 else CYCLES[::-1]
        sign = 1 if person % 2 else -1  # the output of the class that the person is of
        tally = LineTally()
        for _ in range(2):
            others = [clip_of(theirs, random) for _ in range(4)]
            found = integrated_gradients(
                lambda x, sign=sign: sign * reader(x), clip_of(mine, random), others
            )
            assert found.error < 0.01
            assert found.output > found.baseline
            tally.add(found.lines.sum(1).numpy())
        ratio = tally.snr(brain)
        assert ratio is not None
        signed.append(tally.mean)
        snr.append(ratio)
    size, surely = (np.abs(smooth_inside(np.mean(each, 0), brain, 1.0)) for each in (signed, snr))
    return size, surely


def test_maps_find_the_planted_network() -> None:
    planted = (network() > 0.5).ravel().astype(int)
    assert 0.02 < planted.mean() < 0.2
    for found in maps():
        # Expected: 0.99 when right, 0.92 when maps lie two voxels off, below 0.5 with axes swapped.
        assert auroc(planted, found.ravel()) > 0.97


def test_a_tally_equals_numpy_and_wants_four_lines() -> None:
    lines = np.random.default_rng(0).standard_normal((7, 3, 4, 5)) + 0.3
    brain = np.random.default_rng(1).random((3, 4, 5)) > 0.3
    tally = LineTally()
    tally.add(lines[:3])
    assert tally.snr(brain) is None
    tally.add(lines[3:])
    assert np.allclose(tally.mean, lines.mean(0))
    error = lines.std(0, ddof=1) / math.sqrt(7)
    # Expected: a tenth of the median error inside is added to every error.
    wanted = lines.mean(0) / (error + 0.1 * np.median(error[brain]))
    found = tally.snr(brain)
    assert found is not None
    assert np.allclose(found[brain], wanted[brain])
    assert not found[~brain].any()
