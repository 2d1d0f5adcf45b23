"""Differences between methods are those of the same people."""

from __future__ import annotations

import numpy as np
import pytest

from neurocli.systems.genes.beside import by_person, differences
from neurocli.systems.genes.judging import Pairs

PEOPLE = [f"p{i:03d}" for i in range(200)]


def pairs(noise: float, *, people: list[str] | None = None) -> Pairs:
    """Return vectors whose own partner differs by noise; the rest is the same for every call."""
    rng = np.random.default_rng(0)
    brain = rng.standard_normal((200, 3))
    gene = brain + noise * np.random.default_rng(1).standard_normal((200, 3))
    # Unit vectors, so that nobody's gene is near everybody.
    sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (brain, gene)]
    names = people or PEOPLE
    return Pairs(names, names, *sides, np.arange(200))


def test_values_are_means_of_both_directions() -> None:
    own = pairs(0.5)
    table = own.brain @ own.gene.T
    truth = np.diagonal(table)
    forward = (table > truth[:, None]).sum(1)
    backward = (table > truth[None]).sum(0)
    found = by_person(own)
    assert np.allclose(found["percentile"], 1 - (forward + backward) / 2 / 199)
    assert np.allclose(found["mrr"], (1 / (1 + forward) + 1 / (1 + backward)) / 2)
    assert np.allclose(found["r_at_1"], ((forward == 0) * 1.0 + (backward == 0)) / 2)


def test_a_small_gain_on_the_same_people_is_seen() -> None:
    better, worse = pairs(0.50), pairs(0.56)
    found = differences(better, {"other": worse})["other"]["percentile"]
    gains = by_person(better)["percentile"] - by_person(worse)["percentile"]
    assert found["mean"] == pytest.approx(gains.mean())
    error = gains.std(ddof=1) / np.sqrt(200)
    # The interval of the mean by the central limit: half the width within a fifth.
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert found["verdict"] == "better"
    assert differences(worse, {"other": better})["other"]["percentile"]["verdict"] == "worse"
    # Intervals of each by itself overlap: the noise of who the people are is shared.
    spread = by_person(better)["percentile"].std() / np.sqrt(200)
    assert gains.mean() < 1.96 * spread


def test_equal_methods_do_not_differ() -> None:
    found = differences(pairs(0.5), {"same": pairs(0.5)})["same"]
    assert {row["verdict"] for row in found.values()} == {"not distinguishable"}
    assert all(row["mean"] == row["low"] == row["high"] == 0 for row in found.values())


def test_other_people_are_not_compared() -> None:
    others = [f"q{i}" for i in range(200)]
    assert differences(pairs(0.5), {"other": pairs(0.5, people=others)}) == {}
