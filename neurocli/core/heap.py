"""Memory that is freed and wanted again a moment later: keep it instead of giving it back.

The C library of Linux maps blocks above 32 MiB one by one and unmaps them when they are freed. The
activations of a 3D network are such blocks, so the system clears every page of every layer for
every window: a third of the time of a small network.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

KEPT_BYTES = 512 << 20
"""Free memory that may stay with the process after `kept_memory`; what is beyond is given back."""

_MAPPED_ALONE = 32 << 20  # the largest threshold that the library comes to by itself
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_NEVER = -1

_lock = threading.Lock()
_holders: list[object] = []


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let blocks of any size be used again after they are freed, while this lasts.

    No result changes. It concerns the whole process; contexts may lie inside one another and in
    several threads. Where the C library is another one, nothing happens.
    """
    holder = object()
    _enter(holder)
    try:
        yield
    finally:
        _leave(holder)


def zeroed_apart(n_bytes: int) -> mmap.mmap:
    """Return zeroed memory outside of the heap, which its last user gives back to the system.

    A long-lived block among short-lived ones leaves a hole below it: to align a block the library
    looks for a little more than it hands out, so the next one does not fit where the last one was.

    Args:
        n_bytes: At least 1.
    """
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # elsewhere it is private by itself
        return mmap.mmap(-1, n_bytes)
    return mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _enter(holder: object) -> None:
    with _lock:
        _holders.append(holder)
        library = _library()
        if len(_holders) == 1 and library is not None:
            library.mallopt(_MMAP_THRESHOLD, _NEVER)
            library.mallopt(_TRIM_THRESHOLD, _NEVER)


def _leave(holder: object) -> None:
    with _lock:
        _holders.remove(holder)
        library = _library()
        if not _holders and library is not None:
            library.mallopt(_MMAP_THRESHOLD, _MAPPED_ALONE)
            library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
            if library.mallinfo2().free > KEPT_BYTES:
                library.malloc_trim(KEPT_BYTES)


class _MallInfo(ctypes.Structure):
    """Mirror `struct mallinfo2`, of which only the bytes in free blocks are read."""

    _fields_ = (
        *((f"before_{place}", ctypes.c_size_t) for place in range(8)),
        ("free", ctypes.c_size_t),
        ("top", ctypes.c_size_t),
    )


@cache
def _library() -> ctypes.CDLL | None:
    """Return the C library, or None where it is not glibc 2.33 or later."""
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _MallInfo
    except (OSError, AttributeError, TypeError):
        return None
    library.mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    library.malloc_trim.argtypes = (ctypes.c_size_t,)
    return library
