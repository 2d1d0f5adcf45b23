"""HDF5 written piece by piece: the bytes of the usual way, and nothing where the disk refuses."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurocli.core.data.hdf5 import create, write_h5
from neurocli.core.data.hdf5_stream import put_row, stream_h5
from neurocli.core.errors import NeuroError

ROWS = np.random.default_rng(0).integers(-99, 99, (50, 3000)).astype(np.int16)


def fill_whole(file: Any) -> None:
    create(file, "bold", ROWS, chunks=None, fletcher32=False)
    create(file, "mask", np.ones((3, 4)))
    file.attrs["name"] = "a run"


def fill_rows(file: Any) -> None:
    data = create(file, "bold", shape=ROWS.shape, dtype=ROWS.dtype, chunks=None, fletcher32=False)
    for index, row in enumerate(ROWS):
        put_row(data, index, row)
    create(file, "mask", np.ones((3, 4)))
    file.attrs["name"] = "a run"


def test_rows_are_read_back(tmp_path: Path) -> None:
    stream_h5(tmp_path / "x.h5", fill_rows, expected_bytes=ROWS.nbytes)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["bold"][:], ROWS)
        assert file.attrs["name"].decode() == "a run"


@pytest.mark.parametrize("fill", [fill_whole, fill_rows])
def test_the_bytes_are_those_of_the_usual_way(tmp_path: Path, fill: Callable[[Any], None]) -> None:
    stream_h5(tmp_path / "a.h5", fill)
    write_h5(tmp_path / "b.h5", fill)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_what_was_written_can_be_read_while_writing(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        fill_rows(file)
        np.testing.assert_array_equal(file["bold"][7:9], ROWS[7:9])

    stream_h5(tmp_path / "x.h5", fill)


@pytest.mark.parametrize("n_good", [0, 1, 3, 20])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_refused_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_good: int, code: int
) -> None:
    target = tmp_path / "x.h5"
    target.write_bytes(b"old")
    real, seen = os.pwrite, []

    def limited(descriptor: int, data: Any, position: int) -> int:
        seen.append(1)
        if len(seen) > n_good:
            raise OSError(code, os.strerror(code))
        return real(descriptor, data, position)

    monkeypatch.setattr(os, "pwrite", limited)
    with pytest.raises(NeuroError, match=os.strerror(code)):
        stream_h5(target, fill_rows)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:4096], at))
    stream_h5(tmp_path / "x.h5", fill_rows)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["bold"][:], ROWS)


def test_errors_of_the_caller_go_through(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        raise ValueError("of the caller")

    with pytest.raises(ValueError, match="of the caller"):
        stream_h5(tmp_path / "x.h5", fill)
    assert not list(tmp_path.iterdir())


def test_too_little_room_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(NeuroError, match=r"the disk has \d+ MiB left"):
        stream_h5(tmp_path / "x.h5", fill_rows, expected_bytes=1 << 60)
    assert not list(tmp_path.iterdir())
