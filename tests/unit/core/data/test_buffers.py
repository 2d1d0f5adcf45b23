"""Memory that is used again, and never while somebody holds it."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import torch

from neurocli.core.data.buffers import Buffers


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_comes_back_when_nobody_holds_it() -> None:
    pool = Buffers()
    first = pool.take((10, 20), np.float32)
    place = address(first)
    assert first.shape == (10, 20)
    assert first.flags.writeable
    del first
    again = pool.take((20, 20), np.float16)  # the same bytes, another form
    assert address(again) == place


def test_views_and_tensors_hold_it() -> None:
    pool = Buffers()
    held = [pool.take((100,), np.float32)[3:5]]
    held.append(pool.take((100,), np.float32))  # type: ignore[arg-type]
    held[1] = torch.from_numpy(held[1])[None, ::2]  # type: ignore[assignment, call-overload]
    weight = torch.ones(1, requires_grad=True)
    graph = torch.from_numpy(pool.take((100,), np.float32)) * weight  # kept for the backward pass
    seen = {address(pool.take((100,), np.float32)) for _ in range(5)}
    assert len(seen) == 1
    taken = {address(held[0]) - 12, held[1].data_ptr()}  # type: ignore[attr-defined]
    assert not seen & taken
    assert graph.requires_grad
    assert len(pool._held) == 4


def test_no_more_than_the_limit_is_kept() -> None:
    pool = Buffers(1000)
    big = pool.take((2000,), np.uint8)
    assert (big.size, pool._held) == (2000, [])
    held = [pool.take((400,), np.uint8) for _ in range(3)]
    assert len(pool._held) == 2
    del held
    other = pool.take((900,), np.uint8)  # the old sizes make room
    assert [each.nbytes for each in pool._held] == [900]
    assert other.size == 900


def test_two_threads_never_share() -> None:
    pool = Buffers()
    clashes = []

    def work(number: int) -> None:
        for _ in range(300):
            array = pool.take((1000,), np.int64)
            array[:] = number
            if (array != number).any():
                clashes.append(number)
            del array

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []


def test_it_travels_empty() -> None:
    pool = Buffers(77)
    pool.take((3,), np.uint8)
    copy = pickle.loads(pickle.dumps(pool))
    assert (copy.max_bytes, copy._held) == (77, [])
