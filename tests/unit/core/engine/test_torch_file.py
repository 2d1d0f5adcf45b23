"""Foreign, damaged and hostile files; each is refused in one line that names it."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from neurocli.core.engine.torch_file import read_torch_file, seal, write_torch_file
from neurocli.core.errors import InputError

VALUE = {"weight": torch.arange(2000.0), "names": ["a", "b"], "step": 3}


def _sealed(path: Path) -> None:
    write_torch_file(path, VALUE)


def _written(folder: Path, value: Any) -> bytes:
    write_torch_file(folder / "made.pth", value)
    return (folder / "made.pth").read_bytes()


def _plain(path: Path) -> None:
    torch.save(VALUE, path)


def _legacy(path: Path) -> None:
    torch.save(VALUE, path, _use_new_zipfile_serialization=False)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["x"] = 1


def _npz(path: Path) -> None:
    with path.open("wb") as handle:
        np.savez(handle, x=np.zeros(3))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def _packed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))


def _torchscript(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"archive/{name}", b"x")


def _safetensors(path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None  # type: ignore[return-value]


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (_bytes(b""), r"is empty \(0 bytes\)"),
    "text": (_bytes(b"the weights are in the other folder\n"), "is a text file"),
    "noise": (_bytes(bytes(range(200, 256))), "is not a torch file"),
    "legacy": (_legacy, "bare pickle"),
    "pickle": (_bytes(pickle.dumps({"a": 1})), "bare pickle"),
    "hdf5": (_hdf5, "is an HDF5 file"),
    "gzip": (_bytes(gzip.compress(b"x" * 100)), "is gzip-compressed"),
    "npz": (_npz, "is a NumPy archive"),
    "zip": (_zip, "is a zip file, not a checkpoint"),
    "empty_zip": (_bytes(b"PK\x05\x06" + bytes(18)), "is an empty zip archive"),
    "packed": (_packed, "holds packed or overlapping members"),
    "torchscript": (_torchscript, "is a TorchScript program"),
    "safetensors": (_safetensors, "is a safetensors file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "absent": (lambda path: None, "there is no such file"),
    "objects": (lambda p: torch.save(Fraction(1, 3), p), "holds 'fractions.Fraction'"),
    "module": (lambda p: torch.save(nn.Linear(2, 2), p), "holds 'torch.nn.modules.linear.Linear'"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_other_file_gets_its_own_reason(tmp_path: Path, case: str) -> None:
    make, problem = CASES[case]
    path = tmp_path / "last.pth"
    make(path)
    with pytest.raises(InputError, match=problem) as caught:
        read_torch_file(path)
    text = f"{caught.value} {caught.value.hint}"
    assert caught.value.where == str(path)
    assert "\n" not in text
    assert "weights_only" not in text


class _Bomb:
    """Writes a marker when it is unpickled with code allowed."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("with_seal", [False, True])
def test_code_in_a_file_never_runs(tmp_path: Path, with_seal: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"state_dict": {}, "x": _Bomb(tmp_path / "marker")}, buffer)
    path = tmp_path / "bad.pth"
    if with_seal:
        seal(buffer)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match=r"holds 'posix\.system'"):
        read_torch_file(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("make", [_sealed, _plain])
def test_sound_files_are_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.bin")
    found = read_torch_file(tmp_path / "x.bin")
    assert torch.equal(found["weight"], VALUE["weight"])
    assert (found["names"], found["step"]) == (["a", "b"], 3)


@pytest.mark.parametrize("make", [_sealed, _plain])
def test_every_cut_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    for length in [1, 3, 30, 64, *range(100, len(content), 97), len(content) - 1]:
        (tmp_path / "x.pth").write_bytes(content[:length])
        with pytest.raises(InputError):
            read_torch_file(tmp_path / "x.pth")


def test_every_flipped_bit_of_our_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    content = _written(tmp_path, VALUE)
    rng = random.Random(0)
    places = [rng.randrange(len(content)) for _ in range(300)]
    # All of the end record and the seal too: damage there must not switch the check off.
    for place in [*places, *range(len(content) - 99, len(content))]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            read_torch_file(path)


def test_flipped_bits_of_foreign_files_never_change_a_value(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    _plain(path)
    content = path.read_bytes()
    rng = random.Random(1)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            found = read_torch_file(path)
        except InputError:
            refused += 1
        else:  # padding and dates of the container: nothing that is read
            assert torch.equal(found["weight"], VALUE["weight"])
            assert (found["names"], found["step"]) == (["a", "b"], 3)
    assert refused > 250


def test_content_replaced_under_a_seal_is_refused(tmp_path: Path) -> None:
    other = _written(tmp_path, {**VALUE, "names": ["a", "c"]})
    content = _written(tmp_path, VALUE)
    path = tmp_path / "x.pth"
    path.write_bytes(other[:-64] + content[-64:])
    with pytest.raises(InputError, match="does not match its checksum"):
        read_torch_file(path)


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    whole = _written(tmp_path, VALUE)
    for content in (whole, whole[:-77]):
        (tmp_path / "x.pth").write_bytes(content + b"more")
        with pytest.raises(InputError, match="cut short or damaged at its end"):
            read_torch_file(tmp_path / "x.pth")
