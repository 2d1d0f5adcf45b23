"""Arrays on disk: whole, mapped, and never objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurocli.core.data.arrays import open_array, write_array
from neurocli.core.errors import InputError


def test_round_trip_is_a_read_only_map(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    write_array(tmp_path / "a.npy", values.transpose(1, 0, 2))
    found = open_array(tmp_path / "a.npy", n_dims=3)
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, values.transpose(1, 0, 2))
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0, 0] = 1


def test_nothing_is_an_array_too(tmp_path: Path) -> None:
    write_array(tmp_path / "a.npy", np.empty((0, 4), dtype=np.int16))
    assert open_array(tmp_path / "a.npy", n_dims=2).shape == (0, 4)


def test_objects_and_damage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as handle:
        np.lib.format.write_array(handle, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects"):
        open_array(path)
    with pytest.raises(InputError, match="cannot hold"):
        write_array(path, np.array([{}], dtype=object))
    write_array(path, np.zeros(100))
    content = path.read_bytes()
    for broken, said in (
        (content[:-8], "claims"),
        (content + b"x", "claims"),
        (content[:20], "damaged header"),
        (b"version https://git-lfs.github.com/spec", "git-lfs"),
        (b"abc", "plain text"),
    ):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=said):
            open_array(path)
    write_array(path, np.zeros(100))
    with pytest.raises(InputError, match="axes"):
        open_array(path, n_dims=3)
