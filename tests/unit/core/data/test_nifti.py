"""Frames, whole images and writing.

Expected values come from nibabel, which reads the same files by other code; damage must never come
through as voxels.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from neurocli.core.data import gzipstream
from neurocli.core.data.nifti import iter_frames, read_header, read_image, write_image
from neurocli.core.errors import InputError, NeuroError

AFFINE = np.array([[-3, 0, 0, 90], [0, 3, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]], float)


def series(shape=(5, 6, 7, 8), dtype="int16", seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * 500 + 1000).astype(dtype)


def image_bytes(array, slope=None, inter=0.0) -> bytes:
    content = bytearray(nib.Nifti1Image(array, AFFINE, dtype=array.dtype).to_bytes())
    if slope is not None:
        struct.pack_into("<ff", content, 112, slope, inter)
    return bytes(content)


@pytest.fixture(params=["isal", "zlib"])
def inflater(request, monkeypatch):
    """Run with each inflater; the first needs the optional extra `fast`."""
    if request.param == "isal":
        pytest.importorskip("isal", reason="the optional package isal is not installed")
    else:
        import zlib

        monkeypatch.setattr(gzipstream, "_inflate", zlib)
        monkeypatch.setattr(gzipstream, "_Error", zlib.error)


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("name", ["run.nii", "run.nii.gz"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64", "int64"]
)
def test_frames_equal_nibabel(tmp_path, name, dtype):
    content = image_bytes(series((5, 6, 7, 3), dtype), slope=0.37, inter=-12.5)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    referee = nib.load(path).get_fdata(dtype=np.float64).astype(np.float32)
    frames = list(iter_frames(read_header(path)))
    assert [frame.dtype for frame in frames] == [np.float32] * 3
    # nibabel multiplies in float64 too, but rounds the slope through other steps.
    np.testing.assert_allclose(np.stack(frames, axis=-1), referee, rtol=2e-7, atol=1e-4)


def test_unscaled_values_are_exact(tmp_path):
    array = series(dtype=">i2")
    image = nib.Nifti1Image(array, AFFINE)
    path = tmp_path / "big.nii"
    path.write_bytes(nib.Nifti1Image(array, AFFINE, image.header.as_byteswapped(">")).to_bytes())
    header, values = read_image(path, n_dims=4)
    assert header.dtype.byteorder == ">"
    np.testing.assert_array_equal(values, array.astype(np.float32))


def test_real_images_equal_nibabel(real):
    for name in (
        "fmri/rtcloud_faceMatching_11vol.nii.gz",
        "fmri/haxby_25mm/run001_bold_25mm.nii.gz",
        "fmri/haxby_1slice/run003_bold_1slice.nii.gz",
        "fmri/nitime/fmri1.nii.gz",
        "fmri/pcasl.nii.gz",
    ):
        header, values = read_image(real / name, n_dims=4)
        referee = nib.load(real / name)
        np.testing.assert_array_equal(values, referee.get_fdata().astype(np.float32), err_msg=name)
        np.testing.assert_allclose(header.affine, referee.affine)
        assert header.tr_s == pytest.approx(float(referee.header.get_zooms()[3]), rel=1e-6)


@pytest.mark.usefixtures("inflater")
def test_no_flipped_bit_of_a_gzip_file_comes_through(tmp_path):
    array = series((8, 8, 8, 6))
    sound = gzip.compress(image_bytes(array), 6, mtime=0)
    path = tmp_path / "run.nii.gz"
    rng = np.random.default_rng(2)
    caught = 0
    for bit in rng.choice(len(sound) * 8, size=150, replace=False):
        content = bytearray(sound)
        content[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(content)
        try:
            _, values = read_image(path)
        except InputError:
            caught += 1
        else:  # a flip in the time stamp or name of the gzip header changes nothing
            np.testing.assert_array_equal(values, array)
    assert caught >= 148


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize("lost", [1, 4, 8, 9, 200])
def test_a_cut_gzip_file_is_refused(tmp_path, lost):
    path = tmp_path / "run.nii.gz"
    path.write_bytes(gzip.compress(image_bytes(series()))[:-lost])
    with pytest.raises(InputError, match=r"cut short; \d of 8 frames were readable") as caught:
        read_image(path)
    assert caught.value.where == str(path)


def test_a_file_cut_after_its_header_was_read_is_refused(tmp_path):
    path = tmp_path / "run.nii"
    content = image_bytes(series())
    path.write_bytes(content)
    header = read_header(path)
    path.write_bytes(content[: -3 * header.frame_bytes - 1])
    with pytest.raises(InputError, match="4 of 8 frames were readable"):
        list(iter_frames(header))
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        list(iter_frames(header))


def test_the_last_frame_waits_for_the_checksum(tmp_path):
    content = bytearray(gzip.compress(image_bytes(series())))
    content[-6] ^= 1  # inside the stored CRC
    path = tmp_path / "run.nii.gz"
    path.write_bytes(content)
    seen = []
    with pytest.raises(InputError, match="damaged"):
        seen.extend(iter_frames(read_header(path)))
    assert len(seen) < 8


def test_members_and_junk_behind_the_voxels(tmp_path, caplog):
    content = image_bytes(series())
    whole = series().astype(np.float32)
    path = tmp_path / "run.nii.gz"
    path.write_bytes(gzip.compress(content[:999]) + gzip.compress(content[999:]))
    np.testing.assert_array_equal(read_image(path)[1], whole)
    assert not caplog.records
    for tail in (b"junk behind", gzip.compress(bytes(1000))):
        path.write_bytes(gzip.compress(content) + tail)
        np.testing.assert_array_equal(read_image(path)[1], whole)
        assert "behind the voxels" in caplog.text
        caplog.clear()
    path.write_bytes(gzip.compress(content) + bytes(500))  # padding of a tape block
    np.testing.assert_array_equal(read_image(path)[1], whole)
    assert not caplog.records


def test_a_bomb_behind_the_voxels_is_not_inflated_to_its_end(tmp_path, caplog):
    path = tmp_path / "run.nii.gz"
    path.write_bytes(gzip.compress(image_bytes(series()) + bytes(300 << 20), 1))
    tracemalloc.start()
    read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert "checksum was not met" in caplog.text


def test_frames_need_memory_of_two(tmp_path):
    path = tmp_path / "run.nii.gz"
    path.write_bytes(gzip.compress(image_bytes(series((40, 40, 40, 30))), 1))
    header = read_header(path)
    tracemalloc.start()
    total = sum(float(frame[0, 0, 0]) for frame in iter_frames(header))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 0
    assert peak < 4 * header.frame_bytes * 2  # stored int16 and float32, this frame and the last


def test_dimensions_and_finite_values_are_checked(tmp_path):
    path = tmp_path / "run.nii.gz"
    array = series((3, 4, 5, 2), "float32")
    write_image(path, array, AFFINE)
    with pytest.raises(InputError, match=r"is 4D \(3x4x5x2\), 3D is needed"):
        read_image(path, n_dims=3)
    array[0, 0, 0, 1] = np.nan
    array[1, 0, 0, 0] = -np.inf
    write_image(path, array, AFFINE)
    with pytest.raises(InputError, match="2 of 120 values"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, require_finite=False)[1], array)
    write_image(path, array[..., 0], AFFINE)
    with pytest.raises(InputError, match=r"is 3D \(3x4x5\), 4D is needed"):
        read_image(path, n_dims=4)


def test_a_series_of_one_frame_serves_as_a_volume(tmp_path):
    path = tmp_path / "mask.nii"
    write_image(path, np.ones((3, 4, 5, 1), np.uint8), AFFINE, tr_s=2.0)
    header, values = read_image(path, n_dims=3)
    assert header.shape == values.shape == (3, 4, 5)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8"])
@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
def test_written_images_come_back_and_repeat(tmp_path, dtype, name):
    array = series((4, 5, 6, 3), dtype)
    digests = set()
    for folder in ("a", "b"):
        path = tmp_path / folder / name
        write_image(path, array, AFFINE, tr_s=0.72)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    header, values = read_image(path)
    np.testing.assert_array_equal(values, array.astype(np.float32))
    assert header.dtype == np.dtype(dtype)
    assert header.tr_s == 0.72
    referee = nib.load(path)
    np.testing.assert_array_equal(np.asanyarray(referee.dataobj), array)
    np.testing.assert_allclose(referee.affine, AFFINE)


def test_an_axis_too_long_for_the_first_version_is_kept(tmp_path):
    array = np.arange(40000, dtype=np.int16).reshape(1, 1, 1, 40000)
    write_image(tmp_path / "long.nii.gz", array, AFFINE)
    header, values = read_image(tmp_path / "long.nii.gz")
    assert header.n_frames == 40000
    np.testing.assert_array_equal(values, array.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("out.img", np.zeros((2, 2, 2), np.float32), "no name of a NIfTI"),
        ("out.nii", np.zeros((2, 2, 2), np.float64), "3D array of float64"),
        ("out.nii", np.zeros((2, 2), np.float32), "2D array"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, array, problem):
    with pytest.raises(NeuroError, match=problem):
        write_image(tmp_path / name, array, AFFINE)
    assert not list(tmp_path.iterdir())
