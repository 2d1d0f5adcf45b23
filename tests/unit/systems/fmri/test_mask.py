"""The brain found in mean images: on phantoms whose brain is known, and on real grids."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from run_files import AFFINE, ball, bold, write_nifti

from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.systems.fmri.mask import (
    brain_mask,
    choose_mask,
    clip_level,
    looks_stripped,
    mask_sources,
    read_mask,
)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.mark.parametrize("shape", [(50, 50, 34), (20, 22, 18), (40, 20, 1), (6, 10, 10)])
def test_a_bright_ball_in_noise_is_found(shape: tuple[int, int, int]) -> None:
    mean = bold(shape, 3, outside=150).mean(axis=3)
    mask, source = choose_mask(mean, AFFINE)
    assert source == "computed"
    assert dice(mask, ball(shape)) > 0.97


def test_holes_are_filled_and_specks_dropped() -> None:
    mean = bold(n_frames=3).mean(axis=3)
    mean[10, 11, 9] = 5
    mean[0, 0, 0] = 900
    mask = brain_mask(mean, AFFINE)
    assert mask[10, 11, 9]
    assert not mask[0, 0, 0]


def test_a_thin_bridge_is_cut_on_fine_grids() -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    shape = (40, 40, 40)
    mean = np.where(ball(shape, 0.25), 900.0, 5.0)
    mean[20, 20, 28:38] = 900
    mean[16:25, 16:25, 37:40] = 900
    mask = brain_mask(mean, affine)
    assert not mask[20, 20, 38]
    assert dice(mask, ball(shape, 0.25)) > 0.95


def test_exact_zeros_are_the_mask_of_stripped_runs() -> None:
    mean = np.where(ball(), 900.0, 0.0)
    mean[10, 11, 9] = 1  # dark tissue stays in
    mask, source = choose_mask(mean, AFFINE)
    assert source == "nonzero"
    np.testing.assert_array_equal(mask, ball())


def test_a_clipped_background_is_not_stripped() -> None:
    mean = bold(n_frames=3, outside=40).mean(axis=3)
    mean[mean < 18] = 0
    assert (mean == 0).mean() > 0.2
    assert not looks_stripped(mean)
    assert dice(brain_mask(mean, AFFINE), ball()) > 0.97


def test_a_brain_that_fills_the_grid_is_taken_whole() -> None:
    mean = np.random.default_rng(0).normal(900, 50, (10, 10, 18))
    assert brain_mask(mean, AFFINE).mean() > 0.99


@pytest.mark.parametrize("mean", [np.zeros((8, 8, 8)), -np.ones((8, 8, 8)), np.zeros((1, 1, 1))])
def test_no_brain_is_an_error(mean: np.ndarray) -> None:
    with pytest.raises(NeuroError, match="the mask holds 0 voxels") as caught:
        brain_mask(mean, AFFINE)
    assert "--mask" in str(caught.value.hint)


def test_clip_level_is_a_fixed_point() -> None:
    values = np.concatenate([np.full(100, 10.0), np.linspace(800, 1000, 101)])
    level = clip_level(values)
    assert level == pytest.approx(0.5 * np.median(values[values >= level]))
    assert level == pytest.approx(450)
    assert clip_level(np.array([-1.0, 0.0])) == 0


@pytest.mark.real
def test_real_heads_agree_with_nilearn(real: Path) -> None:
    from nilearn.masking import compute_epi_mask

    for name in ("rtcloud_faceMatching_11vol.nii.gz", "pyneal/testSeries.nii.gz"):
        image = nib.load(real / "fmri" / name)
        mask = brain_mask(image.get_fdata(dtype=np.float32).mean(axis=3), image.affine)
        theirs = compute_epi_mask(image).get_fdata() > 0
        assert dice(mask, theirs) > 0.9, name


@pytest.mark.real
def test_real_stripped_slice_equals_its_mask(real: Path) -> None:
    folder = real / "fmri" / "haxby_1slice"
    mean = nib.load(folder / "bold.nii.gz").get_fdata(dtype=np.float32).mean(axis=3)
    wanted = nib.load(folder / "mask.nii.gz").get_fdata() > 0
    np.testing.assert_array_equal(brain_mask(mean, np.eye(4)), wanted)


def test_mask_files(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "m.nii.gz", ball().astype(np.uint8))
    found = read_mask(path)
    np.testing.assert_array_equal(found.mask, ball())
    assert found.is_binary
    assert found.grid == "20x22x18, 3x3x3.5 mm, LAS"
    soft = read_mask(write_nifti(tmp_path / "s.nii", ball().astype(np.float32) * 0.7))
    assert not soft.is_binary
    np.testing.assert_array_equal(soft.mask, ball())


def test_bad_mask_files_are_refused(tmp_path: Path) -> None:
    empty = write_nifti(tmp_path / "empty.nii", np.zeros((5, 5, 5), np.uint8))
    with pytest.raises(InputError, match=r"empty.nii: the mask holds 0 voxels"):
        read_mask(empty)
    series = write_nifti(tmp_path / "series.nii", bold(n_frames=3))
    with pytest.raises(InputError, match="3D is needed"):
        read_mask(series)


def test_the_mask_option(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "m.nii.gz", ball().astype(np.uint8))
    assert mask_sources("auto") == mask_sources("none") == ()
    assert mask_sources(str(path)) == (path,)
    with pytest.raises(UsageError, match="the mask 'atuo' is no file"):
        mask_sources("atuo")
