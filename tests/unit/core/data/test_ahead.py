"""Reading ahead gives the same items, the same errors, and ends its thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from neurocli.core.data.ahead import LIVE, read_ahead


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "read-ahead"]


def test_items_come_in_order() -> None:
    assert list(read_ahead(iter(range(50)))) == list(range(50))
    assert list(read_ahead(iter(()))) == []
    assert threads() == []


def test_buffers_may_be_used_again() -> None:
    def fill() -> Iterator[np.ndarray]:
        buffers = np.empty((LIVE, 4))
        for index in range(200):
            buffers[index % LIVE] = index
            yield buffers[index % LIVE]

    for index, buffer in enumerate(read_ahead(fill())):
        if index % 7 == 0:
            time.sleep(0.001)  # the thread gets as far ahead as it can
        assert (buffer == index).all()


def test_errors_come_where_the_items_are_used() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = read_ahead(fail())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)
    assert threads() == []


def test_giving_up_ends_the_thread() -> None:
    made = []

    def endless() -> Iterator[int]:
        while True:
            made.append(1)
            yield len(made)

    ahead = read_ahead(endless())
    next(ahead)
    ahead.close()
    assert threads() == []
    assert len(made) <= 2 * LIVE
