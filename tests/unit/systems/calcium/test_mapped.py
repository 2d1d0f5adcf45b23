"""Datasets of HDF5 that are mapped where storage allows, read where not, and their texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurocli.core.data.hdf5 import h5_dataset, h5_names, open_h5
from neurocli.core.data.mapped import h5_map, h5_texts, release
from neurocli.core.errors import InputError


@pytest.fixture(scope="module")
def values() -> Any:
    return np.random.default_rng(0).normal(size=(64, 7)).astype(np.float32)


def write(path: Path, values: Any, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["before"] = np.arange(99)  # so that the data do not start at a round place
        file.create_dataset("deep/x", data=values, **options)
    return path


def mapped(path: Path, name: str = "deep/x") -> Any:
    with open_h5(path) as file:
        return h5_map(h5_dataset(file, name))


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i2", "|u1"])
def test_one_piece_is_mapped_and_outlives_the_file(tmp_path: Path, values: Any, dtype: str) -> None:
    stored = (10 * np.abs(values)).astype(dtype)
    found = mapped(write(tmp_path / "a.h5", stored))
    assert isinstance(found, np.memmap)
    assert found.dtype == stored.dtype
    assert np.array_equal(found, stored)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


@pytest.mark.parametrize(
    "options",
    [{"chunks": (8, 7)}, {"chunks": (64, 7), "compression": "gzip"}, {"dtype": ">f4"}],
)
def test_other_storage_is_read(tmp_path: Path, values: Any, options: Any) -> None:
    found = mapped(write(tmp_path / "a.h5", values, **options))
    assert not isinstance(found, np.memmap)
    assert np.array_equal(found, values)


def test_a_file_that_was_cut_is_refused_before_it_is_mapped(tmp_path: Path, values: Any) -> None:
    path = write(tmp_path / "a.h5", values)
    path.write_bytes(path.read_bytes()[:-100])
    # Touching a map past the end of its file would kill the process.
    with pytest.raises(InputError, match=r"damaged|half written|cut"):
        mapped(path)


def test_a_dataset_that_was_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (64, 7), "f4")
    with pytest.raises(InputError, match="half written: 0 of 1792 bytes"):  # 64 * 7 * 4
        mapped(tmp_path / "a.h5", "x")


def test_released_rows_are_read_again(tmp_path: Path, values: Any) -> None:
    found = mapped(write(tmp_path / "a.h5", values))
    for view in (found, found.T, found[5:20], found[::2, 1:]):
        before = np.array(view)
        release(view)
        assert np.array_equal(view, before)


def test_arrays_in_memory_are_left_alone(values: Any) -> None:
    own = values.copy()
    for array in (own, own[3:], own.T, np.float32(1)):
        release(array)
    assert np.array_equal(own, values)


def test_texts_of_fixed_length(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["id"] = np.array([b"a/0", b"longer/1", "ä".encode(), b"\xff"])
        file["free"] = ["of", "any", "length"]
        file["table"] = np.array([[b"a"], [b"b"]])
        file["numbers"] = np.arange(3)
        file.create_group("group")
        file["dangling"] = h5py.SoftLink("/nowhere")
    with open_h5(tmp_path / "a.h5") as file:
        # Bytes that are no UTF-8 become the replacement sign.
        assert h5_texts(file, "id") == ["a/0", "longer/1", "ä", "\ufffd"]
        for name in ("free", "table", "numbers", "group", "dangling", "absent"):
            assert h5_texts(file, name) is None, name


def test_texts_that_would_fill_the_memory(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("id", (1 << 12,), "S8192", chunks=(1,))  # 32 MiB, never written
    with open_h5(tmp_path / "a.h5") as file:
        assert h5_texts(file, "id") is None


def test_names_are_those_of_the_file_itself(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.arange(3)
        file.create_group("group")
        file["soft"] = h5py.SoftLink("/data")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["outside"] = h5py.ExternalLink("b.h5", "/x")
    with open_h5(tmp_path / "a.h5") as file:
        assert h5_names(file) == ["data", "group"]
        assert h5_names(file["group"]) == []
        assert h5_names(file["data"]) == []
        assert h5_names(None) == []
