"""Read rows of an HDF5 dataset that lies in one piece, past the library and its copies."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.source import check_regular
from neurocli.core.errors import InputError


class PlainRows:
    """Read rows of a checked dataset by their place in the file.

    A place is told at every read, so processes and threads may share one.

    Args:
        dataset: From `h5_dataset`; `is_plain` holds for it.

    Raises:
        InputError: The file is shorter than the dataset, or cannot be opened.
    """

    def __init__(self, dataset: Any) -> None:
        self.path = Path(os.fsdecode(dataset.file.filename))
        self.start = int(dataset.id.get_offset())
        self.row_bytes = prod(dataset.shape[1:]) * dataset.dtype.itemsize
        size = check_regular(self.path)
        if self.start + len(dataset) * self.row_bytes > size:
            raise InputError(self.path, f"ends before its dataset {dataset.name} does")
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def read_into(self, rows: npt.NDArray[Any], first: int) -> None:
        """Fill an array with consecutive rows.

        Args:
            rows: Contiguous, of the dataset's dtype and row shape.
            first: Index of the first row.

        Raises:
            InputError: The file has become shorter, or the disk fails.
        """
        wanted = memoryview(rows.reshape(-1).view(np.uint8).data)
        place = self.start + first * self.row_bytes
        while wanted:
            try:
                count = os.preadv(self._descriptor, [wanted], place)
            except OSError as error:
                raise InputError(self.path, f"cannot be read: {error.strerror}") from error
            if not count:
                raise InputError(self.path, "ends before its data do", "copy the file again")
            wanted, place = wanted[count:], place + count

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def is_plain(dataset: Any) -> bool:
    """Tell whether the numbers of a dataset lie in one piece, as memory would hold them."""
    return bool(
        dataset.chunks is None and dataset.dtype.isnative and dataset.id.get_offset() is not None
    )
