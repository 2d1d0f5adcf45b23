"""Grids: the referees are nilearn, nibabel and plain arithmetic."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from neurocli.core.data.geometry import (
    axis_codes,
    crop_box,
    doubtful_size,
    grid_text,
    mni_grid,
    padding_to_multiple,
    resample,
    same_grid,
    voxel_size_mm,
)
from neurocli.core.errors import NeuroError

AFFINE = np.array([[-4, 0, 0, 96], [0, 4, 0, -120], [0, 0, 4, -60], [0, 0, 0, 1]], float)


def test_grids_are_compared_at_their_corners():
    assert same_grid((50, 50, 34, 16), AFFINE, (50, 50, 34), AFFINE)
    assert not same_grid((50, 50, 34), AFFINE, (49, 58, 49), AFFINE)
    for change, is_same in ((1e-3, True), (0.02, False)):
        moved = AFFINE.copy()
        moved[1, 3] += change
        assert same_grid((50, 50, 34), AFFINE, (50, 50, 34), moved) is is_same
    stretched = AFFINE.copy()
    stretched[0, 0] += 1e-3  # 0.05 mm at the far corner
    assert not same_grid((50, 50, 34), AFFINE, (50, 50, 34), stretched)
    assert same_grid((50, 50, 34), AFFINE, (50, 50, 34), stretched, tolerance_mm=0.1)


def test_grids_are_named_as_people_do():
    assert grid_text((50, 50, 34, 16), AFFINE) == "50x50x34, 4x4x4 mm, LAS"
    oblique = nib.affines.from_matvec(
        nib.eulerangles.euler2mat(0.1, 0.2, 0.05) @ np.diag([3.1, 3.75, 3.75]), [1, 2, 3]
    )
    assert grid_text((40, 20, 1), oblique) == "40x20x1, 3.1x3.75x3.75 mm, RAS"
    np.testing.assert_allclose(voxel_size_mm(oblique), nib.affines.voxel_sizes(oblique))
    assert axis_codes(np.diag([1, -1, -1, 1])) == "RPI"


def test_padding_reaches_the_next_multiple():
    assert padding_to_multiple((91, 109, 91), 6) == (5, 5, 5)
    assert padding_to_multiple((50, 50, 34), (10, 4, 17)) == (0, 2, 0)
    for bad in (0, (2, 2), (2, 0, 2)):
        with pytest.raises(NeuroError, match="cannot pad"):
            padding_to_multiple((4, 4, 4), bad)


def test_the_mni_grid_is_that_of_the_template(real):
    shape, affine = mni_grid()
    template = nib.load(real / "atlases" / "MNI152_T1_2mm_brain.nii.gz")
    assert shape == template.shape
    np.testing.assert_array_equal(affine, template.affine)


@pytest.mark.parametrize("spacing", [1.0, 3.0, 4.0, 8.0])
def test_other_spacings_cover_the_same_box(spacing):
    shape, affine = mni_grid(spacing)
    assert voxel_size_mm(affine) == (spacing, spacing, spacing)
    np.testing.assert_array_equal(affine[:3, 3], mni_grid()[1][:3, 3])
    excess = np.array(shape) * spacing - (182, 218, 182)
    assert ((excess >= 0) & (excess < spacing)).all()


def test_a_spacing_must_be_positive():
    with pytest.raises(NeuroError, match="spacing is 0"):
        mni_grid(0)


def test_resampling_equals_nilearn(real):
    image = pytest.importorskip("nilearn.image", reason="nilearn is not installed")
    source = nib.load(real / "fmri" / "rtcloud_faceMatching_11vol.nii.gz")
    volume = source.dataobj[..., 0].astype(np.float32)
    shape, affine = mni_grid(4)
    for order, name in ((0, "nearest"), (1, "linear")):
        expected = image.resample_img(
            nib.Nifti1Image(volume, source.affine),
            affine,
            shape,
            name,
            force_resample=True,
            copy_header=True,
        ).get_fdata()
        found = resample(volume, source.affine, shape, affine, order=order)
        assert found.dtype == np.float32
        assert found.max() > 100
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-2)


def test_resampling_moves_a_voxel_to_its_place():
    volume = np.zeros((5, 6, 7), bool)
    volume[1, 2, 3] = True
    flipped = np.array([[-1, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    found = resample(volume, np.eye(4), (5, 6, 9), flipped, order=0, fill=-1)
    assert np.argwhere(found == 1).tolist() == [[3, 2, 3]]
    assert (found[..., 7:] == -1).all()  # outside the source
    with pytest.raises(NeuroError, match="singular"):
        resample(volume, np.zeros((4, 4)), (5, 6, 7), np.eye(4))


def test_the_crop_box_holds_all_and_no_more():
    mask = np.zeros((9, 8, 7), np.uint8)
    mask[2, 3:5, 0] = 1
    mask[6, 3, 6] = 7
    assert crop_box(mask) == (slice(2, 7), slice(3, 5), slice(0, 7))
    with pytest.raises(NeuroError, match="mask is empty"):
        crop_box(np.zeros((3, 3, 3)))


@pytest.mark.parametrize(
    ("shape", "edges", "wanted"),
    [
        ((64, 64, 30), (1, 1, 1), "make the image 64x64x30 mm: nobody"),  # the default of a header
        ((64, 64, 30), (3.75, 3.75, 4), None),
        ((182, 218, 182), (1, 1, 1), None),  # a template of 1 mm
        ((6, 10, 10), (25, 25, 25), None),  # coarse, but a head
        ((20, 22, 18), (3, 3, 3), None),  # a crop
        ((64, 64, 30), (3000, 3000, 4000), "a unit may be wrong"),  # micrometres as millimetres
        ((64, 64, 30), (0.003, 0.003, 0.004), "a unit may be wrong"),  # metres
        ((400, 64, 30), (2, 2, 2), "a unit may be wrong"),
    ],
)
def test_sizes_that_no_head_has(
    shape: tuple[int, ...], edges: tuple[float, ...], wanted: str | None
) -> None:
    found = doubtful_size(shape, np.diag([*edges, 1.0]))
    assert found is None if wanted is None else wanted in str(found)
