"""Shares follow weights, passes are whole, and an epoch depends on nothing but (seed, epoch).

Expected counts are n * w / sum(w), computed here; whole passes are counted by hand.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from neurocli.core.data.loader import Batches
from neurocli.core.data.mixing import MixedSamples, Mixture
from neurocli.core.errors import UsageError

GROUPS = [range(100), range(100, 110), range(110, 113)]
WEIGHTS = [1.0, 2.0, 0.01]


def test_shares_are_those_of_the_weights() -> None:
    mixture = Mixture(GROUPS, WEIGHTS, seed=3)
    expected = 113 * np.array(WEIGHTS) / sum(WEIGHTS)
    counts = np.array([mixture.counts(epoch) for epoch in range(2000)])
    assert (counts.sum(1) == 113).all()
    assert (np.abs(counts - expected) < 1).all()  # floor or ceiling, never further
    # The mean of 2000 draws of a number that is floor or ceiling has a standard error of at most
    # 0.5 / sqrt(2000) = 0.011; four of them.
    np.testing.assert_allclose(counts.mean(0), expected, atol=0.045)
    assert set(counts[:, 2].tolist()) == {0, 1}  # 0.375 of a draw per epoch


def test_every_sample_of_a_group_is_seen_once_before_any_is_seen_again() -> None:
    mixture = Mixture(GROUPS, WEIGHTS, seed=0)
    drawn = np.concatenate([mixture.draws(epoch) for epoch in range(12)])
    assert len(set(map(tuple, drawn.tolist()))) == len(drawn)  # no (sample, pass) twice
    for group in GROUPS:
        seen = Counter(drawn[np.isin(drawn[:, 0], list(group)), 0].tolist())
        assert max(seen.values()) - min(seen[i] for i in group) <= 1
    passes = [
        drawn[(drawn[:, 1] == k) & (drawn[:, 0] >= 100) & (drawn[:, 0] < 110), 0] for k in (0, 1)
    ]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(100, 110))
    assert passes[0].tolist() != passes[1].tolist()


def test_weights_like_the_sizes_give_every_sample_once_an_epoch() -> None:
    mixture = Mixture(GROUPS, [100, 10, 3], seed=0)
    for epoch in range(3):
        assert sorted(mixture.draws(epoch)[:, 0]) == list(range(113))


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    walked = Mixture(GROUPS, WEIGHTS, seed=5)
    for epoch in range(7):
        walked.draws(epoch)
    fresh = Mixture(GROUPS, [10.0, 20.0, 0.1], seed=5)  # only ratios count
    assert np.array_equal(fresh.draws(6), walked.draws(6))
    assert np.array_equal(fresh.draws(2), walked.draws(2))
    assert not np.array_equal(Mixture(GROUPS, WEIGHTS, seed=6).draws(6), walked.draws(6))


class _Recorded:
    participants = ("a", "b")

    def __len__(self) -> int:
        return 113

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        return {"key": (index, epoch)}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {"keys": [sample["key"] for sample in samples]}


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loader_that_starts_in_the_middle_goes_on_with_the_same_draws(prefetch: int) -> None:
    def batches(start: int) -> list[Any]:
        mixed = MixedSamples(_Recorded(), Mixture(GROUPS, WEIGHTS, seed=1))
        options = {"batch_size": 8, "seed": 1, "epoch": 4, "shuffle": True, "prefetch": prefetch}
        return [batch["keys"] for batch in Batches(mixed, start=start, **options)]

    whole = batches(0)
    assert sum(map(len, whole)) == 113
    assert batches(6) == whole[6:]
    keys = [key for batch in whole for key in batch]
    assert len(set(keys)) == 113  # a sample that comes again is changed by another draw
    first = sum(key[0] < 100 for key in keys[:56]) / 56
    assert 0.15 < first < 0.55  # a third of a half epoch, groups well stirred


@pytest.mark.parametrize(
    ("groups", "weights"),
    [([[0], []], [1, 1]), ([[0]], [0.0]), ([[0]], [float("nan")]), ([[0]], [1, 1]), ([], [])],
)
def test_what_cannot_be_drawn_is_refused(groups: Any, weights: Any) -> None:
    with pytest.raises(UsageError, match="weights"):
        Mixture(groups, weights, seed=0)
