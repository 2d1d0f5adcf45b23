"""Memory is used again while it is kept, and goes back to the system afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading

import pytest

from neurocli.core import heap

# 96 MiB are written and freed in turn, as the activations of a network are; each turn prints how
# many of their pages of 4 KiB the system had to clear.
SCRIPT = """
import ctypes, resource
from pathlib import Path
from neurocli.core.heap import kept_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def turn(n_bytes=96 << 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(n_bytes)
    libc.memset(block, 1, n_bytes)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

found = [turn()]
with kept_memory():
    with kept_memory():
        found += [turn(), turn()]
    found.append(turn())
before = resident()
with kept_memory():
    turn(768 << 20)
    inside = resident()
print(*found, (inside - before) >> 20, (resident() - before) >> 20)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@glibc
def test_freed_blocks_are_used_again_and_what_is_left_is_bounded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True
    )
    outside, first, second, nested, inside_mib, after_mib = map(int, done.stdout.split())
    pages = (96 << 20) // 4096
    # Huge pages, where the system gives some, make fewer and never more.
    assert outside > pages // 20
    assert first > pages // 20
    assert second < pages // 20
    assert nested < pages // 20
    # 768 MiB stay while they are kept; afterwards at most what may stay, and a page or two.
    assert inside_mib >= 512
    assert after_mib <= heap.KEPT_BYTES >> 20


def test_contexts_in_threads_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, key: int, value: int) -> int:
            calls.append((key, value))
            return 1

        def mallinfo2(self) -> object:
            return type("Info", (), {"free": 0})

    monkeypatch.setattr(heap, "_library", Library)
    inside, leave = threading.Barrier(3), threading.Barrier(3)

    def work() -> None:
        with heap.kept_memory():
            inside.wait(10)
            leave.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    assert [value for _, value in calls] == [-1, -1]  # once for both
    leave.wait(10)
    for thread in threads:
        thread.join(10)
    assert [value for _, value in calls[2:]] == [32 << 20, heap.KEPT_BYTES]


def test_an_error_passes_and_the_memory_is_given_back() -> None:
    with pytest.raises(KeyError, match="mine"), heap.kept_memory():
        raise KeyError("mine")
    assert not heap._holders


def test_another_library_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_library", lambda: None)
    with heap.kept_memory():
        assert heap._holders


def test_memory_apart_is_zero_and_may_be_written() -> None:
    with heap.zeroed_apart(5000) as found:
        assert found[:] == bytes(5000)
        found[4999] = 7
        assert found[4999] == 7
