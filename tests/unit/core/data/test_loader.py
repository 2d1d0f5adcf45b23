"""Order, position and reading ahead; expected orders come from numpy's PCG64 words directly."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from neurocli.core.data.loader import Batches, epoch_order
from neurocli.core.errors import InputError, UsageError


class Numbers:
    """Samples that are their own index and count how often they are asked for."""

    def __init__(self, n: int, *, fails_at: int | None = None):
        self.n, self.fails_at, self.asked = n, fails_at, 0

    def __len__(self) -> int:
        return self.n

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        self.asked += 1
        if index == self.fails_at:
            raise InputError("sub-07.h5", "is damaged")
        return {"index": index, "epoch": epoch}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"index": [sample["index"] for sample in samples], "epoch": samples[0]["epoch"]}


def _batch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def _indices(batches: Batches) -> list[list[int]]:
    return [batch["index"] for batch in batches]


def test_order_is_a_permutation_that_no_version_may_change() -> None:
    # Frozen from the first version: a change here breaks the resume of every run.
    assert epoch_order(8, seed=1234, epoch=0, shuffle=True) == [5, 6, 3, 7, 4, 1, 2, 0]
    assert epoch_order(8, seed=1234, epoch=1, shuffle=True) != epoch_order(
        8, seed=1234, epoch=0, shuffle=True
    )
    assert sorted(epoch_order(1000, seed=0, epoch=3, shuffle=True)) == list(range(1000))


def test_order_ignores_global_random_state() -> None:
    np.random.seed(1)
    first = epoch_order(50, seed=5, epoch=2, shuffle=True)
    np.random.seed(2)
    np.random.rand(10)
    assert epoch_order(50, seed=5, epoch=2, shuffle=True) == first


def test_order_is_uniform() -> None:
    # Every index stands in first place in 1/n of the epochs: 4 standard errors of a binomial.
    n, n_epochs = 5, 4000
    first = [epoch_order(n, seed=0, epoch=e, shuffle=True)[0] for e in range(n_epochs)]
    shares = np.bincount(first, minlength=n) / n_epochs
    assert np.abs(shares - 1 / n).max() < 4 * np.sqrt(0.2 * 0.8 / n_epochs)


def test_order_of_nothing_and_without_shuffle() -> None:
    assert epoch_order(0, seed=0, epoch=0, shuffle=True) == []
    assert epoch_order(4, seed=9, epoch=9, shuffle=False) == [0, 1, 2, 3]


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_batches_cover_the_epoch_once(prefetch: int) -> None:
    batches = Batches(Numbers(10), batch_size=4, seed=0, shuffle=True, prefetch=prefetch)
    found = _indices(batches)
    assert [len(batch) for batch in found] == [4, 4, 2] == [batches.size(i) for i in range(3)]
    assert len(batches) == 3
    assert [index for batch in found for index in batch] == epoch_order(
        10, seed=0, epoch=0, shuffle=True
    )


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_start_continues_where_a_stopped_epoch_was(start: int) -> None:
    whole = Batches(Numbers(10), batch_size=4, seed=3, epoch=7, shuffle=True)
    rest = Batches(Numbers(10), batch_size=4, seed=3, epoch=7, shuffle=True, start=start)
    assert _indices(rest) == _indices(whole)[start:]
    assert len(rest) == len(whole)


def test_epoch_reaches_the_samples() -> None:
    batches = Batches(Numbers(3), batch_size=2, seed=0, epoch=6, shuffle=True)
    assert {batch["epoch"] for batch in batches} == {6}


@pytest.mark.parametrize("prefetch", [0, 2])
def test_errors_keep_their_type_and_come_after_the_sound_batches(prefetch: int) -> None:
    stream = iter(Batches(Numbers(6, fails_at=4), batch_size=2, seed=0, prefetch=prefetch))
    assert [next(stream)["index"], next(stream)["index"]] == [[0, 1], [2, 3]]
    with pytest.raises(InputError, match="damaged") as caught:
        next(stream)
    assert caught.value.where == "sub-07.h5"
    assert not _batch_threads()


def test_thread_ends_when_iteration_is_dropped() -> None:
    samples = Numbers(100_000)
    stream = iter(Batches(samples, batch_size=1, seed=0, prefetch=2))
    next(stream)
    assert len(_batch_threads()) == 1
    began = time.monotonic()
    stream.close()
    assert not _batch_threads()
    assert time.monotonic() - began < 1.0
    assert samples.asked < 10


def test_reading_ahead_is_bounded() -> None:
    samples = Numbers(1000)
    stream = iter(Batches(samples, batch_size=1, seed=0, prefetch=3))
    next(stream)
    time.sleep(0.1)
    # One taken, three waiting, one in the thread's hand.
    assert samples.asked <= 5
    stream.close()


def test_no_thread_before_the_first_batch_is_asked_for() -> None:
    stream = iter(Batches(Numbers(4), batch_size=1, seed=0))
    assert not _batch_threads()
    stream.close()


def test_batch_size_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="0 is below 1"):
        Batches(Numbers(4), batch_size=0, seed=0)
