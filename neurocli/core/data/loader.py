"""Batches in an order that depends on nothing but (seed, epoch).

A run that is killed and resumed must see the samples an uninterrupted run would have seen, so the
order is a pure function of its arguments, a position is one number (batches taken), and reading
ahead happens in one thread that keeps no state worth saving.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
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


class Batches:
    """Iterate over the batches of one epoch, from any batch on.

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
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"{batch_size} is below 1", where="data.batch_size")
        self._samples = samples
        self._batch_size = batch_size
        self._epoch = epoch
        self._start = start
        self._prefetch = prefetch
        self._order = epoch_order(len(samples), seed=seed, epoch=epoch, shuffle=shuffle)

    def __len__(self) -> int:
        """Return how many batches the whole epoch has, `start` or not."""
        return (len(self._order) + self._batch_size - 1) // self._batch_size

    def size(self, batch: int) -> int:
        """Return how many samples batch number `batch` has."""
        return min(self._batch_size, len(self._order) - batch * self._batch_size)

    def __iter__(self) -> Generator[Mapping[str, Any], None, None]:
        """Yield the batches from number `start` on."""
        made = (self._make(batch) for batch in range(self._start, len(self)))
        return made if self._prefetch < 1 else _ahead(made, self._prefetch)

    def _make(self, batch: int) -> Mapping[str, Any]:
        first = batch * self._batch_size
        indices = self._order[first : first + self._batch_size]
        return self._samples.collate([self._samples.sample(i, self._epoch) for i in indices])


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
