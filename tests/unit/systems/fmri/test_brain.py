"""Where the brain is taken to be, and on which grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import AFFINE, SHAPE, ball, bold, item_of, write_nifti

from neurocli.core.data.geometry import mni_grid
from neurocli.core.errors import InputError
from neurocli.systems.fmri.brain import OutputGrid, RunJob, find_brain, judge_nonfinite, output_grid
from neurocli.systems.fmri.config import PreprocessOptions
from neurocli.systems.fmri.series import open_series


def job_of(path: Path, *, details: dict[str, Any] | None = None, **chosen: Any) -> RunJob:
    settings = PreprocessOptions(**chosen)
    item = item_of(path, **(details or {}))
    series = open_series(item)
    return RunJob(item, settings, series, output_grid(series, settings))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "x.nii.gz", bold())


def test_the_native_grid_is_the_run_itself(source: Path) -> None:
    job = job_of(source)
    assert job.grid.shape == SHAPE
    assert not job.grid.is_resampled
    volume = bold()[..., 0]
    np.testing.assert_array_equal(job.grid.place(volume, AFFINE), volume)


def test_the_mni_grid_takes_intensities_linearly_and_masks_whole() -> None:
    shape, affine = mni_grid(4.0)
    grid = OutputGrid(shape, affine, is_resampled=True)
    half = affine.copy()
    half[0, 3] -= 2  # half a voxel aside: linear values lie between two voxels
    values = np.zeros(shape, np.float32)
    values[10:20] = 1
    placed = grid.place(values, half)
    assert set(np.unique(placed).tolist()) == {0.0, 0.5, 1.0}
    assert set(np.unique(grid.place(values > 0, half)).tolist()) == {0.0, 1.0}


def test_each_way_to_a_mask(source: Path, tmp_path: Path) -> None:
    small = write_nifti(tmp_path / "m.nii.gz", ball(radius=0.2).astype(np.uint8))
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {}, "computed"),
        ({"mask": "none"}, {}, "none"),
        ({"mask": str(small)}, {}, "file"),
        ({}, {"mask": small}, "derivative"),
        ({"mask": "none"}, {"mask": small}, "none"),
    ]
    for chosen, details, wanted in cases:
        mask, source_of_it = find_brain(job_of(source, details=details, **chosen))
        assert source_of_it == wanted
        assert mask.dtype == bool
        size = {"none": ball().size, "computed": ball().sum()}.get(wanted, ball(radius=0.2).sum())
        assert mask.sum() == pytest.approx(size, rel=0.03)


def test_a_broken_derivative_mask_fails_the_run(source: Path, tmp_path: Path) -> None:
    bad = tmp_path / "m.nii.gz"
    bad.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"m\.nii\.gz"):
        find_brain(job_of(source, details={"mask": bad}))


def test_the_resampled_mask_is_the_same_brain(tmp_path: Path) -> None:
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-40, -60, -30)
    path = write_nifti(tmp_path / "x.nii.gz", bold(), affine=affine)
    job = job_of(path, space="mni2mm")
    mask, source_of_it = find_brain(job)
    assert source_of_it == "computed"
    assert mask.shape == (91, 109, 91)
    assert mask.sum() * 8 == pytest.approx(ball().sum() * 64, rel=0.05)
    assert len(job.notes) == 1


@pytest.mark.parametrize(("policy", "is_final", "n_notes"), [("zero", True, 1), ("zero", False, 0)])
def test_nonfinite_values_are_judged(
    source: Path, policy: str, is_final: bool, n_notes: int
) -> None:
    job = job_of(source, nonfinite=policy)
    judge_nonfinite(job, 0, 100, is_final=is_final)
    assert job.notes == []
    judge_nonfinite(job, 5, 100, is_final=is_final)
    assert len(job.notes) == n_notes
    with pytest.raises(InputError, match=r"5 of 100 values \(5 %\)"):
        judge_nonfinite(job_of(source), 5, 100, is_final=is_final)
