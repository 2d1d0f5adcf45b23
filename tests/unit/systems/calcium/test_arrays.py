"""`.npy` and `.npz` of unknown origin: numbers come back, everything else is refused by name."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocli.core.data.arrays import is_npy, is_zip, npy_bytes, read_npy, read_npz
from neurocli.core.errors import InputError


def crafted(path: Path, shape: str, kind: str = "'<f8'", body: bytes = b"\0" * 64) -> Path:
    """Write a `.npy` with any header that NumPy itself would not write."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body)
    return path


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|u1", "|b1", "<f2", ">i8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("mapped", [False, True])
def test_numbers_come_back(tmp_path: Path, dtype: str, order: Any, mapped: bool) -> None:
    values = np.asarray(np.random.default_rng(0).integers(0, 2, (3, 4, 5)), dtype, order=order)
    path = tmp_path / "a.npy"
    np.save(path, values)
    found = read_npy(path, mapped=mapped)
    assert found.dtype == values.dtype
    assert np.array_equal(found, np.load(path))  # numpy's own reader
    assert isinstance(found, np.memmap) == mapped
    assert not found.flags.writeable


@pytest.mark.parametrize("values", [np.zeros((0, 4)), np.float32(7), np.array(["ab", "c"])])
def test_odd_shapes_and_texts_come_back(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "a.npy"
    np.save(path, values)
    for mapped in (False, True):
        found = read_npy(path, mapped=mapped)
        assert found.shape == np.shape(values)
        assert np.array_equal(found, values)


@pytest.mark.parametrize(
    ("shape", "kind", "word"),
    [
        ("(-1,)", "'<f8'", r"damaged header: shape \(-1,\)"),
        ("(-2, -3)", "'<f8'", r"damaged header: shape \(-2, -3\)"),
        ("(True, 8)", "'<f8'", "damaged header"),
        ("(2.0, 4)", "'<f8'", "damaged header"),
        ("[2, 4]", "'<f8'", "damaged header"),
        ("(0, 4611686018427387904, 8)", "'<f8'", "damaged header"),
        ("(3, 4)", "'<f8'", "is cut short: 64 of 96 bytes"),
        ("(1000000000000, 8)", "'<f8'", "is cut short"),
        ("(2, 4)", "'|O'", "Python objects"),
        ("(2, 4)", "'<c16'", "holds complex128"),
        ("(2, 4)", "'|V8'", r"holds \|V8"),
        ("(2, 4)", "'<M8[s]'", "holds datetime64"),
        ("(2, 2)", "[('a', '<f8')]", "real numbers are needed"),
        ("(2, 2)", "__import__('os')", "damaged header"),
        ("(2, 2)", "'nonsense'", "damaged header"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_headers_that_are_not_sound(
    tmp_path: Path, shape: str, kind: str, word: str, mapped: bool
) -> None:
    path = crafted(tmp_path / "a.npy", shape, kind)
    with pytest.raises(InputError, match=word) as caught:
        read_npy(path, mapped=mapped)
    assert caught.value.where == str(path)


def test_a_header_of_an_unknown_version(tmp_path: Path) -> None:
    path = crafted(tmp_path / "a.npy", "(2, 4)")
    path.write_bytes(path.read_bytes().replace(b"NUMPY\x01", b"NUMPY\x09"))
    with pytest.raises(InputError, match="version"):
        read_npy(path)


def test_a_header_of_too_many_axes(tmp_path: Path) -> None:
    path = crafted(tmp_path / "a.npy", "(" + "1, " * 20_000 + ")")
    with pytest.raises(InputError, match="damaged header") as caught:
        read_npy(path)
    assert len(str(caught.value)) < len(str(path)) + 150


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (pickle.dumps([1]), "Python pickle"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x89HDF\r\n\x1a\nrest", "HDF5"),
        (b"a,b\n1,2\n", "plain text"),
        (b"\x93NUMP", "no NumPy array|damaged"),
        (b"\x93NUMPY\x01", "damaged header"),
    ],
)
def test_other_kinds_are_named(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word):
        read_npy(path)


# Archives


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_come_back(tmp_path: Path, save: Any) -> None:
    given = {"a": np.arange(6).reshape(2, 3), "b": np.array(2.5), "c": np.asfortranarray(np.eye(3))}
    save(tmp_path / "a.npz", **given)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(given)
    for name, values in given.items():
        assert np.array_equal(found[name], values)


def test_archives_that_unpack_to_too_much(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(100_000))
    with pytest.raises(InputError, match="would unpack to more than 4096 bytes"):
        read_npz(tmp_path / "a.npz", max_bytes=4096)


def archive(path: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as target:
        target.writestr("neural.npy", content)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_every_flipped_bit_of_an_archive_is_seen(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.npz"
    values = np.random.default_rng(0).normal(size=(20, 3))
    sound = archive(path, npy_bytes(values), method)
    rng = np.random.default_rng(method)
    n_read = 0
    for place in rng.integers(0, len(sound), 60).tolist():
        broken = bytearray(sound)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        # A flip in a date or a version changes no number; in the name it changes the name. Any
        # other error than the one for damaged files would fail here.
        with contextlib.suppress(InputError):
            for array in read_npz(path).values():
                assert np.array_equal(array, values)
                n_read += 1
    assert n_read < 20  # most of the flips are in what matters


def test_archives_that_are_damaged_or_locked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    sound = archive(path, npy_bytes(np.zeros((20, 3))))
    locked = bytearray(sound)
    locked[6] |= 1  # the bit of an encrypted member, in both of its headers
    locked[sound.find(b"PK\x01\x02") + 8] |= 1
    for content, word in (
        (sound[: len(sound) // 2], "damaged .npz archive"),
        (locked, "encrypted"),
        (b"\x80\x04abc", "Python pickle"),
        (b"neural", "plain text"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=word) as caught:
            read_npz(path)
        assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (npy_bytes(np.zeros(9))[:-1], "is cut short"),
        (pickle.dumps({}), "Python pickle"),
        (b"", "no NumPy array|empty|damaged"),
    ],
)
def test_members_that_are_no_arrays(tmp_path: Path, content: bytes, word: str) -> None:
    archive(tmp_path / "a.npz", content)
    with pytest.raises(InputError, match=word) as caught:
        read_npz(tmp_path / "a.npz")
    assert caught.value.where == f"{tmp_path / 'a.npz'}:neural"


def test_members_of_another_kind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as target:
        target.writestr("code.py", "print()")
    with pytest.raises(InputError, match=r"holds 'code.py', which is no array"):
        read_npz(tmp_path / "a.npz")


def test_bytes_are_those_of_numpy() -> None:
    values = np.arange(12, dtype=np.int16).reshape(3, 4).T
    content = npy_bytes(values)
    assert np.array_equal(np.load(io.BytesIO(content)), values)
    assert is_npy(content)
    assert not is_zip(content)
    with pytest.raises(ValueError, match="allow_pickle"):
        npy_bytes(np.array([{}], dtype=object))
