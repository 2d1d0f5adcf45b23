"""Stores of other makers: older HDF5 files and folders of frames."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import write_foreign
from store_files import DENSE, MASK, RANDOM, SHAPE, STATS, VALUES, N

from neurocli.core.data.frames import write_frames, write_stats
from neurocli.core.data.statistics import GlobalStats, voxel_stats
from neurocli.core.errors import InputError
from neurocli.systems.fmri.store import open_store
from neurocli.systems.fmri.store_foreign import ForeignStore
from neurocli.systems.fmri.store_frames import FrameStore

KINDS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "per-frame": {"chunks": (*SHAPE, 1)},
    "gzip": {"chunks": (*SHAPE, 1), "compression": "gzip"},
    "odd chunks": {"chunks": (4, 3, 5, 4), "compression": "gzip"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_older_hdf5(tmp_path: Path, kind: str) -> None:
    path = write_foreign(tmp_path / "100206.h5", DENSE.astype(np.float16), **KINDS[kind])
    with open_store(path) as store:
        assert isinstance(store, ForeignStore)
        assert (store.subject, store.participant) == ("100206", "100206")
        np.testing.assert_array_equal(store.mask, MASK)
        for frames in (slice(None), slice(2, 8, 2), slice(4, 5)):
            np.testing.assert_array_equal(store.read_packed(frames), VALUES[frames])
        assert store.scaling == "none"  # whole numbers far above 1
        assert store.stats == STATS
        np.testing.assert_allclose(store.voxel_std_V, voxel_stats(VALUES)[1], rtol=1e-6)
        assert store.tr_s is None


def test_stored_statistics_of_older_files_win(tmp_path: Path) -> None:
    attributes = {"valid_voxels": 5, "global_mean": 7.5, "global_std": 2.0, "global_max": 9.0}
    path = write_foreign(tmp_path / "x.h5", DENSE, attributes)
    with open_store(path) as store:
        assert (store.stats.valid_voxels, store.stats.global_mean) == (5, 7.5)
        assert store.stats.median == STATS.median
        assert store.scaling == "none"


@pytest.mark.parametrize(
    ("outside", "scaling", "background"),
    [(0.0, "znorm_zeroback", 0.0), (-4.0, "znorm_minback", -4.0)],
)
def test_older_scaled_files(
    tmp_path: Path, outside: float, scaling: str, background: float
) -> None:
    values = RANDOM.normal(0, 1, (*SHAPE, N)).clip(-3.9, 5)
    values[~MASK] = outside
    path = write_foreign(tmp_path / "x.h5", values.astype(np.float32))
    with open_store(path) as store:
        np.testing.assert_array_equal(store.mask, MASK)
        assert (store.scaling, store.background) == (scaling, background)


def test_a_run_without_background_is_brain_throughout(tmp_path: Path) -> None:
    values = RANDOM.uniform(0.1, 1, (*SHAPE, N))
    with open_store(write_foreign(tmp_path / "x.h5", values)) as store:
        assert store.mask.all()
        assert store.scaling == "minmax"


@pytest.mark.parametrize("with_stats", [True, False])
def test_frame_folders(tmp_path: Path, with_stats: bool) -> None:
    folder = tmp_path / "sub-3_ses-1"
    folder.mkdir()
    write_frames(folder, np.moveaxis(DENSE, 3, 0))
    if with_stats:
        write_stats(folder, GlobalStats(5, 7.5, 2.0, 9.0))
    with open_store(folder) as store:
        assert isinstance(store, FrameStore)
        assert (store.subject, store.participant) == ("sub-3_ses-1", "sub-3")
        np.testing.assert_array_equal(store.read_packed(slice(1, 8, 3)), VALUES[1:8:3])
        assert store.stats.global_mean == (7.5 if with_stats else STATS.global_mean)
        copy = pickle.loads(pickle.dumps(store))
        assert copy.shape == (*SHAPE, N)


def test_frames_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path, [DENSE[..., 0], DENSE[:-1, :, :, 1]])
    with pytest.raises(InputError, match=r"frame_1.pt: is \(6, 6, 5\)"):
        _ = open_store(tmp_path).mask


def test_constant_older_files_are_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "x.h5", np.ones((*SHAPE, N)))
    with pytest.raises(InputError, match="all voxels of all frames are equal"):
        _ = open_store(path).mask
