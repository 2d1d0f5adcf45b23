"""Stored runs of every kind give the same clips; damaged ones are refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from run_files import AFFINE, ball, write_foreign

from neurocli.core.data.frames import write_frames, write_stats
from neurocli.core.data.statistics import GlobalStats, global_stats, voxel_stats
from neurocli.core.errors import InputError, MissingDependencyError, NeuroError, UsageError
from neurocli.systems.fmri.store import (
    RunInfo,
    StoreForm,
    find_stores,
    open_store,
    participant_of,
    write_store,
)
from neurocli.systems.fmri.store_base import VoxelMoments, survey_volumes
from neurocli.systems.fmri.store_foreign import ForeignStore
from neurocli.systems.fmri.store_frames import FrameStore
from neurocli.systems.fmri.store_hdf5 import DenseStore, PackedStore

SHAPE = (7, 6, 5)
N = 9
MASK = ball(SHAPE, 0.45)
RANDOM = np.random.default_rng(3)
# Whole numbers below 2048 are exact in float16, int16 and float32 alike.
VALUES = RANDOM.integers(1, 2000, (N, int(MASK.sum()))).astype(np.float32)
DENSE = np.zeros((*SHAPE, N), dtype=np.float32)
DENSE[MASK] = VALUES.T
STATS = global_stats(lambda: [VALUES])
INFO = RunInfo(
    "sub-7_run-1", "sub-7", (*SHAPE, N), 0.72, AFFINE, "none", "file", "native", "f" * 64
)


def write(path: Path, layout: str = "packed", dtype: str = "float16", **more: Any) -> Path:
    more.setdefault("blocks", lambda: [VALUES[:4], VALUES[4:]])
    info = more.pop("info", INFO)
    form = StoreForm(layout, dtype, more.pop("compression", "none"))
    write_store(path, info, mask=MASK, stats=STATS, form=form, **more)
    return path


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


# --- older files ------------------------------------------------------------------------------

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


# --- damage -----------------------------------------------------------------------------------


def damage(path: Path, how: str) -> None:
    with h5py.File(path, "r+") as file:
        if how == "incomplete":
            file.attrs["complete"] = False
        elif how == "no mark":
            del file.attrs["complete"]
        elif how == "frames":
            file.attrs["n_frames"] = N + 1
        elif how == "newer":
            file.attrs["schema"] = np.bytes_("neuro/fmri-run/2")
        elif how == "subject":
            del file.attrs["subject"]
        elif how == "affine":
            file.attrs["affine"] = np.zeros((4, 4))
        elif how == "tr":
            file.attrs["tr_s"] = np.nan
        elif how == "stats":
            file.attrs["global_std"] = np.nan
        elif how == "mask":
            file["mask"][0, 0, 0] = 1
        elif how == "nan":
            values = file["bold"][:]
            values[4, 1] = np.nan
            del file["bold"]
            file["bold"] = values
        elif how == "no data":
            del file["bold"]


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("incomplete", "not marked complete"),
        ("no mark", "not marked complete"),
        ("frames", "holds 9 frames and claims 10"),
        ("newer", "schema 'neuro/fmri-run/2'"),
        ("subject", "lacks the attribute subject"),
        ("affine", "affine is singular"),
        ("tr", "tr_s is nan"),
        ("stats", "global_std"),
        ("mask", "mask holds"),
        ("nan", "1 values are NaN or Inf, the first in frame 4"),
        ("no data", "no such dataset"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, how: str, problem: str) -> None:
    path = write(tmp_path / "x.h5", "packed", "float32")
    damage(path, how)
    with pytest.raises(InputError, match=problem) as caught, open_store(path) as store:
        _ = store.info, store.stats, store.mask, store.read_packed(slice(None))
    assert "x.h5" in str(caught.value)


@pytest.mark.parametrize("layout", ["packed", "dense"])
def test_flipped_bits_in_values_are_noticed(tmp_path: Path, layout: str) -> None:
    path = write(tmp_path / "x.h5", layout, "float32")
    with h5py.File(path) as file:
        if layout == "packed":
            offset, size = file["bold"].id.get_offset(), file["bold"].id.get_storage_size()
        else:
            info = file["fmri_data"].id.get_chunk_info(2)
            offset, size = info.byte_offset, info.size
    content = bytearray(path.read_bytes())
    content[offset + size // 2] ^= 8
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"), open_store(path) as store:
        store.read_packed(slice(None))


def test_packed_files_of_chunks_without_sums_are_read(tmp_path: Path) -> None:
    # As versions before the sums wrote them.
    path = write(tmp_path / "x.h5", "packed", "float32")
    with open_store(path) as store:
        wanted = store.read_packed(slice(None))
    with h5py.File(path, "r+") as file:
        values = file["bold"][:]
        del file["bold"], file["frame_sums"]
        file.create_dataset("bold", data=values, chunks=(1, values.shape[1]), fletcher32=True)
    with open_store(path) as store:
        np.testing.assert_array_equal(store.read_packed(slice(None)), wanted)
    with h5py.File(path, "r+") as file:
        file["bold"][4, 2] = np.nan
    with open_store(path) as store, pytest.raises(InputError, match="the first in frame 4"):
        store.read_packed(slice(None))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_cut_files_are_refused(tmp_path: Path, share: float) -> None:
    path = write(tmp_path / "x.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError), open_store(path) as store:
        store.read_packed(slice(None))


def test_other_hdf5_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["weights"] = [1.0]
    with pytest.raises(InputError, match=r"holds no run .found: weights"):
        open_store(tmp_path / "x.h5")
    (tmp_path / "y.h5").write_text("hello")
    with pytest.raises(InputError, match=r"y\.h5"):
        open_store(tmp_path / "y.h5")


def test_constant_older_files_are_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "x.h5", np.ones((*SHAPE, N)))
    with pytest.raises(InputError, match="all voxels of all frames are equal"):
        _ = open_store(path).mask


# --- finding ----------------------------------------------------------------------------------


def test_find_by_manifest(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "bold.h5")
    lines = [
        {"subject": "b", "participant": "p", "status": "done", "files": ["b/bold.h5", "b/qc.json"]},
        {"subject": "a", "participant": "a", "status": "done", "files": ["a/bold.h5"]},
        {"subject": "c", "participant": "c", "status": "failed", "files": []},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert find_stores(tmp_path) == [
        ("a", "a", tmp_path / "a" / "bold.h5"),
        ("b", "p", tmp_path / "b" / "bold.h5"),
    ]
    (tmp_path / "a" / "bold.h5").unlink()
    # A file that is gone costs its own run and not the rest.
    with pytest.raises(InputError, match=r"bold\.h5"):
        open_store(find_stores(tmp_path)[0][2])
    manifest.write_text(json.dumps({**lines[0], "files": ["../x.h5"]}) + "\n")
    with pytest.raises(InputError, match="lies outside"):
        find_stores(tmp_path)


def test_find_by_scanning(tmp_path: Path) -> None:
    write(tmp_path / "sub-1_run-2.h5")
    (tmp_path / "img" / "ABIDE1" / "50002").mkdir(parents=True)
    write_frames(tmp_path / "img" / "ABIDE1" / "50002", [DENSE[..., 0]])
    (tmp_path / "sub-9").mkdir()
    write(tmp_path / "sub-9" / "bold.h5")
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache" / "hidden.h5")
    assert [(s, p) for s, p, _ in find_stores(tmp_path)] == [
        ("50002", "50002"),
        ("sub-1_run-2", "sub-1"),
        ("sub-9", "sub-9"),
    ]


def test_find_one_run(tmp_path: Path) -> None:
    path = write(tmp_path / "x.h5")
    assert find_stores(path) == [("sub-7_run-1", "sub-7", path)]


def test_nothing_found_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"looked for .h5 files and folders with frame_0.pt"):
        find_stores(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_stores(tmp_path / "no")


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "100.h5")
    with pytest.raises(InputError, match=r"two runs are named 100: a/100.h5, b/100.h5"):
        find_stores(tmp_path)


def test_participants_follow_bids_names() -> None:
    assert participant_of("sub-01_task-rest_bold") == "sub-01"
    assert participant_of("subject7") == "subject7"


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
