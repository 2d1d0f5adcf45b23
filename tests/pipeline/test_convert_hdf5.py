"""From raw files through both preparation steps, and kills in the second."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from run_files import bold, write_nifti

from neurocli import convert_hdf5, preprocess
from neurocli.core.errors import NeuroError
from neurocli.systems.fmri.store import find_stores, open_store


@pytest.mark.real
@pytest.mark.parametrize("layout", ["dense", "packed"])
def test_real_dataset_end_to_end(real: Path, tmp_path: Path, layout: str) -> None:
    preprocess("bids", real / "fmri" / "ds005", out=tmp_path / "out")
    result = convert_hdf5(tmp_path / "out", out=tmp_path / "h5", layout=layout)
    assert (result.done, result.failed) == (1, 0)
    ((subject, participant, path),) = find_stores(tmp_path / "h5")
    assert (subject, participant, path.name) == ("sub-01", "sub-01", "sub-01.h5")
    source = real / "fmri/ds005/sub-01/func/sub-01_task-mixedgamblestask_run-01_bold.nii.gz"
    values = nib.load(source).get_fdata(dtype=np.float32)
    with open_store(path) as store:
        wanted = values[store.mask].T.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(store.read_packed(slice(None)), wanted)
        assert store.tr_s == 2.0
    assert (tmp_path / "h5" / "participants.tsv").read_text() == (
        "participant_id\tsex\tage\nsub-01\tM\t28\n"
    )
    described = json.loads((tmp_path / "h5" / "dataset.json").read_text())
    assert (described["kind"], described["dataset"]) == ("hdf5", "bids")


@pytest.mark.real
def test_twelve_real_runs(real: Path, tmp_path: Path) -> None:
    preprocess("nifti", real / "fmri" / "haxby_25mm", out=tmp_path / "out")
    result = convert_hdf5(tmp_path / "out", out=tmp_path / "h5", dtype="int16", layout="packed")
    assert result.done == 12
    with open_store(tmp_path / "h5" / "run001_bold_25mm.h5") as after:
        before = nib.load(real / "fmri/haxby_25mm/run001_bold_25mm.nii.gz").get_fdata()
        # Whole numbers are stored without loss.
        np.testing.assert_array_equal(after.read_packed(slice(None)), before[after.mask].T)


def test_frames_and_hdf5_give_equal_clips(tmp_path: Path) -> None:
    source = write_nifti(tmp_path / "sub-1_bold.nii.gz", bold())
    preprocess("nifti", source, out=tmp_path / "out", options={"frames": "pt"})
    folder = tmp_path / "out" / "sub-1_bold"
    frames = tmp_path / "frames" / "sub-1_bold"
    frames.mkdir(parents=True)
    for path in folder.glob("*.pt"):
        shutil.copy(path, frames)
    for src, out in ((tmp_path / "out", "a"), (tmp_path / "frames", "b")):
        assert convert_hdf5(src, out=tmp_path / out, layout="packed").done == 1
    clips = []
    for out in ("a", "b"):
        with open_store(find_stores(tmp_path / out)[0][2]) as store:
            clips.append((store.mask, store.read_packed(slice(2, 7, 2)), store.stats))
    np.testing.assert_array_equal(clips[0][0], clips[1][0])
    np.testing.assert_array_equal(clips[0][1], clips[1][1])
    assert clips[0][2] == clips[1][2]


def test_same_bytes_for_any_number_of_jobs(tmp_path: Path) -> None:
    preprocess("dummy", out=tmp_path / "out", options={"n_subjects": 5, "n_frames": 6})
    for jobs in (1, 2):
        assert convert_hdf5(tmp_path / "out", out=tmp_path / f"h{jobs}", jobs=jobs).done == 5
    for path in (tmp_path / "h1").glob("*.h5"):
        assert path.read_bytes() == (tmp_path / "h2" / path.name).read_bytes()
    described = json.loads((tmp_path / "h2" / "dataset.json").read_text())
    assert described["built_in_data"] is True


def kill_at_rename(step: int, src: Path, out: Path) -> None:
    """Convert in a child that is killed before its n-th file takes its final name."""
    child = os.fork()
    if child == 0:
        count = 0
        original = os.replace

        def replace(*args: object, **kwargs: object) -> None:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            original(*args, **kwargs)  # type: ignore[arg-type]

        os.replace = replace  # type: ignore[assignment]
        convert_hdf5(src, out=out)
        os._exit(0)
    os.waitpid(child, 0)


def test_a_kill_leaves_no_file_that_looks_finished(tmp_path: Path) -> None:
    preprocess("dummy", out=tmp_path / "out", options={"n_subjects": 4, "n_frames": 6})
    whole = tmp_path / "whole"
    convert_hdf5(tmp_path / "out", out=whole)
    out = tmp_path / "h5"
    for step in (1, 3, 6, 9, 12, 15):
        kill_at_rename(step, tmp_path / "out", out)
        for path in out.glob("*.h5"):
            assert path.read_bytes() == (whole / path.name).read_bytes()
    assert convert_hdf5(tmp_path / "out", out=out).failed == 0
    assert {p.name: p.read_bytes() for p in out.glob("*.h5")} == {
        p.name: p.read_bytes() for p in whole.glob("*.h5")
    }


def test_a_source_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NeuroError, match="holds no stored run"):
        convert_hdf5(tmp_path / "empty", out=tmp_path / "h5")
    assert not (tmp_path / "h5").exists()
