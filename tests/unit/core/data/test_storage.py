"""How a dataset is stored decides whether it may be read; no trick reaches other bytes.

The hostile files are built with h5py itself.
"""

from __future__ import annotations

import time

import h5py
import numpy as np
import pytest

from neurocli.core.data.hdf5 import h5_dataset, open_h5
from neurocli.core.errors import InputError

VALUES = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
CANARY = b"CANARY-SECRET-" * 100


def hostile(folder):
    """Return files that point outside, one per trick, by name."""
    secret = folder / "secret.bin"
    secret.write_bytes(CANARY)
    with h5py.File(folder / "other.h5", "w") as file:
        file["bold"] = VALUES
        file["inner/bold"] = VALUES
    paths = {
        name: folder / f"{name}.h5"
        for name in ("storage", "link", "parent", "virtual", "soft", "lonely")
    }
    with h5py.File(paths["storage"], "w") as file:
        file.create_dataset("bold", (100,), "u1", external=[(str(secret), 0, 100)])
    with h5py.File(paths["link"], "w") as file:
        file["bold"] = h5py.ExternalLink("other.h5", "/bold")
    with h5py.File(paths["parent"], "w") as file:
        file["inner"] = h5py.ExternalLink("other.h5", "/inner")
    for name, source in (("virtual", "other.h5"), ("lonely", "absent.h5")):
        with h5py.File(paths[name], "w") as file:
            layout = h5py.VirtualLayout(shape=(6, 50), dtype="f4")
            layout[:] = h5py.VirtualSource(source, "bold", shape=(6, 50))
            file.create_virtual_dataset("bold", layout)
    with h5py.File(paths["soft"], "w") as file:
        file["bold"] = h5py.SoftLink("/bold")
    return paths


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("storage", "from other files"),
        ("link", "link to somewhere else"),
        ("parent", "link to somewhere else"),
        ("virtual", "from other files"),
        ("lonely", "from other files"),
        ("soft", "link to somewhere else"),
    ],
)
def test_no_other_file_is_read(tmp_path, name, problem):
    dataset = "inner/bold" if name == "parent" else "bold"
    with open_h5(hostile(tmp_path)[name]) as file, pytest.raises(InputError, match=problem):
        h5_dataset(file, dataset)


def test_absent_data_is_not_read_as_zeros(tmp_path):
    path = tmp_path / "run.h5"
    with h5py.File(path, "w", libver="latest") as file:
        half = file.create_dataset("half", (6, 50), "f4", chunks=(1, 50))
        half[:4] = 1
        file.create_dataset("never", (6, 50), "f4")
        file.create_dataset("huge", (10**6, 10**7), "f4", chunks=(1, 1000))
        sparse = file.create_dataset("sparse", (10**4, 50), "f4", chunks=(1, 50), compression=9)
        sparse[0, 0] = 1
        file.create_dataset("empty", (0, 4), "f4")
        file.create_dataset("null", dtype="f4", shape=None)
    start = time.perf_counter()
    for name, problem in {
        "half": "a part of its 1200 bytes is not stored",
        "never": "half written: 0 of 1200 bytes",
        "huge": "half written",
        "sparse": "half written",
        "empty": "is empty",
        "null": "is empty",
    }.items():
        with open_h5(path) as file, pytest.raises(InputError, match=problem) as caught:
            h5_dataset(file, name)
        assert caught.value.where == f"{path}:{name}"
    assert time.perf_counter() - start < 1


def test_only_numbers_of_the_wanted_axes_pass(tmp_path):
    path = tmp_path / "run.h5"
    with h5py.File(path, "w") as file:
        file["text"] = ["a", "b"]
        file["record"] = np.zeros(3, dtype=[("x", "f4")])
        file["complex"] = np.zeros(3, np.complex64)
        file["flat"] = np.zeros(3)
        file["group/x"] = 1
        file.create_dataset("scaled", data=np.arange(100), chunks=(50,), scaleoffset=0)
        # A chunk of 512 MiB that gzip stores in few bytes.
        file.create_dataset("bomb", (1 << 27,), "f4", chunks=(1 << 27,), compression="gzip")
    for name, problem in {
        "text": "real numbers",
        "record": "real numbers",
        "complex": "real numbers",
        "flat": r"has 1 axes \(3\), 2 are needed",
        "group": "is no dataset",
        "absent": "no such dataset",
        "flat/x": "no such dataset",
        "scaled": "filter 6",
        "bomb": "chunks of 536870912 bytes",
    }.items():
        n_dims = 2 if name == "flat" else None
        with open_h5(path) as file, pytest.raises(InputError, match=problem):
            h5_dataset(file, name, n_dims=n_dims)
