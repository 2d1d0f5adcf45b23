"""Runs on their way in: NIfTI, frame folders and painted ones look the same from here on."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from run_files import AFFINE, SHAPE, ball, bold, item_of, write_nifti

from neurocli.core.data.frames import write_frames, write_stats
from neurocli.core.data.items import Item
from neurocli.core.data.statistics import GlobalStats
from neurocli.core.errors import InputError, UsageError
from neurocli.systems.fmri.series import Series, check_series, open_series
from neurocli.systems.fmri.synthetic import CohortSpec, make_subject


def stacked(series: Series) -> np.ndarray:
    return np.stack(list(series.volumes()), axis=3)


def test_nifti(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold())
    series = open_series(item_of(path))
    np.testing.assert_array_equal(stacked(series), nib.load(path).get_fdata(dtype=np.float32))
    np.testing.assert_array_equal(stacked(series), stacked(series))  # as often as asked
    assert series.shape == (*SHAPE, 8)
    assert series.tr_s == 2.0
    np.testing.assert_allclose(series.affine, AFFINE)
    assert series.sha256 is not None
    assert series.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert series.mask is None
    assert series.scaling == "none"


def frame_item(folder: Path, values: np.ndarray) -> Item:
    folder.mkdir()
    names = write_frames(folder, np.moveaxis(values, 3, 0))
    return Item("s", "s", tuple(folder / name for name in names), {"kind": "frames"})


def test_raw_frames(tmp_path: Path) -> None:
    values = bold(outside=0)
    item = frame_item(tmp_path / "s", values)
    stats = GlobalStats(9, 7.0, 2.0, 11.0, 1.0, 6.0, 3.0)
    write_stats(tmp_path / "s", stats)
    series = open_series(item)
    np.testing.assert_array_equal(stacked(series), values.astype(np.float16))
    np.testing.assert_array_equal(series.mask, ball())
    assert series.mask_source == "nonzero"
    assert series.stats == stats
    assert (series.scaling, series.background, series.tr_s) == ("none", 0.0, None)


def test_scaled_frames(tmp_path: Path) -> None:
    values = np.where(ball()[..., None], np.random.default_rng(0).normal(0, 1, (*SHAPE, 4)), -5.0)
    series = open_series(frame_item(tmp_path / "s", values))
    assert (series.scaling, series.background) == ("znorm_minback", -5.0)
    np.testing.assert_array_equal(series.mask, ball())


def test_painted_runs() -> None:
    spec = CohortSpec(n_subjects=4, n_frames=5, brain="head")
    item = Item("sub-0003", "sub-0003", (), {"kind": "dummy", "index": 2, "spec": asdict(spec)})
    series = open_series(item)
    run = make_subject(2, spec)
    np.testing.assert_array_equal(stacked(series), run.bold_XYZT)
    np.testing.assert_array_equal(series.mask, run.mask)
    assert series.tr_s == run.tr_s
    assert series.sha256 is None


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 1), (4, 5)])
def test_what_is_no_series(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="where a 4D series is needed"):
        check_series(Path("x.nii"), shape)
    check_series(Path("x.nii"), (4, 5, 6, 2))


def test_one_frame_is_no_series(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one frame"):
        open_series(frame_item(tmp_path / "s", bold()[..., :1]))


def test_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown kind of series 'nifty'; did you mean nifti"):
        open_series(Item("s", "s", (), {"kind": "nifty"}))
