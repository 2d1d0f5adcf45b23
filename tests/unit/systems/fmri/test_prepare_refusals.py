"""Preparation of what is no run: values that are not finite, volumes, damage, no brain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prepared_run import process
from run_files import SHAPE, ball, bold, cut_gzip, flip_voxel, item_of, write_nifti

from neurocli.core.errors import InputError


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_is_refused_with_count_and_way_out(tmp_path: Path, folder: Path, value: float) -> None:
    values = bold()
    values[10, 10, 9, 3] = value
    values[10, 11, 9, 5] = value
    path = write_nifti(tmp_path / "x.nii.gz", values)
    with pytest.raises(InputError, match=r"2 of 63360 values \(0.0032 %\) are NaN") as caught:
        process(item_of(path), folder)
    assert "--set nonfinite=zero" in str(caught.value.hint)
    assert not list(folder.iterdir())


def test_nan_becomes_zero_on_request(tmp_path: Path, folder: Path) -> None:
    values = bold()
    values[10, 10, 9, 3] = np.nan
    path = write_nifti(tmp_path / "x.nii.gz", values)
    fields, store = process(item_of(path), folder, nonfinite="zero")
    wanted = np.nan_to_num(values)[store.mask].T
    np.testing.assert_array_equal(store.read_packed(slice(None)), wanted)
    assert len(fields["notes"]) == 1
    assert "1 of" in fields["notes"][0]
    assert "were taken as 0" in fields["notes"][0]


def test_nan_outside_a_given_mask_does_not_matter(tmp_path: Path, folder: Path) -> None:
    values = bold()
    values[0, 0, 0, :] = np.nan
    path = write_nifti(tmp_path / "x.nii.gz", values)
    mask = write_nifti(tmp_path / "m.nii.gz", ball().astype(np.uint8))
    fields, _ = process(item_of(path), folder, mask=str(mask))
    assert fields["notes"] == []
    with pytest.raises(InputError, match="are NaN or Inf"):
        process(item_of(path), folder, mask=str(mask), space="mni2mm")


def test_volumes_are_refused(tmp_path: Path, folder: Path) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold()[..., 0])
    with pytest.raises(InputError, match=r"3D \(20x22x18\) where a 4D series is needed"):
        process(item_of(path), folder)
    path = write_nifti(tmp_path / "y.nii.gz", bold(n_frames=1))
    with pytest.raises(InputError, match="where a 4D series is needed"):
        process(item_of(path), folder)


@pytest.mark.parametrize("mask", ["auto", "none"])
@pytest.mark.parametrize("value", [0.0, 7.0])
def test_constant_runs_are_refused(tmp_path: Path, folder: Path, value: float, mask: str) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", np.full((*SHAPE, 4), value, np.float32))
    with pytest.raises(InputError, match=f"every value .*is {value:g}"):
        process(item_of(path), folder, mask=mask)


def test_a_run_that_never_changes_is_noted(tmp_path: Path, folder: Path) -> None:
    values = np.repeat(bold()[..., :1], 5, axis=3)
    fields, _ = process(item_of(write_nifti(tmp_path / "x.nii.gz", values)), folder)
    assert fields["notes"] == ["no voxel changes over time"]
    assert fields["stats"]["qc"]["tsnr_median"] is None


@pytest.mark.parametrize("mask", ["auto", "none"])
def test_damaged_gzip_is_refused(source: Path, folder: Path, mask: str) -> None:
    flip_voxel(source)
    with pytest.raises(InputError, match=r"run1\.nii\.gz"):
        process(item_of(source), folder, mask=mask)
    cut_gzip(source)
    with pytest.raises(InputError, match=r"of 8 frames were readable"):
        process(item_of(source), folder, mask=mask)
    assert not list(folder.iterdir())


def test_no_brain_is_said_of_the_file(tmp_path: Path, folder: Path) -> None:
    values = -np.abs(bold())
    path = write_nifti(tmp_path / "x.nii.gz", values)
    with pytest.raises(InputError, match=r"x\.nii\.gz: the mask holds 0 voxels"):
        process(item_of(path), folder)
