"""Conversion to HDF5, from everything that can be read."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cohort_files import SHAPE, values_of, write_cohort
from run_files import write_foreign

from neurocli.core.data.frames import write_frames
from neurocli.core.data.items import PrepareResult
from neurocli.core.errors import (
    InputError,
    MissingDependencyError,
    NeuroError,
    OutputError,
    UsageError,
)
from neurocli.systems.fmri.convert import convert_hdf5, find_runs
from neurocli.systems.fmri.store import find_stores, open_store
from neurocli.systems.fmri.store_write import write_store


@pytest.fixture
def src(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    return write_cohort(folder, 3, columns={"sex": ["M", "F", "M"], "age": [20, 30, 40]})


def test_dense_is_the_family_layout(src: Path, tmp_path: Path) -> None:
    result = convert_hdf5(src, tmp_path / "out")
    assert (result.done, result.failed) == (3, 0)
    values, mask = values_of(1, 12)
    with h5py.File(tmp_path / "out" / "s01.h5") as file:
        data = file["fmri_data"]
        assert data.shape == (*SHAPE, 12)
        assert data.chunks == (*SHAPE, 1)
        assert data.dtype == np.float16
        np.testing.assert_array_equal(data[:][mask], values.T.astype(np.float16))
        assert (data[:][~mask] == 0).all()
        assert {"valid_voxels", "global_mean", "global_std", "global_max"} <= set(file.attrs)


@pytest.mark.parametrize("layout", ["dense", "packed"])
@pytest.mark.parametrize("dtype", ["float16", "int16", "float32"])
def test_what_is_known_of_a_run_survives(
    src: Path, tmp_path: Path, layout: str, dtype: str
) -> None:
    convert_hdf5(src, tmp_path / "out", layout=layout, dtype=dtype, compression="gzip")
    for subject, participant, path in find_stores(tmp_path / "out"):
        with open_store(src / f"{subject}.h5") as before, open_store(path) as after:
            assert participant == after.participant == before.participant
            assert after.stats == before.stats
            assert after.tr_s == before.tr_s
            np.testing.assert_array_equal(after.affine, before.affine)
            np.testing.assert_array_equal(after.mask, before.mask)
            np.testing.assert_allclose(
                after.read_packed(slice(None)),
                before.read_packed(slice(None)),
                rtol={"float16": 5e-4, "int16": 3e-5, "float32": 0}[dtype],
            )


def test_the_folder_describes_itself(src: Path, tmp_path: Path) -> None:
    convert_hdf5(src, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (found["room"], found["kind"], found["n_done"]) == ("fmri", "hdf5", 3)
    assert found["options"] == {"layout": "dense", "dtype": "float16", "compression": "none"}
    assert (tmp_path / "out" / "participants.tsv").read_text().splitlines()[1] == "s00\tM\t20"
    record = json.loads((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()[0])
    assert record["files"] == ["s00.h5"]
    assert record["dtype"] == "float16"
    assert record["shape"] == [*SHAPE, 12]
    assert record["source"] == ["s00.h5"]


def test_built_in_data_stays_marked(src: Path, tmp_path: Path) -> None:
    (src / "dataset.json").write_text(
        json.dumps({"schema": "neuro/dataset/1", "dataset": "dummy", "built_in_data": True})
    )
    convert_hdf5(src, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert found["built_in_data"] is True
    assert found["dataset"] == "dummy"


def foreign(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    values, mask = values_of(0, 6)
    dense = np.zeros((*SHAPE, 6), np.float32)
    dense[mask] = np.rint(values.T)
    return tmp_path / "old", dense, mask


@pytest.mark.parametrize("kind", ["frames", "gzip", "contiguous"])
def test_older_kinds_are_converted(tmp_path: Path, kind: str) -> None:
    src, dense, mask = foreign(tmp_path)
    src.mkdir()
    if kind == "frames":
        (src / "100").mkdir()
        write_frames(src / "100", np.moveaxis(dense, 3, 0))
    else:
        storage: dict[str, Any] = {"compression": "gzip"} if kind == "gzip" else {}
        write_foreign(src / "100.h5", dense.astype(np.float16), **storage)
    assert convert_hdf5(src, tmp_path / "out", layout="packed").done == 1
    with open_store(tmp_path / "out" / "100.h5") as store:
        np.testing.assert_array_equal(store.mask, mask)
        wanted = dense[mask].T.astype(np.float16)
        np.testing.assert_array_equal(store.read_packed(slice(None)), wanted)
        assert store.subject == "100"


def test_repeating_does_nothing_and_changes_are_noticed(src: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_hdf5(src, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = convert_hdf5(src, out)
    assert (again.done, again.skipped) == (0, 3)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(UsageError, match="dtype is float16 there and int16 here"):
        convert_hdf5(src, out, dtype="int16")
    assert convert_hdf5(src, out, dtype="int16", force=True).done == 3


def test_bad_files_are_listed_and_the_rest_done(src: Path, tmp_path: Path) -> None:
    path = src / "s01.h5"
    path.write_bytes(path.read_bytes()[:-500])
    with h5py.File(src / "s02.h5", "r+") as file:
        values = file["bold"][:]
        values[3, 1] = np.nan
        del file["bold"]
        file["bold"] = values
    result = convert_hdf5(src, tmp_path / "out")
    assert result.done == 1
    reasons = dict(result.failures)
    assert reasons["s01"].startswith("s01.h5: ")
    assert "1 values are NaN or Inf, the first in frame 3" in reasons["s02"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.h5")) == ["s00.h5"]


def test_overflow_fails_with_the_way_out(tmp_path: Path) -> None:
    src, dense, mask = foreign(tmp_path)
    src.mkdir()
    dense[mask] *= 100
    write_foreign(src / "a.h5", dense)
    with pytest.raises(NeuroError, match=r"a.h5: values reach .* float16 ends at 65504") as caught:
        convert_hdf5(src, tmp_path / "out")
    assert "--dtype float32 or --dtype int16" in str(caught.value)
    assert convert_hdf5(src, tmp_path / "out2", dtype="int16").done == 1


def test_a_full_disk_ends_the_run_and_the_rest_is_done_later(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_hdf5(src, tmp_path / "whole")
    written = []

    def full(target: Path, *args: Any, **options: Any) -> None:
        written.append(target.name)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_store(target, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("neurocli.systems.fmri.convert.write_store", full)
        with pytest.raises(OutputError, match="cannot write: No space left") as caught:
            convert_hdf5(src, tmp_path / "out")
    assert caught.value.code == 1
    assert written == ["s00.h5", "s01.h5"]  # no third item is tried
    assert sorted(path.name for path in (tmp_path / "out").glob("s*")) == ["s00.h5"]
    again = convert_hdf5(src, tmp_path / "out")
    assert (again.done, again.skipped) == (2, 1)
    for path in (tmp_path / "whole").glob("*.h5"):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_a_gap_in_frames_fails_only_that_run(tmp_path: Path) -> None:
    src, dense, _ = foreign(tmp_path)
    for name in ("a", "b"):
        (src / name).mkdir(parents=True)
        write_frames(src / name, np.moveaxis(dense, 3, 0))
    (src / "b" / "frame_2.pt").unlink()
    result = convert_hdf5(src, tmp_path / "out")
    assert result.done == 1
    assert result.failures[0][1].startswith("b: lacks frame_2.pt")


def test_runs_that_failed_before_are_mentioned(src: Path, tmp_path: Path) -> None:
    lines = [
        {"subject": "s00", "participant": "s00", "status": "done", "files": ["s00.h5"]},
        {"subject": "lost", "participant": "lost", "status": "failed", "files": []},
    ]
    (src / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = convert_hdf5(src, tmp_path / "out")
    assert result.done == 1
    assert result.notes == ["1 runs failed in preprocess and are not here: lost ..."]


def test_words_are_checked_before_work(src: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for words in ({"layout": "cube"}, {"dtype": "int8"}, {"compression": "rar"}, {"codec": "x"}):
        with pytest.raises(UsageError, match="unknown"):
            convert_hdf5(src, out, **words)
    assert not out.exists()
    with pytest.raises(UsageError, match="the output folder is the source"):
        convert_hdf5(src, src, force=True)
    with pytest.raises(InputError, match="does not exist"):
        convert_hdf5(tmp_path / "no", out)


@pytest.mark.parametrize("family", ["OMPI_COMM_WORLD", "PMI"])
def test_a_team_without_mpi4py_is_an_error(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv(f"{family}_SIZE", "4")
    for rank in ("0", "3"):
        monkeypatch.setenv(f"{family}_RANK", rank)
        with pytest.raises(MissingDependencyError, match="4 processes under mpiexec need"):
            convert_hdf5(src, tmp_path / "out")
    monkeypatch.setenv(f"{family}_SIZE", "1")
    assert convert_hdf5(src, tmp_path / "out").done == 3


def test_a_dry_run_plans(src: Path, tmp_path: Path) -> None:
    result: PrepareResult = convert_hdf5(src, tmp_path / "out", dry_run=True)
    assert result.plan is not None
    assert result.plan["items"] == ["s00", "s01", "s02"]
    assert not (tmp_path / "out").exists()


def test_one_file_is_a_source_too(src: Path, tmp_path: Path) -> None:
    assert len(find_runs(src / "s01.h5").items) == 1
    assert convert_hdf5(src / "s01.h5", tmp_path / "out").done == 1
