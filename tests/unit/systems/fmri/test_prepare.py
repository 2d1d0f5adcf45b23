"""One run through preparation, against plain numpy on what nibabel reads."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from prepared_run import process
from run_files import AFFINE, SHAPE, ball, bold, item_of, write_nifti

from neurocli.core.data.geometry import mni_grid
from neurocli.core.data.scaling import SCALINGS
from neurocli.core.data.statistics import voxel_stats
from neurocli.core.errors import InputError


def test_values_are_those_of_the_file(source: Path, folder: Path) -> None:
    fields, store = process(item_of(source), folder)
    values = nib.load(source).get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(store.read_packed(slice(None)), values[store.mask].T)
    assert store.info.mask_source == "computed"
    assert store.scaling == "none"
    assert store.tr_s == 2.0
    np.testing.assert_allclose(store.affine, nib.load(source).affine)
    inside = values[store.mask]
    assert store.stats.global_mean == pytest.approx(inside.mean(dtype=np.float64))
    assert store.stats.global_std == pytest.approx(inside.std(ddof=1, dtype=np.float64))
    assert fields["files"] == ["bold.h5", "qc.json"]
    assert fields["shape"] == [*SHAPE, 8]
    assert fields["stats"]["n_voxels_in_mask"] == store.n_voxels
    assert fields["notes"] == []
    json.dumps(fields, allow_nan=False)


def test_scaled_integers_are_read_as_values(tmp_path: Path, folder: Path) -> None:
    image = nib.Nifti1Image(bold().astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "x.nii")
    _, store = process(item_of(tmp_path / "x.nii"), folder)
    wanted = nib.load(tmp_path / "x.nii").get_fdata(dtype=np.float32)
    np.testing.assert_allclose(store.read_packed(slice(None)), wanted[store.mask].T)


@pytest.mark.parametrize("method", [name for name in SCALINGS if name != "none"])
def test_scalings_are_applied_once(source: Path, folder: Path, method: str) -> None:
    from neurocli.core.data.scaling import background_value, scale

    _, store = process(item_of(source), folder, scaling=method)
    raw = nib.load(source).get_fdata(dtype=np.float32)[store.mask].T
    mean, std = voxel_stats(raw)
    wanted = scale(raw, method, stats=store.stats, voxel_mean_V=mean, voxel_std_V=std)
    np.testing.assert_allclose(store.read_packed(slice(None)), wanted, atol=1e-6)
    assert store.scaling == method
    assert store.background == pytest.approx(background_value(method, store.stats))
    # The statistics are those of the unscaled run.
    assert store.stats.global_mean == pytest.approx(raw.mean(dtype=np.float64))


def test_a_given_mask_is_used(source: Path, folder: Path, tmp_path: Path) -> None:
    given = np.zeros(SHAPE, np.uint8)
    given[5:9, 5:9, 5:9] = 1
    path = write_nifti(tmp_path / "m.nii.gz", given)
    _, store = process(item_of(source), folder, mask=str(path))
    np.testing.assert_array_equal(store.mask, given > 0)
    assert store.info.mask_source == "file"


def test_a_mask_that_is_not_binary_is_noted(source: Path, folder: Path, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "m.nii.gz", ball().astype(np.float32) * 0.8)
    fields, _ = process(item_of(source), folder, mask=str(path))
    assert fields["notes"] == ["mask m.nii.gz holds other values than 0 and 1; above 0.5 is brain"]


@pytest.mark.parametrize("change", ["affine", "shape", "flip"])
def test_a_mask_on_another_grid_is_refused(
    source: Path, folder: Path, tmp_path: Path, change: str
) -> None:
    affine = AFFINE.copy()
    shape = SHAPE
    if change == "affine":
        affine[0, 3] += 1
    elif change == "shape":
        shape = (20, 22, 17)
    else:
        affine[0, 0] *= -1
    path = write_nifti(tmp_path / "m.nii.gz", ball(shape).astype(np.uint8), affine=affine)
    with pytest.raises(InputError, match=r"m.nii.gz: mask is on .* mm, .AS, the run on") as caught:
        process(item_of(source), folder, mask=str(path))
    assert "resample the mask" in str(caught.value.hint)


def test_a_derivative_mask_of_the_same_grid_is_used(
    source: Path, folder: Path, tmp_path: Path
) -> None:
    path = write_nifti(tmp_path / "m.nii.gz", ball(radius=0.2).astype(np.uint8))
    _, store = process(item_of(source, mask=path), folder)
    np.testing.assert_array_equal(store.mask, ball(radius=0.2))
    assert store.info.mask_source == "derivative"


def test_a_derivative_mask_of_another_grid_is_noted(
    source: Path, folder: Path, tmp_path: Path
) -> None:
    path = write_nifti(tmp_path / "m.nii.gz", ball((10, 10, 10)).astype(np.uint8))
    fields, store = process(item_of(source, mask=path), folder)
    assert store.info.mask_source == "computed"
    assert "mask m.nii.gz (10x10x10, 3x3x3.5 mm, LAS) was not used" in fields["notes"][0]


def test_without_a_mask_every_voxel_is_kept(source: Path, folder: Path) -> None:
    _, store = process(item_of(source), folder, mask="none")
    assert store.mask.all()
    assert store.info.mask_source == "none"


def test_stripped_runs_keep_their_own_mask(tmp_path: Path, folder: Path) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold(outside=0))
    _, store = process(item_of(path), folder)
    np.testing.assert_array_equal(store.mask, ball())
    assert store.info.mask_source == "nonzero"


@pytest.mark.parametrize(
    ("header", "sidecar", "chosen", "wanted", "note"),
    [
        (2.0, None, None, 2.0, None),
        (2.0, 2.0005, None, 2.0, None),
        (None, 1.5, None, 1.5, None),
        (2.0, 1.5, None, 2.0, "the header says a repetition time of 2 s and the sidecar 1.5 s"),
        (2.0, 1.5, 0.8, 0.8, None),
        (None, None, None, None, "no repetition time is known; give --tr SECONDS"),
    ],
)
def test_repetition_time(
    tmp_path: Path,
    folder: Path,
    header: float | None,
    sidecar: float | None,
    chosen: float | None,
    wanted: float | None,
    note: str | None,
) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold(), tr_s=header)
    fields, store = process(item_of(path, tr_s=sidecar), folder, tr_s=chosen)
    assert store.tr_s == wanted
    assert fields["tr_s"] == wanted
    assert [text.split(";")[0] for text in fields["notes"]] == (
        [] if note is None else [note.split(";")[0]]
    )


def test_resampling_follows_the_header(tmp_path: Path, folder: Path) -> None:
    from nilearn.image import resample_img

    affine = np.diag([-8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = (92, -124, -76)
    shape = (23, 27, 23)
    path = write_nifti(tmp_path / "x.nii.gz", bold(shape, 3), affine=affine)
    fields, store = process(item_of(path), folder, space="mni2mm")
    grid, wanted_affine = mni_grid()
    assert store.shape == (91, 109, 91, 3)
    assert grid == (91, 109, 91)
    np.testing.assert_array_equal(store.affine, wanted_affine)
    assert store.info.space == "mni2mm"
    assert "no registration was done" in fields["notes"][0]
    theirs = resample_img(
        nib.load(path), wanted_affine, grid, interpolation="linear", copy_header=True
    ).get_fdata(dtype=np.float32)
    np.testing.assert_allclose(
        store.read_packed(slice(None)), theirs[store.mask].T, rtol=1e-4, atol=0.05
    )
    litres = store.n_voxels * 8e-6
    assert litres == pytest.approx(ball(shape).sum() * 512e-6, rel=0.05)


def test_a_mask_on_the_target_grid_is_taken_as_it_is(tmp_path: Path, folder: Path) -> None:
    affine = np.diag([-8.0, 8.0, 8.0, 1.0])
    affine[:3, 3] = (92, -124, -76)
    path = write_nifti(tmp_path / "x.nii.gz", bold((23, 27, 23), 2), affine=affine)
    grid, target = mni_grid()
    given = np.zeros(grid, np.uint8)
    given[40:50, 50:60, 40:50] = 1
    mask = write_nifti(tmp_path / "m.nii.gz", given, affine=target)
    _, store = process(item_of(path), folder, space="mni2mm", mask=str(mask))
    np.testing.assert_array_equal(store.mask, given > 0)


def test_a_run_far_from_the_template_is_refused(tmp_path: Path, folder: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 3] = 5000
    path = write_nifti(tmp_path / "x.nii.gz", bold(), affine=affine)
    with pytest.raises(InputError, match="places it outside the MNI152 box"):
        process(item_of(path), folder, space="mni2mm")
