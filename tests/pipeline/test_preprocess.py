"""Raw files to a standard folder, as a whole: bad data, odd names, reruns."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from prepared_tree import check_whole, records, tree
from run_files import ball, bold, cut_gzip, flip_voxel, write_nifti

from neurocli import preprocess
from neurocli.core.errors import ConfigError, NeuroError, UsageError
from neurocli.core.paths import folder_lock
from neurocli.systems.fmri.store import find_stores


def bad_inputs(folder: Path) -> dict[str, str]:
    """Write good runs and one of every bad kind; return what must be said of the bad."""
    for index in range(2):
        write_nifti(folder / f"good{index}.nii.gz", bold(seed=index))
    values = bold()
    values[10, 10, 9, 2] = np.nan
    write_nifti(folder / "nan.nii.gz", values)
    write_nifti(folder / "volume.nii.gz", bold()[..., 0])
    write_nifti(folder / "zeros.nii.gz", np.zeros((8, 8, 8, 4), np.float32))
    cut_gzip(write_nifti(folder / "cut.nii.gz", bold()))
    flip_voxel(write_nifti(folder / "flipped.nii.gz", bold()))
    (folder / "text.nii").write_text("this is no image, whatever its name says\n" * 20)
    (folder / "empty.nii").write_bytes(b"")
    (folder / "lost.nii.gz").symlink_to(folder / ".git" / "annex" / "lost.nii.gz")
    return {
        "nan": "1 of 63360 values (0.0016 %) are NaN or Inf",
        "volume": "3D (20x22x18) where a 4D series is needed",
        "zeros": "every value is 0",
        "cut": "of 8 frames were readable",
        "flipped": "flipped.nii.gz",
        "text": "is a plain text",
        "empty": "is empty",
        "lost": "datalad get",
    }


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_files_are_named_and_the_rest_done(tmp_path: Path, jobs: int) -> None:
    wanted = bad_inputs(tmp_path / "in")
    result = preprocess("nifti", tmp_path / "in", out=tmp_path / "out", jobs=jobs)
    assert (result.done, result.failed) == (2, len(wanted))
    check_whole(tmp_path / "out", result)
    reasons = dict(result.failures)
    assert set(reasons) == set(wanted)
    for name, text in wanted.items():
        assert text in reasons[name], reasons[name]
        assert "\n" not in reasons[name]
        assert records(tmp_path / "out")[name]["error"] == reasons[name]
        assert not (tmp_path / "out" / name).exists()
    assert str(tmp_path) not in json.dumps(list(reasons.values()))


def test_the_same_bytes_for_any_number_of_jobs(tmp_path: Path) -> None:
    bad_inputs(tmp_path / "in")
    for jobs in (1, 2):
        preprocess("nifti", tmp_path / "in", out=tmp_path / f"out{jobs}", jobs=jobs)
    assert tree(tmp_path / "out1") == tree(tmp_path / "out2")


def test_a_repaired_file_is_done_by_the_same_command(tmp_path: Path) -> None:
    bad_inputs(tmp_path / "in")
    preprocess("nifti", tmp_path / "in", out=tmp_path / "out")
    write_nifti(tmp_path / "in" / "cut.nii.gz", bold(seed=5))
    result = preprocess("nifti", tmp_path / "in", out=tmp_path / "out")
    assert (result.done, result.skipped) == (1, 2)
    check_whole(tmp_path / "out", result)


def test_a_changed_mask_makes_everything_stale(tmp_path: Path) -> None:
    source = write_nifti(tmp_path / "a.nii.gz", bold())
    mask = write_nifti(tmp_path / "m.nii.gz", ball().astype(np.uint8))
    options = {"mask": str(mask)}
    assert preprocess("nifti", source, out=tmp_path / "out", options=options).done == 1
    assert preprocess("nifti", source, out=tmp_path / "out", options=options).skipped == 1
    write_nifti(mask, ball(radius=0.2).astype(np.uint8))
    assert preprocess("nifti", source, out=tmp_path / "out", options=options).done == 1


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "volume.nii.gz", bold()[..., 0])
    with pytest.raises(NeuroError, match=r"the only input failed: volume\.nii\.gz: 3D"):
        preprocess("nifti", path, out=tmp_path / "out")
    assert records(tmp_path / "out")["volume"]["status"] == "failed"


def test_two_files_of_one_name_are_refused_before_work(tmp_path: Path) -> None:
    paths = [write_nifti(tmp_path / name / "run.nii.gz", bold()) for name in ("a", "b")]
    with pytest.raises(UsageError, match="2 inputs have the id 'run'"):
        preprocess("nifti", *paths, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_are_checked_before_work(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", bold())
    with pytest.raises(ConfigError):
        preprocess("nifti", path, out=tmp_path / "out", options={"spase": "native"})
    assert not (tmp_path / "out").exists()


def test_strange_names_become_safe_files(tmp_path: Path) -> None:
    source = write_nifti(tmp_path / "in" / "plain.nii.gz", bold((6, 7, 8), 3))
    strange = [b"\xff\xfe", b"new\nline", b"-dash", b"%s $x_{", "\u4e2d".encode(), b"[red]", b"a b"]
    for name in strange:
        shutil.copy(source, os.fsencode(tmp_path / "in") + b"/" + name + b".nii.gz")
    result = preprocess("nifti", tmp_path / "in", out=tmp_path / "out")
    assert (result.done, result.failed) == (8, 0)
    assert [subject for subject, _, _ in find_stores(tmp_path / "out")] == sorted(
        ["plain", *(os.fsdecode(name) for name in strange)]
    )
    for path in (tmp_path / "out").iterdir():
        assert set(path.name) <= set("%-._") | set(map(chr, range(48, 123))), path.name


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", bold())
    result = preprocess("nifti", path, out=tmp_path / "out", dry_run=True)
    assert result.plan is not None
    assert result.plan["items"] == ["a"]
    assert result.plan["source_bytes"] == path.stat().st_size
    assert not (tmp_path / "out").exists()


def test_the_built_in_cohort(tmp_path: Path) -> None:
    options = {"n_subjects": 6, "n_frames": 8, "seed": 4}
    result = preprocess("dummy", out=tmp_path / "out", options=options)
    assert result.done == 6
    check_whole(tmp_path / "out", result)
    found = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert found["built_in_data"] is True
    assert (tmp_path / "out" / "participants.tsv").read_text().count("\n") == 7


def test_the_second_of_two_processes_stops(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", bold())
    with folder_lock(tmp_path / "out"), pytest.raises(UsageError, match="another process"):
        preprocess("nifti", path, out=tmp_path / "out")
    assert preprocess("nifti", path, out=tmp_path / "out").done == 1
