"""Scalings as one affine map of stored numbers, against the scaling of the values themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import AFFINE, SHAPE, bold, item_of, options, write_nifti

from neurocli.core.data.nifti import as_values
from neurocli.core.data.scaling import scale
from neurocli.core.data.statistics import GlobalStats, global_stats
from neurocli.core.errors import NeuroError
from neurocli.systems.fmri.config import PreprocessOptions
from neurocli.systems.fmri.prepare import process_run
from neurocli.systems.fmri.recode import affine_of, stays_stored
from neurocli.systems.fmri.rows import Rows
from neurocli.systems.fmri.run_writer import Scale
from neurocli.systems.fmri.store import open_store

STORED = np.random.default_rng(0).integers(100, 9000, (5, 40)).astype(np.int16)
RAW = Scale(0.5, -3.0)
VALUES = as_values(STORED, RAW.scale_factor, RAW.offset)
STATS = global_stats(lambda: [VALUES])


@pytest.mark.parametrize("method", ["znorm_minback", "znorm_zeroback", "minmax", "robust", "none"])
def test_the_map_is_the_scaling(method: str) -> None:
    found = affine_of(method, RAW, STATS)
    wanted = scale(VALUES, method, stats=STATS)
    mapped = as_values(STORED, found.scale_factor, found.offset)
    np.testing.assert_allclose(mapped, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "name"),
    [("znorm_minback", "global_std"), ("minmax", "global_max"), ("robust", "iqr")],
)
def test_a_statistic_of_zero_is_refused(method: str, name: str) -> None:
    flat = GlobalStats.from_mapping({**STATS.as_dict(), name: 0.0})
    with pytest.raises(NeuroError, match=f"would divide by the run's {name}"):
        affine_of(method, RAW, flat)


@pytest.mark.parametrize(
    ("kind", "chosen", "wanted"),
    [
        (np.int16, {}, True),
        (np.int16, {"scaling": "robust"}, True),
        (np.int16, {"scaling": "voxel-z"}, False),
        (np.int16, {"dtype": "float32"}, False),
        (np.int16, {"low_pass_hz": 0.1}, False),
        (np.int16, {"confounds": "6p"}, False),
        (np.float32, {}, True),
        (np.float32, {"scaling": "robust"}, False),
        (np.float32, {"dtype": "float16"}, False),
    ],
)
def test_what_stays_as_it_is_stored(kind: Any, chosen: dict[str, Any], wanted: bool) -> None:
    rows = Rows(lambda: iter(()), np.dtype(kind))
    assert stays_stored(PreprocessOptions(**chosen), rows) is wanted


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
def test_other_stored_types_become_single_precision(tmp_path: Path, kind: Any) -> None:
    path = write_nifti(tmp_path / "x.nii.gz", bold(outside=0).astype(kind))
    fields = process_run(item_of(path), _folder(tmp_path), options())
    assert fields["dtype"] == "float32"
    store = open_store(tmp_path / "item" / "bold.h5")
    values = bold(outside=0).astype(kind).astype(np.float32)
    np.testing.assert_array_equal(store.mask, values.mean(axis=3) != 0)
    np.testing.assert_array_equal(store.read_packed(slice(None)), values[store.mask].T)


@pytest.mark.parametrize("scaling", ["znorm_minback", "none", "minmax"])
def test_mean_and_spread_are_those_of_what_is_stored(tmp_path: Path, scaling: str) -> None:
    values = np.rint(bold(n_frames=12, outside=0)).astype(np.int16)
    values[10, 11, 9] = 900  # does not change
    values[10, 11, 10] = 9001 + np.arange(12) % 3  # by less than a step of float16 (8 at 9000)
    path = write_nifti(tmp_path / "x.nii.gz", values)
    process_run(item_of(path), _folder(tmp_path), options(scaling=scaling, dtype="float16"))
    store = open_store(tmp_path / "item" / "bold.h5")
    stored = store.read_packed(slice(None)).astype(np.float64)
    std = stored.std(axis=0, ddof=1)
    # From 32 steps on rounding adds errors of 1/110 of the spread, of which 12 frames leave a half.
    np.testing.assert_allclose(store.voxel_std_V, std, rtol=1e-2, atol=1e-7)
    # Rounding moves a mean by at most half a step, and a voxel changes by many of them.
    assert (
        np.abs(store.voxel_mean_V - stored.mean(axis=0)) <= 0.02 * std + 1e-6 * np.abs(stored).max()
    ).all()
    assert (store.voxel_std_V[std == 0] == 0).all()
    assert (std == 0).any()


def test_resampled_whole_numbers_are_values(tmp_path: Path) -> None:
    values = np.rint(bold(SHAPE, 3, outside=0)).astype(np.int16)
    path = write_nifti(tmp_path / "x.nii.gz", values, affine=AFFINE)
    fields = process_run(item_of(path), _folder(tmp_path), options(space="mni2mm"))
    assert fields["dtype"] == "float32"
    assert fields["shape"] == [91, 109, 91, 3]


def _folder(home: Path) -> Path:
    folder = home / "item"
    folder.mkdir()
    return folder
