"""Arrays at the edges of what a file may claim: empty ones, huge sides, several packed members."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.data.npz import MAX_BYTES, read_array
from neurocli.core.errors import ExitCode, InputError


def npy(shape: str, body: bytes = b"", *, descr: str = "<f4") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_array(path)
    assert caught.value.code == ExitCode.FAILED
    assert caught.value.where == str(path)
    return caught.value.message


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0, 2)])
def test_empty_arrays_are_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy(str(shape)))
    assert read_array(path).shape == shape
    assert np.load(path).shape == shape  # numpy's own reader agrees


@pytest.mark.parametrize(
    "shape", [f"(0, {10**30})", f"(0, {2**40}, {2**40})", f"(0, {2 * MAX_BYTES})"]
)
def test_sides_that_no_memory_holds_are_refused(tmp_path: Path, shape: str) -> None:
    # No byte is missing, since 0 times anything is 0: numpy itself ends in a ValueError here.
    assert "damaged header" in refused(tmp_path / "a.npy", npy(shape))


@pytest.mark.parametrize("shape", ["(2, True)", "(2.0,)", "[2]", "(-1,)", "2"])
def test_sides_that_are_no_counts_are_refused(tmp_path: Path, shape: str) -> None:
    assert "damaged header" in refused(tmp_path / "a.npy", npy(shape, b"\0" * 8))


def test_more_axes_than_any_study_has_are_refused(tmp_path: Path) -> None:
    one = b"\0" * 4
    path = tmp_path / "a.npy"
    path.write_bytes(npy(str((1,) * 16), one))
    assert read_array(path).ndim == 16
    assert "damaged header" in refused(path, npy(str((1,) * 33), one))


def test_one_byte_too_many_is_refused_like_one_too_few(tmp_path: Path) -> None:
    # Two float32 are 8 bytes.
    for n in (7, 9):
        text = refused(tmp_path / "a.npy", npy("(2,)", b"\0" * n))
        assert text == f"its array of shape (2,) needs 8 bytes, {n} are there"


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    body = pickle.dumps(np.array([Trap()], dtype=object))
    trace.unlink(missing_ok=True)
    text = refused(tmp_path / "a.npy", npy("(1,)", body, descr="|O"))
    assert "holds Python objects" in text
    assert not trace.exists()


def test_a_bomb_that_claims_little_is_unpacked_no_further(tmp_path: Path) -> None:
    # 4 MiB of zeros deflate to 4 KiB; the directory is then made to claim 200 bytes.
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("z.npy", npy("(1048576,)", b"\0" * (1 << 22)))
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<L", 200)
    assert "damaged (checksum)" in refused(path, bytes(data))


def test_too_many_members_are_refused_before_any_is_read(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for i in range(1001):
            archive.writestr(f"a{i}.npy", b"")
    assert "(1001 members)" in refused(tmp_path / "a.npz", content.getvalue())


def test_the_array_is_a_view_and_cannot_be_written(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", latent=np.arange(6.0))
    found = read_array(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_the_first_preferred_name_wins_whatever_the_files_order(tmp_path: Path) -> None:
    for first, second in (("mu", "z"), ("z", "mu")):
        values = {"mu": np.array([1.0]), "z": np.array([2.0])}
        np.savez(tmp_path / "a.npz", **{first: values[first], second: values[second]})
        found = read_array(tmp_path / "a.npz", preferred=("latent", "z", "mu"))
        assert found.tolist() == [2.0]  # z stands before mu in the list of likely names
