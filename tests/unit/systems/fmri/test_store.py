"""Stored runs of every kind give the same clips, and hold what was written."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from run_files import AFFINE
from store_files import DENSE, MASK, RANDOM, SHAPE, STATS, VALUES, N, write

from neurocli.core.data.statistics import global_stats, voxel_stats
from neurocli.core.errors import InputError, MissingDependencyError, NeuroError, UsageError
from neurocli.systems.fmri.store import RunInfo, StoreForm, open_store, write_store
from neurocli.systems.fmri.store_base import VoxelMoments, survey_volumes
from neurocli.systems.fmri.store_hdf5 import DenseStore, PackedStore

FORMS = [
    (layout, dtype, compression)
    for layout in ("packed", "dense")
    for dtype in ("float16", "int16", "float32")
    for compression in ("none", "gzip", "lzf")
]


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_every_form_gives_back_the_values(tmp_path: Path, form: tuple[str, str, str]) -> None:
    path = write(tmp_path / "x.h5", form[0], form[1], compression=form[2])
    with open_store(path) as store:
        assert isinstance(store, PackedStore if form[0] == "packed" else DenseStore)
        for frames in (slice(0, N), slice(2, 5), slice(1, None, 3), slice(-2, None)):
            np.testing.assert_array_equal(store.read_packed(frames), VALUES[frames])
        assert store.read_packed(slice(0, 1)).dtype == np.float32
        np.testing.assert_array_equal(store.mask, MASK)
        assert store.stats == STATS
        mean, std = voxel_stats(VALUES)  # the two-pass reference
        np.testing.assert_allclose(store.voxel_mean_V, mean, rtol=1e-6)
        np.testing.assert_allclose(store.voxel_std_V, std, rtol=1e-6)


def test_what_is_said_about_the_run_comes_back(tmp_path: Path) -> None:
    store = open_store(write(tmp_path / "x.h5"))
    assert (store.subject, store.participant) == ("sub-7_run-1", "sub-7")
    assert store.shape == (*SHAPE, N)
    assert store.n_frames == N
    assert store.tr_s == pytest.approx(0.72)
    np.testing.assert_array_equal(store.affine, AFFINE)
    assert store.scaling == "none"
    assert store.info.orientation == "LAS"
    assert store.info.source_sha256 == "f" * 64
    assert store.background == 0
    store.close()


def test_an_unknown_repetition_time_stays_unknown(tmp_path: Path) -> None:
    info = RunInfo("s", "s", (*SHAPE, N), None, AFFINE, "none", "file", "native")
    path = write(tmp_path / "x.h5", info=info)
    with open_store(path) as store:
        assert store.tr_s is None
        assert store.info.source_sha256 is None
    with h5py.File(path) as file:
        assert "tr_s" not in file.attrs


def test_layout_on_disk(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "p.h5", "packed")) as file:
        assert file["bold"].shape == (N, MASK.sum())
        assert file["bold"].chunks is None  # in one piece: a window is one plain read
        assert file["frame_sums"].shape == (N,)
        assert file["mask"].dtype == np.uint8
        assert file.attrs["schema"] == b"neuro/fmri-run/1"
        assert file.attrs["global_mean"] == STATS.global_mean
        assert file.attrs["complete"]
    with h5py.File(write(tmp_path / "d.h5", "dense")) as file:
        assert file["fmri_data"].shape == (*SHAPE, N)
        assert file["fmri_data"].chunks == (*SHAPE, 1)
        assert file["fmri_data"].dtype == np.float16
        np.testing.assert_array_equal(file["fmri_data"][:], DENSE)
        assert file["voxel_mean"].shape == SHAPE


@pytest.mark.parametrize("layout", ["packed", "dense"])
def test_same_values_same_bytes(tmp_path: Path, layout: str) -> None:
    one = write(tmp_path / "one.h5", layout).read_bytes()
    # The split into blocks must not show either.
    two = write(tmp_path / "two.h5", layout, blocks=lambda: [VALUES]).read_bytes()
    assert len(one) == len(two)
    assert one == write(tmp_path / "three.h5", layout).read_bytes()


def test_background_of_scaled_values(tmp_path: Path) -> None:
    info = RunInfo("s", "s", (*SHAPE, N), 2.0, AFFINE, "znorm_minback", "file", "native")
    for dtype in ("float32", "int16"):
        path = write(tmp_path / f"{dtype}.h5", "dense", dtype, info=info, background=-3.25)
        with open_store(path) as store:
            assert store.background == -3.25
            assert store.scaling == "znorm_minback"
        with h5py.File(path) as file:
            scale, offset = file.attrs.get("scale_factor", 1.0), file.attrs.get("offset", 0.0)
            outside = file["fmri_data"][..., 0][~MASK] * scale + offset
        assert set(outside.tolist()) == {-3.25}


def test_int16_steps_are_fine(tmp_path: Path) -> None:
    values = RANDOM.normal(9000, 90, VALUES.shape).astype(np.float32)
    path = write(tmp_path / "x.h5", "packed", "int16", blocks=lambda: [values])
    with open_store(path) as store:
        error = np.abs(store.read_packed(slice(None)) - values).max()
    assert error <= np.abs(values).max() / 32767 / 2 * 1.01


@pytest.mark.parametrize("dtype", ["float16", "int16"])
def test_packed_time_courses_keep_a_signal_of_one_percent(tmp_path: Path, dtype: str) -> None:
    # Voxels from dim to bright, each with 1 % of noise: what fMRI is after must survive storage.
    random = np.random.default_rng(5)
    n_frames, mask = 200, np.ones((10, 10, 10), dtype=bool)
    level = np.geomspace(40, 30000, mask.size).astype(np.float32)
    values = level * (1 + 0.01 * random.standard_normal((n_frames, mask.size), dtype=np.float32))
    info = RunInfo("s", "s", (10, 10, 10, n_frames), 2.0, AFFINE, "none", "file", "native")
    path = tmp_path / "x.h5"
    write_store(
        path,
        info,
        mask=mask,
        blocks=lambda: [values[:90], values[90:]],
        stats=global_stats(lambda: [values]),
        form=StoreForm("packed", dtype),
    )
    with open_store(path) as store:
        stored = store.read_packed(slice(None)).astype(np.float64)
    wanted = values.astype(np.float64)
    ours, theirs = (part - part.mean(0) for part in (stored, wanted))
    r = (ours * theirs).sum(0) / np.sqrt((ours**2).sum(0) * (theirs**2).sum(0))
    assert np.percentile(r, 5) >= 0.999
    if dtype == "int16":
        # A step per voxel: 1 % of noise reaches about 3.5 spreads, 32767 steps each way.
        assert r.min() > 1 - 1e-8


def test_int16_is_lossless_for_whole_numbers(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "x.h5", "packed", "int16")) as file:
        assert file.attrs["scale_factor"] == 1.0
        np.testing.assert_array_equal(file["bold"][:], VALUES)


def test_float16_overflow_is_refused(tmp_path: Path) -> None:
    big = VALUES.copy()
    big[3, 2] = 70000
    with pytest.raises(NeuroError, match="reach 70000, float16 ends at 65504") as caught:
        write(tmp_path / "x.h5", blocks=lambda: [big])
    assert "--dtype float32" in str(caught.value.hint)
    assert not list(tmp_path.iterdir())


def test_missing_frames_are_not_stored_as_zeros(tmp_path: Path) -> None:
    with pytest.raises(NeuroError, match="4 frames came of 9"):
        write(tmp_path / "x.h5", blocks=lambda: [VALUES[:4]])
    assert not list(tmp_path.iterdir())


def test_forms_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown layout 'packd'; did you mean packed"):
        StoreForm("packd", "float16").check()
    with pytest.raises(UsageError, match="unknown dtype 'float64'"):
        StoreForm("dense", "float64").check()
    with pytest.raises(UsageError, match="unknown compression 'zip'"):
        StoreForm("dense", "float16", "zip").check()
    monkeypatch.setattr("neurocli.systems.fmri.store_write.has_zstd", lambda: False)
    with pytest.raises(MissingDependencyError, match="hdf5plugin"):
        StoreForm("dense", "float16", "zstd").check()


def test_a_store_travels_and_reopens(tmp_path: Path) -> None:
    store = open_store(write(tmp_path / "x.h5", "dense"))
    wanted = store.read_packed(slice(0, 3))
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read_packed(slice(0, 3)), wanted)
    store.close()
    np.testing.assert_array_equal(store.read_packed(slice(0, 3)), wanted)
    assert len(pickle.dumps(store)) < 4000


@pytest.mark.parametrize("frames", [slice(3, 3), slice(20, 30), slice(5, 1, -1)])
def test_no_frames_is_an_error(tmp_path: Path, frames: slice) -> None:
    with open_store(write(tmp_path / "x.h5")) as store, pytest.raises(NeuroError, match="are none"):
        store.read_packed(frames)


def test_moments_equal_the_two_pass_reference() -> None:
    values = (1e4 + RANDOM.normal(0, 1, (50, 30))).astype(np.float32)
    values[:, 3] = 12345.678
    moments = VoxelMoments()
    for start in range(0, 50, 7):
        moments.add(values[start : start + 7])
    mean, std = voxel_stats(values)
    np.testing.assert_allclose(moments.result()[0], mean, rtol=1e-7)
    np.testing.assert_allclose(moments.result()[1], std, rtol=1e-5)
    assert moments.result()[1][3] == 0


def test_survey_names_the_frame_with_nan(tmp_path: Path) -> None:
    volumes = [np.ones(SHAPE, np.float32), np.full(SHAPE, np.nan, np.float32)]
    with pytest.raises(InputError, match="the first in frame 1"):
        survey_volumes(lambda: volumes, tmp_path)
