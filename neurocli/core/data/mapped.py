"""Map a dataset of an HDF5 file into memory instead of reading it, and read its short texts.

A dataset that is stored in one piece, unfiltered and in the machine's byte order lies in the file
as a plain array: mapping it costs nothing until rows are touched, so many long recordings can be
open at once.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.hdf5 import h5_read

_MAX_TEXT_BYTES = 16 << 20


def h5_map(dataset: Any) -> npt.NDArray[Any]:
    """Return a read-only array over a dataset: mapped where its storage allows, else read.

    Args:
        dataset: From `h5_dataset`; the file may be closed afterwards.

    Raises:
        InputError: The stored bytes are damaged.
    """
    offset = dataset.id.get_offset()
    if dataset.chunks is not None or offset is None or not dataset.dtype.isnative:
        return h5_read(dataset)
    path = os.fspath(dataset.file.filename)
    return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)


def release(array: npt.NDArray[Any]) -> None:
    """Let the system take back the memory of a mapped array's rows that were read.

    They stay in the file and are read again on the next touch. Arrays in memory are left alone.

    Args:
        array: Maybe a view of a mapped array.
    """
    node: Any = array
    while node is not None and not isinstance(node, mmap.mmap):
        node = getattr(node, "base", None)
    advise = getattr(node, "madvise", None)
    if advise is not None and hasattr(mmap, "MADV_DONTNEED"):
        advise(mmap.MADV_DONTNEED)


def h5_texts(group: Any, name: str) -> list[str] | None:
    """Return the texts of a one-dimensional dataset of fixed-length bytes.

    Args:
        group: An open file or group.
        name: Path of the dataset in it.

    Returns:
        The texts; None where there is no such dataset or it is of another kind. Texts of variable
        length lie in heaps without checksums and are not read.
    """
    try:
        node = group.get(name)
        kind = getattr(node, "dtype", None)
        if kind is None or kind.kind != "S" or len(node.shape) != 1:
            return None
        if node.external or node.is_virtual or node.shape[0] * kind.itemsize > _MAX_TEXT_BYTES:
            return None
        return [bytes(item).decode("utf-8", "replace") for item in node[...].tolist()]
    except (OSError, RuntimeError, KeyError, ValueError):
        return None
