"""Arrays in `.npy` files: written whole, opened as read-only maps of the file.

The header is judged before anything is mapped: plain numbers only, never objects, and the file must
be exactly as long as the header says. Processes that map one file share its pages.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from neurocli.core.data.source import HEAD_BYTES, foreign_content, open_regular
from neurocli.core.errors import InputError
from neurocli.core.paths import durable_path

_KINDS = "iufb"
_REBUILD = "prepare it again"


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
    """Map an array for reading.

    Args:
        path: A `.npy` file.
        n_dims: Number of axes it must have; None for any.

    Returns:
        A read-only map in C order.

    Raises:
        InputError: The file is missing, damaged, cut short, or holds something else.
    """
    with open_regular(path) as handle:
        head = handle.read(HEAD_BYTES)
        if not head.startswith(npy.MAGIC_PREFIX):
            problem, fix = foreign_content(head) or ("is no .npy file", _REBUILD)
            raise InputError(path, problem, fix)
        handle.seek(0)
        try:
            version = npy.read_magic(handle)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, is_fortran, dtype = read(handle)
        except (ValueError, EOFError) as error:
            raise InputError(path, f"has a damaged header: {str(error)[:80]}", _REBUILD) from error
        offset, size = handle.tell(), os.fstat(handle.fileno()).st_size
    if dtype.kind not in _KINDS or is_fortran:
        raise InputError(path, f"holds {dtype}, plain numbers in C order are needed", _REBUILD)
    if n_dims is not None and len(shape) != n_dims:
        raise InputError(path, f"has {len(shape)} axes, {n_dims} are needed", _REBUILD)
    claimed = offset + math.prod(shape) * dtype.itemsize
    if size != claimed:
        raise InputError(path, f"has {size} bytes, its header claims {claimed}", _REBUILD)
    if math.prod(shape) == 0:
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
