"""NumPy's `.npy` and `.npz` files: numbers only, never objects, written whole.

Headers are checked against the size of the file before anything is allocated. Our own arrays are
opened as read-only maps of the file, whose pages processes share.
"""

from __future__ import annotations

import io
import lzma
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from neurocli.core.data.npy_header import NPY_MAGIC, NpyHeader, read_npy_header
from neurocli.core.data.source import HEAD_BYTES, check_regular, foreign_content, open_regular
from neurocli.core.errors import InputError
from neurocli.core.paths import durable_path

_ZIP_MAGIC = b"PK\x03\x04"
_KINDS = "iufb"
_REBUILD = "prepare it again"
# Of what `zipfile` meets, a RuntimeError is a member that is encrypted.
_ARCHIVE_FAILURES = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError
)  # fmt: skip
_FIX = "store plain numbers with numpy.save, without allow_pickle"


def read_npy(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Return the array of a `.npy` file.

    Args:
        path: The file; its content decides.
        mapped: Map it into memory read-only instead of reading it.

    Raises:
        InputError: The file is missing, no `.npy`, cut short, or holds objects.
    """
    size = check_regular(path)
    with open_regular(path) as handle:
        header = _header(handle, str(path))
        start, wanted = header.offset, header.n_bytes
        if size - start < wanted:
            raise InputError(
                path, f"is cut short: {size - start} of {wanted} bytes", "copy it again"
            )
        order: Any = "F" if header.is_fortran else "C"
        if mapped and wanted:
            return np.memmap(path, header.dtype, "r", start, header.shape, order)
        values = np.frombuffer(handle.read(wanted), header.dtype)
        return values.reshape(header.shape, order=order)


def read_npz(path: Path, *, max_bytes: int = 8 << 30) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of numbers in an `.npz` archive by name.

    Args:
        path: The file.
        max_bytes: Most that all arrays may hold together.

    Raises:
        InputError: The file is missing, damaged, too large, or holds objects.
    """
    with open_regular(path) as handle:
        if not handle.read(4).startswith(_ZIP_MAGIC):
            handle.seek(0)
            _refuse(path, handle.read(HEAD_BYTES))
        handle.seek(0)
        found: dict[str, npt.NDArray[Any]] = {}
        try:
            with zipfile.ZipFile(handle) as archive:
                if sum(member.file_size for member in archive.infolist()) > max_bytes:
                    raise InputError(path, f"would unpack to more than {max_bytes} bytes")
                for member in archive.infolist():
                    if not member.filename.endswith(".npy"):
                        raise InputError(
                            path, f"holds '{member.filename}', which is no array", _FIX
                        )
                    name = member.filename.removesuffix(".npy")
                    found[name] = _member(archive.read(member), f"{path}:{name}")
        except _ARCHIVE_FAILURES as error:
            raise InputError(
                path, f"is a damaged .npz archive: {error}", "copy it again"
            ) from error
    return found


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array whole or not at all.

    Args:
        path: Ends in .npy.
        array: Real numbers or bool.

    Raises:
        InputError: It holds something else.
        NeuroError: The disk is full.
    """
    if array.dtype.kind not in _KINDS:
        raise InputError(path, f"cannot hold {array.dtype}", "give real numbers")
    with durable_path(path) as temporary, temporary.open("wb") as handle:
        npy.write_array(handle, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def open_array(path: Path, *, n_dims: int | None = None) -> npt.NDArray[Any]:
    """Map an array that `write_array` wrote for reading.

    Args:
        path: A `.npy` file.
        n_dims: Number of axes it must have; None for any.

    Returns:
        A read-only map in C order.

    Raises:
        InputError: The file is missing, damaged, of another length, or holds something else.
    """
    size = check_regular(path)
    with open_regular(path) as handle:
        header = _header(handle, str(path))
    shape, dtype = header.shape, header.dtype
    if dtype.kind not in _KINDS or header.is_fortran:
        raise InputError(path, f"holds {dtype}, plain numbers in C order are needed", _REBUILD)
    if n_dims is not None and len(shape) != n_dims:
        raise InputError(path, f"has {len(shape)} axes, {n_dims} are needed", _REBUILD)
    claimed = header.offset + header.n_bytes
    if size != claimed:
        raise InputError(path, f"has {size} bytes, its header claims {claimed}", _REBUILD)
    if not header.n_bytes:
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=header.offset, shape=shape)


def is_npy(head: bytes) -> bool:
    """Return whether a file that begins with `head` is a `.npy` file."""
    return head.startswith(NPY_MAGIC)


def is_zip(head: bytes) -> bool:
    """Return whether a file that begins with `head` is an archive, as `.npz` files are."""
    return head.startswith(_ZIP_MAGIC)


def npy_bytes(values: npt.ArrayLike) -> bytes:
    """Return an array as the bytes of a `.npy` file."""
    target = io.BytesIO()
    np.save(target, np.ascontiguousarray(values), allow_pickle=False)
    return target.getvalue()


def _member(content: bytes, where: str) -> npt.NDArray[Any]:
    header = _header(io.BytesIO(content), where)
    if len(content) - header.offset < header.n_bytes:
        raise InputError(where, f"is cut short: {len(content)} bytes", "copy it again")
    order: Any = "F" if header.is_fortran else "C"
    values = np.frombuffer(content, header.dtype, math.prod(header.shape), header.offset)
    return values.reshape(header.shape, order=order)


def _header(handle: BinaryIO, where: str) -> NpyHeader:
    head = handle.read(len(NPY_MAGIC))
    if not is_npy(head):
        _refuse(where, head + handle.read(HEAD_BYTES))
    handle.seek(0)
    return read_npy_header(handle, where)


def _refuse(path: str | Path, head: bytes) -> None:
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise InputError(path, "is a Python pickle, which could run code and is never opened", _FIX)
    problem, fix = foreign_content(head) or ("is no NumPy array", "check the file name")
    raise InputError(path, problem, fix)
