"""Write HDF5 files far larger than memory, safe against full disks.

The library crashes when the disk refuses a write in the middle of its work. Here it writes through
a file object that never fails: the first refusal is kept, later writes are dropped, and the caller
hears of it when the library is done. What reached the disk is then thrown away.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from neurocli.core.data import hdf5
from neurocli.core.data.hdf5 import _LIBVER, _NewFile
from neurocli.core.errors import NeuroError
from neurocli.core.paths import durable_path

_h5 = vars(hdf5)["h5py"]  # loaded there, guarded against foreign filter libraries
_SLACK = 1 << 20  # bytes of a file besides its large dataset


class _Sink(io.RawIOBase):
    """Give the library a file whose writes always succeed."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.refusal: OSError | None = None
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (self._size() if start is None else start)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while self.refusal is None and done < len(view):
            try:
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
            except OSError as error:
                self.refusal = error
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        wanted = self._position if size is None else size
        if self.refusal is None:
            try:
                os.ftruncate(self._descriptor, wanted)
            except OSError as error:
                self.refusal = error
        return wanted

    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size


def put_row(dataset: Any, index: int, row: npt.NDArray[Any]) -> None:
    """Write one row of a dataset (rows, columns), without the cost of a general selection.

    Args:
        dataset: The open `h5py.Dataset`.
        index: Of the row.
        row: (columns,) of the dataset's own type, contiguous.
    """
    place = dataset.id.get_space()
    place.select_hyperslab((index, 0), (1, row.size))
    dataset.id.write(_h5.h5s.create_simple((1, row.size)), place, row)


def stream_h5(target: Path, fill: Callable[[Any], None], *, expected_bytes: int = 0) -> None:
    """Write an HDF5 file whole or not at all, with memory of one chunk.

    The same content gives the same bytes, and the bytes that `write_h5` gives.

    Args:
        target: The final name.
        fill: Puts datasets (through `create`) and attributes into the empty file it is given, and
            may read back what it wrote.
        expected_bytes: Refuse at once where the disk has less room than this.

    Raises:
        NeuroError: The disk is full, read-only or failing; an older file stays intact.
    """
    with durable_path(target) as temporary:
        _check_room(temporary.parent, expected_bytes)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            _fill(descriptor, fill)
        finally:
            os.close(descriptor)


def _check_room(folder: Path, expected_bytes: int) -> None:
    status = os.statvfs(folder)
    room = status.f_bavail * status.f_frsize
    if expected_bytes and room < expected_bytes + _SLACK:
        raise NeuroError(
            f"needs {expected_bytes + _SLACK >> 20} MiB, the disk has {room >> 20} MiB left",
            hint="free space or choose another folder with --out; files already there are intact",
        )


def _fill(descriptor: int, fill: Callable[[Any], None]) -> None:
    sink = _Sink(descriptor)
    try:
        with _NewFile(sink, "w", libver=_LIBVER) as file:
            fill(file)
    except (RuntimeError, KeyError, ValueError):
        # What was dropped cannot be read back; the refusal is the true reason.
        if sink.refusal is None:
            raise
    if sink.refusal is not None:
        raise sink.refusal
