"""Rows of a dataset read by their place in the file."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurocli.core.data.hdf5 import create, h5_dataset, open_h5, write_h5
from neurocli.core.data.plain_rows import PlainRows, is_plain
from neurocli.core.errors import InputError

VALUES = np.random.default_rng(0).standard_normal((9, 5, 7)).astype(np.float16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    def fill(file: h5py.File) -> None:
        create(file, "first", np.arange(3000))
        create(file, "rows", VALUES, chunks=None, fletcher32=False)
        create(file, "chunks", VALUES)
        create(file, "swapped", VALUES.astype(">f2"), chunks=None, fletcher32=False)

    write_h5(tmp_path / "x.h5", fill)
    return tmp_path / "x.h5"


def test_rows_are_those_of_the_library(path: Path) -> None:
    with open_h5(path) as file:
        rows = PlainRows(h5_dataset(file, "rows"))
        for first, count in ((0, 9), (4, 1), (7, 2)):
            found = np.empty((count, 5, 7), dtype=np.float16)
            rows.read_into(found, first)
            np.testing.assert_array_equal(found, file["rows"][first : first + count])
        rows.close()


def test_what_does_not_lie_as_in_memory_is_not_plain(path: Path) -> None:
    with open_h5(path) as file:
        names = ("rows", "chunks", "swapped")
        assert [is_plain(h5_dataset(file, name)) for name in names] == [True, False, False]


def test_a_file_that_became_shorter(path: Path) -> None:
    with open_h5(path) as file:
        dataset = h5_dataset(file, "rows")
        rows = PlainRows(dataset)
        os.truncate(path, dataset.id.get_offset() + 100)
        with pytest.raises(InputError, match="ends before its data do"):
            rows.read_into(np.empty((9, 5, 7), dtype=np.float16), 0)
        with pytest.raises(InputError, match="ends before its dataset"):
            PlainRows(dataset)
