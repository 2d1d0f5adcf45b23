"""The header reader: every claim is judged before anything is allocated.

Expected geometry comes from nibabel; expected refusals are the rules of the standard.
"""

from __future__ import annotations

import gzip
import os
import resource
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from neurocli.core.data.nifti_header import read_header
from neurocli.core.errors import InputError

# Byte offsets of NIfTI-1 header fields, from the standard.
OFFSETS = {
    "sizeof_hdr": (0, "<i"),
    "dim0": (40, "<h"),
    "dim1": (42, "<h"),
    "dim4": (48, "<h"),
    "datatype": (70, "<h"),
    "pixdim4": (92, "<f"),
    "vox_offset": (108, "<f"),
    "scl_slope": (112, "<f"),
    "scl_inter": (116, "<f"),
    "xyzt_units": (123, "<B"),
    "qform_code": (252, "<h"),
    "sform_code": (254, "<h"),
    "quatern_b": (256, "<f"),
    "srow_x": (280, "<f"),
    "magic": (344, "<4s"),
}
AFFINE = np.array([[-3, 0, 0, 90], [0, 3, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]], float)


def image_bytes(shape=(4, 5, 6, 7), dtype="int16", kind=nib.Nifti1Image, **fields) -> bytes:
    """Return a sound image, with single header fields overwritten."""
    rng = np.random.default_rng(0)
    array = rng.integers(0, 100, size=shape).astype(dtype)
    image = kind(array, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) > 3:
        image.header["pixdim"][4] = 2.5
    content = bytearray(image.to_bytes())
    for name, value in fields.items():
        offset, form = OFFSETS[name]
        struct.pack_into(form, content, offset, value)
    return bytes(content)


def put(folder: Path, content: bytes, name: str = "run.nii") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["run.nii", "run.nii.gz"])
def test_sound_header_agrees_with_nibabel(tmp_path, kind, name):
    content = image_bytes(kind=kind)
    path = put(tmp_path, gzip.compress(content) if name.endswith("gz") else content, name)
    header = read_header(path)
    referee = nib.load(path)
    assert header.shape == referee.shape == (4, 5, 6, 7)
    assert header.n_frames == 7
    assert header.orientation == "LAS"
    assert header.zooms_mm == pytest.approx((3, 3, 4))
    assert header.tr_s == 2.5
    assert (header.slope, header.inter) == (1.0, 0.0)
    assert header.is_gzip == name.endswith("gz")
    np.testing.assert_array_equal(header.affine, referee.affine)


def test_big_endian_header(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=">i2").reshape(2, 3, 4), AFFINE)
    image = nib.Nifti1Image(image.dataobj, AFFINE, image.header.as_byteswapped(">"))
    header = read_header(put(tmp_path, image.to_bytes()))
    assert header.dtype == np.dtype(">i2")
    assert header.shape == (2, 3, 4)
    assert header.n_frames == 1


def test_qform_and_fallback_affines_agree_with_nibabel(tmp_path):
    oblique = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, -0.3) * 2.0, [1, 2, 3])
    image = nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), None)
    image.header.set_zooms((2.0, 2.0, 2.0))
    plain = put(tmp_path, image.to_bytes(), "plain.nii")
    image.set_qform(oblique, 1)
    turned = put(tmp_path, image.to_bytes(), "turned.nii")
    for path in (plain, turned):
        np.testing.assert_allclose(read_header(path).affine, nib.load(path).affine, atol=1e-12)


@pytest.mark.parametrize(
    ("units", "stored", "expected"),
    [(8, 0.72, 0.72), (0, 2.0, 2.0), (16, 720.0, 0.72), (24, 720000.0, 0.72), (32, 2.0, None)]
    + [(8, value, None) for value in (0.0, -1.0, np.nan, np.inf)],
)
def test_repetition_time_is_in_seconds(tmp_path, units, stored, expected):
    content = image_bytes(xyzt_units=units | 2, pixdim4=stored)
    assert read_header(put(tmp_path, content)).tr_s == expected


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        ((4, 5, 6, 1, 7), (4, 5, 6, 7)),
        ((4, 5, 6, 7, 1), (4, 5, 6, 7)),
        ((4, 5, 1, 7), (4, 5, 1, 7)),
        ((4, 5, 6, 1), (4, 5, 6, 1)),
        ((4, 5, 6, 1, 1), (4, 5, 6, 1)),
        ((4, 5, 6, 1, 7, 1, 1), (4, 5, 6, 7)),
    ],
)
def test_singleton_axes_behind_space_are_squeezed(tmp_path, stored, shape):
    assert read_header(put(tmp_path, image_bytes(stored))).shape == shape


def test_absent_scaling_is_one_and_zero(tmp_path):
    for slope in (0.0, np.nan):
        header = read_header(put(tmp_path, image_bytes(scl_slope=slope, scl_inter=np.nan)))
        assert (header.slope, header.inter) == (1.0, 0.0)
    header = read_header(put(tmp_path, image_bytes(scl_slope=0.5, scl_inter=-3.0)))
    assert (header.slope, header.inter) == (0.5, -3.0)


REFUSED = {
    "dim0 is 0": ({"dim0": 0}, r"dim\[0\] is 0"),
    "dim0 is 9": ({"dim0": 9}, r"dim\[0\] is 9"),
    "negative length": ({"dim1": -4}, r"dim\[1\] is -4"),
    "zero length": ({"dim4": 0}, r"dim\[4\] is 0"),
    "too many frames": ({"dim4": 32767}, "cut short.*7 of 32767 frames are whole"),
    "complex": ({"datatype": 32}, "complex64"),
    "RGB": ({"datatype": 128}, "RGB"),
    "unknown type": ({"datatype": 77}, "unknown voxels"),
    "infinite slope": ({"scl_slope": np.inf}, "scl_slope is inf"),
    "NaN intercept": ({"scl_slope": 1.0, "scl_inter": np.nan}, "scl_inter is nan"),
    "NaN offset": ({"vox_offset": np.nan}, "vox_offset is nan"),
    "infinite offset": ({"vox_offset": np.inf}, "vox_offset is inf"),
    "negative offset": ({"vox_offset": -1.0}, "vox_offset is -1"),
    "offset in header": ({"vox_offset": 100.0}, "vox_offset is 100"),
    "offset past end": ({"vox_offset": 1e6}, "cut short.*0 of 7"),
    "NaN affine": ({"srow_x": np.nan}, "NaN or Inf"),
    "singular affine": ({"srow_x": 0.0}, "singular"),
    "wild quaternion": ({"sform_code": 0, "qform_code": 1, "quatern_b": 2.0}, "orientation"),
    "header size 0": ({"sizeof_hdr": 0}, "no NIfTI"),
    "Analyze": ({"magic": b"\0\0\0\0"}, "Analyze"),
    "foreign magic": ({"magic": b"abc\0"}, "no NIfTI"),
    "half a pair": ({"magic": b"ni1\0", "vox_offset": 0.0}, "pair"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsound_fields_are_refused_by_name(tmp_path, case):
    fields, problem = REFUSED[case]
    path = put(tmp_path, image_bytes(**fields))
    with pytest.raises(InputError, match=problem) as caught:
        read_header(path)
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 5, 6, 7, 2)])
def test_other_numbers_of_axes_are_refused(tmp_path, shape):
    with pytest.raises(InputError, match="3 or 4 are needed"):
        read_header(put(tmp_path, image_bytes(shape)))


POINTER = b"version https://git-lfs\noid sha256:0\nsize 12\n"
FOREIGN = {
    "lfs": (POINTER, "git-lfs"),
    "annex": (b"/annex/objects/MD5E-s12--0.nii.gz\n", "git-annex"),
    "annex link text": (b"../.git/annex/objects/x/y/MD5E-s12--0.nii.gz", "git-annex"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "web page"),
    "text": (b"subject,age\n1,2\n", "plain text"),
    "zip": (b"PK\x03\x04" + bytes(30), "zip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(900), "HDF5"),
    "dicom": (bytes(128) + b"DICM" + bytes(400), "DICOM"),
    "noise": (bytes(range(7, 107)), "no NIfTI"),
    "short": (image_bytes()[:100], "no NIfTI"),
    "gzip of text": (gzip.compress(b"hello " * 200), "plain text"),
    "cut gzip": (gzip.compress(image_bytes())[:40], "cut short"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_image_is_named(tmp_path, case):
    content, problem = FOREIGN[case]
    with pytest.raises(InputError, match=problem) as caught:
        read_header(put(tmp_path, content, "sub-01_bold.nii.gz"))
    assert caught.value.hint


def test_pairs_are_read_from_either_name(tmp_path):
    image = nib.Nifti1Pair(np.ones((3, 4, 5), np.int16), AFFINE)
    nib.save(image, tmp_path / "old.img")
    for name in ("old.hdr", "old.img"):
        header = read_header(tmp_path / name)
        assert header.shape == (3, 4, 5)
        assert header.voxel_path == tmp_path / "old.img"
    (tmp_path / "old.img").unlink()
    with pytest.raises(InputError, match="does not exist"):
        read_header(tmp_path / "old.hdr")


def huge_claims() -> dict[str, bytes]:
    """Return small files that claim large images."""
    small = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), AFFINE)
    claims = {}
    for name, dims in {"54 TB": (30000,) * 3, "2 GB": (1000, 1000, 1000)}.items():
        content = bytearray(small.to_bytes())
        struct.pack_into("<4h", content, 40, 3, *dims)
        claims[f"{name} raw"] = bytes(content)
        claims[f"{name} gzip"] = gzip.compress(bytes(content))
    second = bytearray(nib.Nifti2Image(np.zeros((2, 2, 2), np.int16), AFFINE).to_bytes())
    struct.pack_into("<4q", second, 16, 3, 2**40, 2**40, 2**40)
    claims["2^120 voxels"] = bytes(second)
    return claims


@pytest.mark.parametrize("case", huge_claims())
def test_huge_claims_cost_neither_memory_nor_time(tmp_path, case):
    path = put(tmp_path, huge_claims()[case])
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with pytest.raises(InputError, match="claims"):
        read_header(path)
    assert time.perf_counter() - start < 1.0
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 50 * 1024


def test_the_limit_of_the_caller_holds(tmp_path):
    path = put(tmp_path, image_bytes())
    with pytest.raises(InputError, match="limits are"):
        read_header(path, max_bytes=100)


def test_one_volume_has_a_limit_even_where_a_gzip_file_could_hold_it(tmp_path):
    content = bytearray(image_bytes((2, 2, 2), "uint8"))
    struct.pack_into("<4h", content, 40, 3, 900, 900, 900)
    filling = np.random.default_rng(0).bytes(1 << 20)  # 1 MiB can expand to 1 GiB
    path = put(tmp_path, gzip.compress(bytes(content)) + filling)
    with pytest.raises(InputError, match=r"900x900x900 voxels.*limits are"):
        read_header(path)


def test_random_damage_of_a_header_ends_in_no_other_error(tmp_path):
    rng = np.random.default_rng(1)
    sound = image_bytes((2, 3, 2, 2))
    for trial in range(400):
        content = bytearray(sound)
        for position in rng.integers(0, 352, size=rng.integers(1, 5)):
            content[position] = rng.integers(0, 256)
        path = put(tmp_path, bytes(content))
        try:
            header = read_header(path)
        except InputError:
            continue
        assert header.frame_bytes * header.n_frames <= os.path.getsize(path), trial
