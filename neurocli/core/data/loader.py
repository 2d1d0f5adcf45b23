"""Batches in an order that depends on nothing but (seed, epoch).

A run that is killed and resumed must see the samples an uninterrupted run would have seen, so the
order is a pure function of its arguments, a position is one number (batches taken), and reading
ahead happens in one thread that keeps no state worth saving.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from neurocli.core.errors import UsageError


class Samples(Protocol):
    """Describe what batches are drawn from; `engine.task.SampleSet` fits."""

    def __len__(self) -> int:
        """Return how many samples there are."""
        ...

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return one sample."""
        ...

    def collate(self, samples: Sequence[dict[str, Any]]) -> Mapping[str, Any]:
        """Return one batch."""
        ...


def epoch_order(n: int, *, seed: int, epoch: int, shuffle: bool) -> list[int]:
    """Return the order of one epoch, the same on every machine and numpy version.

    The indices are sorted by raw 64-bit words of PCG64 seeded with (seed, epoch). numpy promises
    these words for ever, which it does not for `Generator.permutation`.

    Args:
        n: Number of samples, >= 0.
        seed: Seed of the run, >= 0.
        epoch: Epoch, >= 0.
        shuffle: False gives 0..n-1.

    Returns:
        A permutation of 0..n-1.

    >>> epoch_order(5, seed=1, epoch=0, shuffle=True)
    [2, 4, 0, 3, 1]
    >>> epoch_order(3, seed=1, epoch=0, shuffle=False)
    [0, 1, 2]
    """
    if not shuffle:
        return list(range(n))
    words = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(n)
    order: list[int] = np.argsort(words, kind="stable").tolist()
    return order


@dataclass(frozen=True)
class Share:
    """Say which part of the work is this process's.

    Args:
        rank: Number of the process.
        n_ranks: How many processes share the work.
        by_batch: Take every `n_ranks`-th batch whole, else a slice of every batch.
    """

    rank: int = 0
    n_ranks: int = 1
    by_batch: bool = False

    def slice_of(self, n: int) -> slice:
        """Return this process's samples of a batch of `n`; shares differ by at most one.

        >>> [Share(rank, 2).slice_of(5) for rank in (0, 1)]
        [slice(0, 2, None), slice(2, 5, None)]
        """
        if self.by_batch:
            return slice(0, n)
        return slice(n * self.rank // self.n_ranks, n * (self.rank + 1) // self.n_ranks)


_ALL = Share()


class Batches:
    """Iterate over the batches of one epoch, from any batch on.

    A process that shares batches with others and has no sample of one gets its first sample as a
    stand-in, under `stand_in`: it must take part in what all do together, and count for nothing.

    The last batch may be smaller: nothing is dropped or repeated. With `prefetch` > 0 one thread
    makes batches ahead; an exception there reaches the caller with its type, and the thread ends
    when the iteration is closed or dropped.

    Args:
        samples: Where samples come from; `sample(index, epoch)` must draw no global randomness.
        batch_size: Samples per batch, >= 1.
        seed: Seed of the order.
        epoch: Epoch, which also steers the samples' augmentation.
        shuffle: Whether to shuffle; evaluation does not.
        start: Batches of this epoch that were taken before.
        prefetch: Batches made ahead, 0 for none.
        share: What of it this process takes.

    Raises:
        UsageError: `batch_size` is below 1.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        seed: int,
        epoch: int = 0,
        shuffle: bool = False,
        start: int = 0,
        prefetch: int = 2,
        share: Share = _ALL,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"{batch_size} is below 1", where="data.batch_size")
        self._samples = samples
        self._batch_size = batch_size
        self._epoch = epoch
        self._start = start
        self._prefetch = prefetch
        self._share = share
        self._order = epoch_order(len(samples), seed=seed, epoch=epoch, shuffle=shuffle)

    def __len__(self) -> int:
        """Return how many batches the whole epoch has, `start` or not."""
        return (len(self._order) + self._batch_size - 1) // self._batch_size

    def size(self, batch: int) -> int:
        """Return how many samples batch number `batch` has, over all processes."""
        return min(self._batch_size, len(self._order) - batch * self._batch_size)

    def own_size(self, batch: int) -> int:
        """Return how many samples of batch number `batch` are this process's."""
        own = self._share.slice_of(self.size(batch))
        return int(own.stop - own.start)

    @property
    def numbers(self) -> range:
        """Return the numbers of the batches that are iterated over."""
        if self._share.by_batch:
            return range(self._start + self._share.rank, len(self), self._share.n_ranks)
        return range(self._start, len(self))

    def __iter__(self) -> Generator[Mapping[str, Any], None, None]:
        """Yield the batches from number `start` on."""
        made = (self._make(batch) for batch in self.numbers)
        return made if self._prefetch < 1 else _ahead(made, self._prefetch)

    def _make(self, batch: int) -> Mapping[str, Any]:
        first = batch * self._batch_size
        indices = self._order[first : first + self._batch_size]
        own = self._share.slice_of(len(indices))
        divide = getattr(self._samples, "collate_share", None)
        if divide is not None and self._share.n_ranks > 1 and not self._share.by_batch:
            shared: Mapping[str, Any] = divide(self._taken(indices), own)
            return shared
        if own.start == own.stop:
            return {**self._samples.collate(self._taken(indices[:1])), "stand_in": True}
        return self._samples.collate(self._taken(indices[own]))

    def _taken(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [self._samples.sample(index, self._epoch) for index in indices]


_END = object()


def _ahead(
    made: Iterator[Mapping[str, Any]], depth: int
) -> Generator[Mapping[str, Any], None, None]:
    ready: queue.Queue[Any] = queue.Queue(maxsize=depth)
    abandoned = threading.Event()

    def work() -> None:
        try:
            for batch in made:
                ready.put(batch)
                if abandoned.is_set():
                    return
            ready.put(_END)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        abandoned.set()
        # A thread that waits for room must get it, or it would wait for ever.
        while thread.is_alive():
            _drain(ready)
            thread.join(timeout=0.01)


def _drain(ready: queue.Queue[Any]) -> None:
    while not ready.empty():
        ready.get_nowait()
