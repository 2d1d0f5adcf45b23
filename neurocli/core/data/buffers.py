"""Memory for large arrays that is used again once nobody holds them.

A fresh array of tens of megabytes costs more in page faults than the copy that fills it. An array
from here goes back by itself: when every view of it is gone, tensors that share its memory
included, the next one of the same size takes its place.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

_POOL_AND_ARGUMENT = 2  # references to a buffer that only the pool holds, while it is counted


class Buffers:
    """Hand out arrays, uninitialised, and keep their memory.

    Args:
        max_bytes: Memory kept at most; arrays beyond it are ordinary ones.
    """

    def __init__(self, max_bytes: int = 512 << 20) -> None:
        self.max_bytes = max_bytes
        self._held: list[npt.NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.max_bytes,)

    def take(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array that nobody else holds.

        Args:
            shape: Its shape.
            dtype: Of its numbers.
        """
        kind = np.dtype(dtype)
        n_bytes = prod(shape) * kind.itemsize
        with self._lock:
            raw = self._free(n_bytes)
            if raw is None:
                raw = np.empty(n_bytes, dtype=np.uint8)
                self._keep(raw)
        return raw.view(kind).reshape(tuple(shape))

    def _is_free(self, index: int) -> bool:
        return sys.getrefcount(self._held[index]) <= _POOL_AND_ARGUMENT

    def _free(self, n_bytes: int) -> npt.NDArray[np.uint8] | None:
        places = range(len(self._held))
        fitting = (i for i in places if self._held[i].nbytes == n_bytes and self._is_free(i))
        found = next(fitting, None)
        return None if found is None else self._held[found]

    def _keep(self, raw: npt.NDArray[np.uint8]) -> None:
        spare = self.max_bytes - raw.nbytes - sum(each.nbytes for each in self._held)
        # Sizes that are asked for no more make room.
        for index in reversed(range(len(self._held))):
            if spare < 0 and self._is_free(index):
                spare += self._held.pop(index).nbytes
        if spare >= 0:
            self._held.append(raw)
