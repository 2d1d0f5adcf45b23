"""The header of NumPy's `.npy` format, read without trusting it.

It is a short literal: parsed as one, never run, and judged before anything is allocated. Types that
would need a pickle are refused.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from os import PathLike
from typing import Any, BinaryIO

import numpy as np

from neurocli.core.data.storage import is_number
from neurocli.core.errors import InputError

NPY_MAGIC = b"\x93NUMPY"
N_HEAD = 12
"""Bytes that tell how long the header is."""

_VERSIONS = {b"\x01\x00": 10, b"\x02\x00": N_HEAD, b"\x03\x00": N_HEAD}  # -> start of the literal
_MAX_HEADER = 10_000
_MAX_AXES = 32  # of every version of NumPy
_KEYS = {"descr", "fortran_order", "shape"}
_AGAIN = "copy it again"
_FIX = "store plain numbers with numpy.save, without allow_pickle"


@dataclass(frozen=True)
class NpyHeader:
    """Describe a stored array whose header was found sound.

    Args:
        shape: Its shape.
        is_fortran: Whether the first axis is the fastest.
        dtype: Numbers, bool or texts of fixed length, with their byte order.
        offset: First byte of the values.
    """

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Return how many bytes the values take."""
        return prod(self.shape) * self.dtype.itemsize


def read_npy_header(handle: BinaryIO, where: str | PathLike[str]) -> NpyHeader:
    """Read the header of an open `.npy` file from its start.

    Args:
        handle: At the start of a content that begins with `NPY_MAGIC`; left behind the header.
        where: Names the array in errors.

    Raises:
        InputError: The header is damaged, or the array holds no numbers.
    """
    head = handle.read(N_HEAD)
    start, n_text = _extent(head, where)
    head += handle.read(start + n_text - len(head))
    handle.seek(start + n_text)
    return parse_npy_header(head, where)


def parse_npy_header(content: bytes | memoryview, where: str | PathLike[str]) -> NpyHeader:
    """Return the header that a content begins with.

    Args:
        content: Begins with `NPY_MAGIC` and holds at least the header.
        where: Names the array in errors.

    Raises:
        InputError: The header is damaged, or the array holds no numbers.
    """
    start, n_text = _extent(bytes(content[:N_HEAD]), where)
    text = bytes(content[start : start + n_text])
    if len(text) < n_text:
        raise _damaged(where, f"{n_text} bytes, {len(text)} are there")
    found = _literal(text)
    if isinstance(found, str):
        raise _damaged(where, found)
    shape, is_fortran, dtype = found
    if not is_number(dtype) and dtype.kind not in "SU":
        kind = "Python objects" if dtype.hasobject else str(dtype)
        raise InputError(where, f"holds {kind[:80]}, real numbers are needed", _FIX)
    return NpyHeader(shape, is_fortran, dtype, start + n_text)


def _extent(head: bytes, where: str | PathLike[str]) -> tuple[int, int]:
    """Return where the literal starts and how long it is."""
    version = head[len(NPY_MAGIC) : len(NPY_MAGIC) + 2]
    start = _VERSIONS.get(version)
    if len(head) < N_HEAD:
        raise _damaged(where, "it is cut short")
    if start is None:
        raise InputError(where, "has a header of a version that is not known", _FIX)
    n_text = int.from_bytes(head[8:start], "little")
    if n_text > _MAX_HEADER:
        raise _damaged(where, f"{n_text} bytes")
    return start, n_text


def _damaged(where: str | PathLike[str], problem: str) -> InputError:
    return InputError(where, f"has a damaged header: {problem}", _AGAIN)


@lru_cache(maxsize=256)
def _literal(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]] | str:
    """Return what a header says, or what is wrong with it.

    Files of one study share one header, so this slow path runs once for thousands of them.
    """
    try:
        value = ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return "it is no literal"
    if not isinstance(value, dict) or set(value) != _KEYS:
        return "it does not say type, order and shape"
    shape, descr, is_fortran = value["shape"], value["descr"], value["fortran_order"]
    is_shape = isinstance(shape, tuple) and len(shape) <= _MAX_AXES
    if not is_shape or not all(type(side) is int and side >= 0 for side in shape):
        return f"shape {str(shape)[:60]}"
    try:
        dtype = np.dtype([tuple(field) for field in descr] if isinstance(descr, list) else descr)
    except (TypeError, ValueError, SyntaxError, OverflowError):
        return f"type {str(descr)[:60]}"
    if not isinstance(is_fortran, bool):
        return f"order {str(is_fortran)[:60]}"
    # No byte contradicts the other sides of an empty array, but no array library holds any size.
    if prod(max(side, 1) for side in shape) * max(dtype.itemsize, 1) > sys.maxsize:
        return f"shape {str(shape)[:60]}"
    return shape, is_fortran, dtype
