"""One pass over a run: what it writes, against plain numpy on what nibabel reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
from run_files import AFFINE, SHAPE, ball, bold, item_of, options, write_nifti

from neurocli.core.data.scaling import SCALINGS, scale
from neurocli.core.data.statistics import global_stats, voxel_stats
from neurocli.core.errors import InputError, NeuroError
from neurocli.systems.fmri import series
from neurocli.systems.fmri.patch_grid import word_sums
from neurocli.systems.fmri.prepare import process_run
from neurocli.systems.fmri.store import RunStore, open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "item"
    path.mkdir()
    return path


def whole_numbers(*, outside: float = 0.0, dtype: Any = np.int16, n_frames: int = 8) -> np.ndarray:
    return np.rint(bold(n_frames=n_frames, outside=outside)).astype(dtype)


def process(path: Path, folder: Path, **chosen: Any) -> tuple[dict[str, Any], RunStore]:
    fields = process_run(item_of(path), folder, options(**chosen))
    assert sorted(p.name for p in folder.iterdir()) == sorted(fields["files"])
    return fields, open_store(folder / "bold.h5")


def raw_values(path: Path, mask: np.ndarray) -> np.ndarray:
    values: np.ndarray = nib.load(path).get_fdata(dtype=np.float32)[mask].T
    return values


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often the frames of a run are read through."""
    counted = []
    read = series.iter_stored

    def counting(header: Any) -> Any:
        counted.append(1)
        return read(header)

    monkeypatch.setattr(series, "iter_stored", counting)
    return counted


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.int8, ">i2"])
def test_whole_numbers_stay_as_they_are(
    tmp_path: Path, folder: Path, dtype: Any, passes: list[int]
) -> None:
    values = whole_numbers() // (10 if np.dtype(dtype).itemsize == 1 else 1)
    path = write_nifti(tmp_path / "x.nii.gz", values.astype(dtype))
    fields, store = process(path, folder)
    assert fields["dtype"] == str(np.dtype(dtype).newbyteorder("="))
    assert store.info.mask_source == "nonzero"
    np.testing.assert_array_equal(store.mask, values.any(axis=3))
    raw = raw_values(path, store.mask)
    np.testing.assert_array_equal(store.read_packed(slice(None)), raw)
    mean, std = voxel_stats(raw)
    np.testing.assert_allclose(store.voxel_mean_V, mean, rtol=1e-6)
    np.testing.assert_allclose(store.voxel_std_V, std, rtol=1e-6)
    wanted = global_stats(lambda: [raw])
    for name, value in wanted.as_dict().items():
        assert store.stats.as_dict()[name] == pytest.approx(value), name
    assert passes == [1]


def test_a_voxel_that_lights_up_later_is_brain_too(
    tmp_path: Path, folder: Path, passes: list[int]
) -> None:
    values = whole_numbers()
    values[1, 1, 1, 5] = 700  # zero in the first frame
    path = write_nifti(tmp_path / "x.nii.gz", values)
    _, store = process(path, folder)
    np.testing.assert_array_equal(store.mask, ball() | (values != 0).any(axis=3))
    np.testing.assert_array_equal(store.read_packed(slice(None)), raw_values(path, store.mask))
    assert len(passes) == 2  # the guess, and the run again with the mask of its mean


def test_a_voxel_that_cancels_out_is_no_brain(tmp_path: Path, folder: Path) -> None:
    values = whole_numbers()
    values[10, 11, 9] = [5, -5] * 4  # as the mean image, which is 0 there, has always told
    path = write_nifti(tmp_path / "x.nii.gz", values)
    _, store = process(path, folder)
    assert not store.mask[10, 11, 9]
    assert store.n_voxels == ball().sum() - 1


@pytest.mark.parametrize("method", ["znorm_minback", "znorm_zeroback", "minmax", "robust"])
def test_scaling_all_alike_is_an_attribute(tmp_path: Path, folder: Path, method: str) -> None:
    image = nib.Nifti1Image(whole_numbers(), AFFINE)
    image.header.set_slope_inter(0.25, 0)
    path = tmp_path / "x.nii.gz"
    nib.save(image, path)
    _, store = process(path, folder, scaling=method)
    with h5py.File(folder / "bold.h5") as file:
        assert file["bold"].dtype == np.int16
    raw = raw_values(path, store.mask)
    wanted = scale(raw, method, stats=store.stats)
    np.testing.assert_allclose(store.read_packed(slice(None)), wanted, atol=2e-6)
    mean, std = voxel_stats(wanted)
    np.testing.assert_allclose(store.voxel_mean_V, mean, atol=1e-5)
    np.testing.assert_allclose(store.voxel_std_V, std, rtol=1e-4)


def test_zeros_inside_a_mask_keep_their_meaning(tmp_path: Path, folder: Path) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", whole_numbers())
    _, store = process(path, folder, mask="none", scaling="znorm_zeroback")
    values = store.read_packed(slice(None))
    raw = raw_values(path, store.mask)
    np.testing.assert_array_equal(values == 0, raw == 0)
    wanted = scale(raw, "znorm_zeroback", stats=store.stats)
    np.testing.assert_allclose(values, wanted, atol=1e-6)


@pytest.mark.parametrize("method", SCALINGS)
@pytest.mark.parametrize("kind", [np.int16, np.float32])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_other_number_formats(
    tmp_path: Path, folder: Path, method: str, kind: Any, dtype: str
) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", whole_numbers(outside=20).astype(kind))
    fields, store = process(path, folder, scaling=method, dtype=dtype)
    assert fields["dtype"] == dtype
    raw = raw_values(path, store.mask)
    mean, std = voxel_stats(raw)
    wanted = scale(raw, method, stats=store.stats, voxel_mean_V=mean, voxel_std_V=std)
    tolerance = 1e-5 if dtype == "float32" else 2.0**-10
    np.testing.assert_allclose(
        store.read_packed(slice(None)), wanted, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_half_precision_that_overflows_is_refused(tmp_path: Path, folder: Path, kind: Any) -> None:
    image = nib.Nifti1Image(whole_numbers(dtype=kind), AFFINE)
    image.header.set_slope_inter(100, 0)
    nib.save(image, tmp_path / "x.nii.gz")
    with pytest.raises(InputError, match="float16 ends at 65504"):
        process(tmp_path / "x.nii.gz", folder, dtype="float16")
    assert not list(folder.iterdir())


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_nifti(tmp_path / "x.nii.gz", whole_numbers())
    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(NeuroError, match="No space left"):
        process(path, folder)
    assert not list(folder.iterdir())


def test_room_is_asked_for_before_work(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    path = write_nifti(tmp_path / "x.nii.gz", whole_numbers())
    real = os.statvfs(folder)
    small = os.statvfs_result((*real[:4], 1, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: small)
    with pytest.raises(NeuroError, match=r"needs 1 MiB, the disk has 0 MiB left"):
        process(path, folder)


def test_memory_does_not_grow_with_the_run(tmp_path: Path, folder: Path) -> None:
    import tracemalloc

    peaks = []
    for n_frames in (10, 80):
        path = write_nifti(tmp_path / f"{n_frames}.nii.gz", whole_numbers(n_frames=n_frames))
        tracemalloc.start()
        process_run(item_of(path), folder, options())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 70 more frames of the masked matrix would be 180 KiB, of the grid 1 MiB.
    assert peaks[1] - peaks[0] < 60 << 10


def test_the_file_holds_a_sum_per_frame(tmp_path: Path, folder: Path) -> None:
    process(write_nifti(tmp_path / "x.nii.gz", whole_numbers()), folder)
    with h5py.File(folder / "bold.h5") as file:
        assert file["bold"].chunks is None
        assert word_sums(file["bold"][:]).tolist() == file["frame_sums"][:].tolist()


def test_shape_is_that_of_the_source(tmp_path: Path, folder: Path) -> None:
    fields, store = process(write_nifti(tmp_path / "x.nii", whole_numbers()), folder)
    assert fields["shape"] == [*SHAPE, 8] == list(store.shape)


def test_a_figure_on_request(tmp_path: Path, folder: Path) -> None:
    fields, _ = process(write_nifti(tmp_path / "x.nii", whole_numbers()), folder, figure="svg")
    assert fields["files"] == ["bold.h5", "qc.json", "qc.svg"]


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_run_alone_reads_ahead_and_gives_the_same_bytes(
    tmp_path: Path, folder: Path, kind: Any
) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", whole_numbers(dtype=kind))
    process_run(item_of(path), folder, options())
    second = tmp_path / "second"
    second.mkdir()
    process_run(replace(item_of(path), is_alone=True), second, options())
    for name in ("bold.h5", "qc.json"):
        assert (folder / name).read_bytes() == (second / name).read_bytes()
