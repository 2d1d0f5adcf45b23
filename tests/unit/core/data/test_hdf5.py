"""HDF5: only numbers that lie whole in the file come out, and writing is whole and repeatable.

Hostile files are built with h5py itself; expected values are the arrays that were stored.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
import time
import zlib

import h5py
import numpy as np
import pytest

from neurocli.core.data import hdf5
from neurocli.core.data.hdf5 import (
    check_chunks,
    create,
    h5_attributes,
    h5_dataset,
    h5_read,
    open_h5,
    write_h5,
)
from neurocli.core.errors import InputError, MissingDependencyError, NeuroError

VALUES = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)


def fill(file, **options):
    file.attrs["schema"] = "neuro/fmri-run/1"
    file.attrs["complete"] = True
    file.attrs["affine"] = np.eye(4)
    create(file, "bold", VALUES, chunks=(1, 50), **options)


def open_dataset(path, name="bold", **options):
    with open_h5(path) as file:
        return h5_read(h5_dataset(file, name, **options))


OPTIONS = {
    "none": {},
    "gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "fletcher32": {"fletcher32": True, "compression": "gzip"},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_written_values_come_back(tmp_path, kind):
    path = tmp_path / "new" / "run.h5"
    write_h5(path, lambda file: fill(file, **OPTIONS[kind]))
    np.testing.assert_array_equal(open_dataset(path, n_dims=2), VALUES)
    with open_h5(path) as file:
        dataset = h5_dataset(file, "/bold")
        check_chunks(dataset)
        np.testing.assert_array_equal(h5_read(dataset, np.s_[2:4]), VALUES[2:4])
        np.testing.assert_array_equal(h5_read(dataset, np.s_[::2, 3]), VALUES[::2, 3])


def test_the_same_content_gives_the_same_bytes(tmp_path):
    def content(file):
        fill(file, compression="gzip")
        create(file, "group/mask", np.ones((3, 3, 3), np.uint8))
        for index in range(20):  # so many attributes are stored in another structure
            file.attrs[f"number_{index}"] = float(index)

    digests = set()
    for name in ("a.h5", "b.h5"):
        write_h5(tmp_path / name, content)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
        time.sleep(1.05)  # time stamps would count seconds
    assert len(digests) == 1


def test_a_failing_fill_leaves_the_older_file(tmp_path):
    path = tmp_path / "run.h5"
    write_h5(path, fill)
    before = path.read_bytes()

    def broken(file):
        fill(file)
        raise NeuroError("no")

    with pytest.raises(NeuroError, match="no"):
        write_h5(path, broken)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.h5"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from neurocli.core.data.hdf5 import create, write_h5
from neurocli.core.errors import NeuroError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    write_h5(Path(sys.argv[1]), lambda file: create(file, "bold", np.ones((100, 40000))))
except NeuroError as error:
    print(error.message)
"""


def test_a_full_disk_is_an_error_and_no_crash(tmp_path):
    """Written directly, the library ends the process with a signal here."""
    path = tmp_path / "run.h5"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("cannot write: File too large")
    assert not list(tmp_path.iterdir())


def test_attributes_are_plain_values(tmp_path):
    path = tmp_path / "run.h5"
    values = {
        "whole": np.int64(3),
        "real": 0.72,
        "flag": True,
        "text": "run ü",
        "blank": "",
        "raw": np.bytes_(b"bytes"),
        "names": np.array([b"a", b"bc"]),
    }

    def content(file):
        file.attrs.update(values)
        file.attrs["nan"] = np.nan
        file.attrs["affine"] = np.eye(4)
        file.attrs["large"] = np.zeros(1000)

    write_h5(path, content)
    assert b"GCOL" not in path.read_bytes()  # the heap for texts of variable length
    with open_h5(path) as file:
        found = h5_attributes(file)
    assert np.isnan(found.pop("nan"))
    np.testing.assert_array_equal(found.pop("affine"), np.eye(4))
    assert found.pop("large").shape == (1000,)
    assert found == {**values, "raw": "bytes", "names": ["a", "bc"]}
    assert type(found["whole"]) is int
    assert type(found["flag"]) is bool


def test_attributes_of_other_kinds_are_left_out(tmp_path):
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file.attrs["number"] = 1.5
        file.attrs["loose text"] = "of variable length"
        file.attrs["nothing"] = h5py.Empty("f")
        file.attrs["link"] = file.ref
        file.attrs.create("record", np.zeros(2, dtype=[("x", "f4"), ("y", "i4")]))
    with open_h5(path) as file:
        assert h5_attributes(file) == {"number": 1.5, "nothing": None}


def test_what_is_no_hdf5_file_is_named(tmp_path):
    for content, problem in (
        (b"<html></html>", "web page"),
        (b"hello, this is text", "plain text"),
        (bytes(range(200, 256)), "no HDF5"),
        (b"", "empty"),
        (b"version https://git-lfs", "git-lfs"),
    ):
        path = tmp_path / "run.h5"
        path.write_bytes(content)
        with pytest.raises(InputError, match=problem), open_h5(path):
            pass


def test_cut_files_are_refused(tmp_path):
    path = tmp_path / "run.h5"
    write_h5(path, fill)
    whole = path.read_bytes()
    for length in (9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged") as caught, open_h5(path):
            pass
        assert caught.value.where == str(path)
        assert "\n" not in str(caught.value)


def test_flipped_bits_under_a_checksum_are_caught(tmp_path):
    path = tmp_path / "run.h5"
    write_h5(path, lambda file: fill(file, fletcher32=True))
    whole = path.read_bytes()
    place = whole.index(VALUES[3].tobytes())
    rng = np.random.default_rng(3)
    for offset in rng.integers(0, VALUES[3].nbytes, size=20):
        content = bytearray(whole)
        content[place + offset] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            open_dataset(path)


@pytest.mark.parametrize("kind", ["gzip", "lzf", "shuffle"])
def test_chunks_that_inflate_short_are_caught(tmp_path, kind):
    """The library itself hands out stale memory for the missing part."""
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        options = {"shuffle": True} if kind == "shuffle" else {"compression": kind}
        dataset = file.create_dataset("bold", (4, 1000), "f4", chunks=(1, 1000), **options)
        dataset[:] = 1
        short = {
            "gzip": zlib.compress(bytes(100)),
            "lzf": struct.pack("BB", 0, 7),
            "shuffle": bytes(4000) + b"more",
        }[kind]
        dataset.id.write_direct_chunk((2, 0), short)
    with open_h5(path) as file, pytest.raises(InputError, match="damaged"):
        check_chunks(h5_dataset(file, "bold"))


def test_filter_libraries_are_never_searched(tmp_path):
    """An unknown filter makes the library list and load files of a folder; here it must not."""
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((1, 50))
        properties.set_filter(12345, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((6, 50))
        dataset = h5py.h5d.create(file.id, b"bold", h5py.h5t.NATIVE_FLOAT, space, properties)
        h5py.Dataset(dataset)[:] = VALUES
    with open_h5(path) as file, pytest.raises(InputError, match="filter 12345"):
        h5_dataset(file, "bold")
    code = "import neurocli.core.data.hdf5, os; print(os.environ['HDF5_PLUGIN_PRELOAD'])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.strip() == "::"


def test_zstd_says_when_it_is_absent(tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    if hdf5.has_zstd():
        write_h5(path, lambda file: fill(file, compression=hdf5.ZSTD_FILTER))
        np.testing.assert_array_equal(open_dataset(path), VALUES)
        monkeypatch.setattr(hdf5, "has_zstd", lambda: False)
    else:
        with h5py.File(path, "w") as file:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((1, 50))
            properties.set_filter(hdf5.ZSTD_FILTER, h5py.h5z.FLAG_OPTIONAL, ())
            space = h5py.h5s.create_simple((6, 50))
            dataset = h5py.h5d.create(file.id, b"bold", h5py.h5t.NATIVE_FLOAT, space, properties)
            h5py.Dataset(dataset)[:] = VALUES
    with open_h5(path) as file, pytest.raises(MissingDependencyError, match="zstd") as caught:
        h5_dataset(file, "bold")
    assert "hdf5plugin" in caught.value.hint


def everything(path):
    with open_h5(path) as file:
        found = {name: h5_read(h5_dataset(file, name)) for name in ("bold", "mask", "group/std")}
        return {**found, **h5_attributes(file)}


def test_no_flipped_bit_comes_through(tmp_path):
    """Data carry fletcher32, and the metadata of this format version checksums of its own."""
    path = tmp_path / "run.h5"

    def content(file):
        fill(file, compression="gzip")
        create(file, "mask", np.ones((5, 6, 7), np.uint8))
        create(file, "group/std", shape=(50,), dtype="f8")[:] = np.arange(50)
        for index in range(12):
            file.attrs[f"number_{index}"] = float(index)

    write_h5(path, content)
    whole, expected = path.read_bytes(), everything(path)
    rng = np.random.default_rng(4)
    caught = 0
    for bit in rng.choice(len(whole) * 8, size=400, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        try:
            found = everything(path)
        except InputError:
            caught += 1
            continue
        assert found.keys() == expected.keys()  # the flip fell into unused space
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
    assert caught > 250


def test_random_damage_of_an_older_format_ends_in_no_other_error(tmp_path):
    path = tmp_path / "run.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        fill(file, compression="gzip")
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    caught = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), size=rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            with open_h5(path) as file:
                h5_attributes(file)
                dataset = h5_dataset(file, "bold")
                check_chunks(dataset)
                h5_read(dataset)
        except InputError:
            caught += 1
    assert caught > 50
