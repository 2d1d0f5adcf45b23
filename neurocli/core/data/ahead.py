"""Let a thread do the next piece of work while the last one is used.

Inflating and arithmetic both let go of the interpreter, so two cores share one file.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
LIVE = 3
"""Items that exist at once: one in use, one waiting, one in the making."""


def begin(work: Callable[[], T]) -> Callable[[], T]:
    """Start a piece of work in a thread of its own.

    Args:
        work: What to do.

    Returns:
        A function that waits for the end, and returns what `work` did or raises what it raised;
        any number of calls.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # raised again where the result is used
            failed.append(error)

    worker = threading.Thread(target=run, name="begun", daemon=True)
    worker.start()

    def result() -> T:
        worker.join()
        if failed:
            raise failed[0]
        return done[0]

    return result


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield what an iterator yields, made one item ahead in a thread of its own.

    Args:
        items: Used by the thread alone; may reuse `LIVE` buffers in turn.

    Yields:
        The same items in the same order; what the iterator raises is raised here.
    """
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(maxsize=1)
    is_over = threading.Event()

    def work() -> None:
        try:
            for item in items:
                ready.put((True, item))
                if is_over.is_set():
                    return
            ready.put((False, None))
        except BaseException as error:  # raised again where the items are used
            ready.put((False, error))

    worker = threading.Thread(target=work, name="read-ahead", daemon=True)
    worker.start()
    try:
        while True:
            has_item, item = ready.get()
            if has_item:
                yield item  # type: ignore[misc]
            elif isinstance(item, BaseException):
                raise item
            else:
                return
    finally:
        is_over.set()
        while worker.is_alive():
            try:
                ready.get(timeout=0.05)  # the thread may wait for room
            except queue.Empty:
                worker.join(timeout=0.05)
