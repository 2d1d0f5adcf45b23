"""Arrays of .npy and .npz files: what numpy wrote comes back, and nothing else is believed."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocli.core.data.npz import read_array
from neurocli.core.errors import InputError


def npy(header: str, body: bytes = b"", *, version: int = 1) -> bytes:
    """Return the bytes of a .npy file with a header of one's own."""
    text = header.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + body


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", "|i1", "<u2", "<i4", ">i8"])
def test_numbers_of_every_width_come_back(tmp_path: Path, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    found = read_array(tmp_path / "a.npy")
    assert found.shape == (2, 3, 4)
    assert np.array_equal(found, array)


@pytest.mark.parametrize("writer", [np.savez, np.savez_compressed])
def test_archives_stored_and_deflated(tmp_path: Path, writer: Any) -> None:
    array = np.random.default_rng(0).standard_normal((3, 15, 18, 15)).astype(np.float32)
    writer(tmp_path / "a.npz", latent=array)
    assert np.array_equal(read_array(tmp_path / "a.npz"), array)


def test_fortran_order_is_kept(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(read_array(tmp_path / "a.npy"), array)


def test_zero_dimensional_arrays_are_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.float64(2.5))
    assert read_array(tmp_path / "a.npy") == 2.5


def test_longer_headers_of_version_two(tmp_path: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
    path = save(tmp_path / "a.npy", npy(header, b"\0\0\x80?\0\0\0@", version=2))
    assert read_array(path).tolist() == [1.0, 2.0]


def test_the_named_array_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mu=np.zeros(2), sigma=np.ones(2))
    assert read_array(tmp_path / "a.npz", key="sigma").tolist() == [1.0, 1.0]


def test_the_likeliest_name_is_taken_among_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", z_sigma=np.ones(2), z_mu=np.zeros(2))
    found = read_array(tmp_path / "a.npz", preferred=("latent", "z_mu"))
    assert found.tolist() == [0.0, 0.0]


def test_the_only_array_needs_no_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", whatever=np.ones(1))
    assert read_array(tmp_path / "a.npz", preferred=("latent",)).tolist() == [1.0]


def test_a_choice_that_cannot_be_made_lists_all(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=np.ones((2, 3), np.float32), two=np.ones(4))
    with pytest.raises(InputError, match="several arrays: one 2x3 float32, two 4 float64"):
        read_array(tmp_path / "a.npz", preferred=("latent",))


def test_a_missing_name_lists_what_is_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", mu=np.zeros(2))
    with pytest.raises(InputError, match="has no array 'z'") as caught:
        read_array(tmp_path / "a.npz", key="z")
    assert caught.value.hint == "it holds mu"


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("an object was built",))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_objects_are_refused_and_never_built(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    array = np.array([_Bomb()], dtype=object)
    if suffix == "npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, latent=array)
    with pytest.raises(InputError, match="holds Python objects"):
        read_array(path)


def test_a_bare_pickle_is_no_array(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", pickle.dumps([1, 2]))
    with pytest.raises(InputError):
        read_array(path)


@pytest.mark.parametrize(
    "descr",
    [
        "[('a', '<f4')]",
        "'<U4'",
        "'<c8'",
        "'<M8[s]'",
        "'<f16'",
    ],
)
def test_other_types_are_refused(tmp_path: Path, descr: str) -> None:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}"
    with pytest.raises(InputError, match=r"real numbers are needed|damaged header: type"):
        read_array(save(tmp_path / "a.npy", npy(header, b"\0" * 64)))


@pytest.mark.parametrize(
    "shape",
    [
        "(1000000000000,)",
        "(1000000, 1000000)",
        "(3,)",
        "(0,)",
    ],
)
def test_shapes_must_make_the_bytes_that_are_there(tmp_path: Path, shape: str) -> None:
    # Two float32 are stored; a header that claims terabytes must not make anyone reserve them.
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    with pytest.raises(InputError, match=r"needs .* bytes, 8 are there"):
        read_array(save(tmp_path / "a.npy", npy(header, b"\0" * 8)))


@pytest.mark.parametrize(
    "header",
    [
        "not a dict",
        "{'descr': '<f4', 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "__import__('os').system('true')",
        "(" * 500,
    ],
)
def test_headers_that_make_no_sense_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match="damaged header"):
        read_array(save(tmp_path / "a.npy", npy(header, b"\0" * 4)))


def test_an_oversized_header_is_refused(tmp_path: Path) -> None:
    header = " " * 60_000
    with pytest.raises(InputError, match="damaged header: 60001 bytes"):
        read_array(save(tmp_path / "a.npy", npy(header, b"\0" * 4)))


def test_a_header_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"{}"
    with pytest.raises(InputError, match="damaged header: 9000 bytes"):
        read_array(save(tmp_path / "a.npy", content))


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", latent=np.arange(100, dtype=np.float32))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[300] ^= 1
    with pytest.raises(InputError, match="damaged"):
        read_array(save(tmp_path / "b.npz", bytes(content)))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_cut_archives_are_refused(tmp_path: Path, share: float) -> None:
    np.savez(tmp_path / "a.npz", latent=np.arange(1000, dtype=np.float32))
    content = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(InputError):
        read_array(save(tmp_path / "b.npz", content[: int(len(content) * share)]))


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    # 64 MB of zeros in a few kB, whose header claims a single number.
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("latent.npy", npy(header, b"\0" * (64 << 20)))
    with pytest.raises(InputError):
        read_array(tmp_path / "a.npz")


def test_sizes_that_lie_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", latent=np.arange(10, dtype=np.float32))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    place = content.rfind(b"PK\x01\x02")
    struct.pack_into("<L", content, place + 24, 1 << 30)
    with pytest.raises(InputError, match="claims 1073741824 bytes"):
        read_array(save(tmp_path / "b.npz", bytes(content)))


def test_offsets_outside_the_file_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", latent=np.arange(10, dtype=np.float32))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    place = content.rfind(b"PK\x01\x02")
    struct.pack_into("<L", content, place + 42, 1 << 30)
    with pytest.raises(InputError, match="lies outside"):
        read_array(save(tmp_path / "b.npz", bytes(content)))


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", latent=np.arange(10, dtype=np.float32))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    place = content.rfind(b"PK\x01\x02")
    struct.pack_into("<H", content, place + 8, 1)
    with pytest.raises(InputError, match="encrypted"):
        read_array(save(tmp_path / "b.npz", bytes(content)))


def test_rarer_compressions_are_named(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.arange(4.0))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("latent.npy", content.getvalue())
    with pytest.raises(InputError, match="packed with method 12"):
        read_array(tmp_path / "a.npz")


def test_archives_without_arrays_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(InputError, match="holds no array"):
        read_array(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x01\x02\x03\x04", "no .npy or .npz"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_array(save(tmp_path / "a.npz", content))


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_array(tmp_path / "none.npz")
    with pytest.raises(InputError, match="empty"):
        read_array(save(tmp_path / "a.npz", b""))
