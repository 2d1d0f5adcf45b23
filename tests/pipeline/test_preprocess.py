"""Raw files to a standard folder, as a whole: real data, bad data, kills."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from run_files import ball, bold, cut_gzip, flip_voxel, write_nifti

from neurocli import preprocess
from neurocli.core.data.items import PrepareResult
from neurocli.core.errors import ConfigError, NeuroError, UsageError
from neurocli.core.paths import folder_lock
from neurocli.systems.fmri.store import find_stores, open_store


def tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file; seconds in a manifest do not count."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name == "manifest.jsonl":
            lines = [json.loads(line) for line in data.splitlines()]
            data = json.dumps([{**line, "seconds": 0} for line in lines]).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


def records(out: Path) -> dict[str, dict[str, Any]]:
    lines = (out / "manifest.jsonl").read_text().splitlines()
    return {record["subject"]: record for record in map(json.loads, lines)}


def check_whole(out: Path, result: PrepareResult) -> None:
    """Check that everything listed is there, hashes as listed, and opens."""
    for record in records(out).values():
        if record["status"] == "done":
            content = (out / record["files"][0]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == record["sha256"]
            with open_store(out / record["files"][0]) as store:
                assert list(store.shape) == record["shape"]
                assert np.isfinite(store.read_packed(slice(None))).all()
                assert store.stats.as_dict().items() <= record["stats"].items()
    assert not list(out.rglob("*.part-*"))
    assert result.done + result.skipped == sum(r["status"] == "done" for r in records(out).values())


# --- real data --------------------------------------------------------------------------------

CASES: dict[str, tuple[str, list[str], dict[str, Any], dict[str, Any]]] = {
    # name: (kind, sources, options, what must come out of the first item)
    "ds005": ("bids", ["ds005"], {}, {"n": 1, "shape": [50, 50, 34, 16], "tr_s": 2.0}),
    "haxby_25mm": ("nifti", ["haxby_25mm"], {}, {"n": 12, "shape": [6, 10, 10, 121], "tr_s": 2.5}),
    "haxby_1slice": (
        "nifti", ["haxby_1slice"], {}, {"n": 13, "shape": [40, 20, 1, 1452], "tr_s": 2.5},
    ),
    "rtcloud": (
        "nifti", ["rtcloud_faceMatching_11vol.nii.gz"], {},
        {"n": 1, "shape": [64, 64, 27, 11], "tr_s": 1.5},
    ),
    "pcasl": ("nifti", ["pcasl.nii.gz"], {}, {"n": 1, "shape": [52, 68, 20, 10], "tr_s": 2.54}),
    "pyneal": ("nifti", ["pyneal"], {}, {"n": 1, "shape": [64, 64, 30, 3], "tr_s": 1.0}),
    "nitime": ("nifti", ["nitime"], {}, {"n": 2, "shape": [10, 10, 18, 40], "tr_s": 1.35}),
}  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize("case", CASES)
def test_real_runs_are_prepared(real: Path, tmp_path: Path, case: str) -> None:
    kind, sources, options, wanted = CASES[case]
    paths = [real / "fmri" / source for source in sources]
    result = preprocess(kind, *paths, out=tmp_path / "out", options=options)
    assert (result.done, result.failed) == (wanted["n"], 0)
    check_whole(tmp_path / "out", result)
    first = next(iter(records(tmp_path / "out").values()))
    assert first["shape"] == wanted["shape"]
    assert first["tr_s"] == pytest.approx(wanted["tr_s"])
    share = first["stats"]["qc"]["mask_share"]
    assert 0.1 < share < 1


@pytest.mark.real
def test_real_values_come_through_unchanged(real: Path, tmp_path: Path) -> None:
    source = real / "fmri" / "rtcloud_faceMatching_11vol.nii.gz"
    preprocess("nifti", source, out=tmp_path / "out")
    image = nib.load(source)
    with open_store(find_stores(tmp_path / "out")[0][2]) as store:
        values = image.get_fdata(dtype=np.float32)[store.mask].T
        np.testing.assert_array_equal(store.read_packed(slice(None)), values)
        np.testing.assert_allclose(store.affine, image.affine, atol=1e-5)
        assert store.info.orientation == "".join(nib.aff2axcodes(image.affine))


@pytest.mark.real
@pytest.mark.parametrize(
    ("source", "mask", "there", "here"),
    [
        ("pyneal/testSeries.nii.gz", "pyneal/testSeries_mask.nii.gz", "3.75x3.75x4 mm", "1x1x1 mm"),
        (
            "ds005/sub-01/func/sub-01_task-mixedgamblestask_run-01_bold.nii.gz",
            "ds005/derivatives/fmriprep/sub-01/func/"
            "sub-01_task-mixedgamblestask_run-01_bold_space-MNI152NLin2009cAsym_brainmask.nii.gz",
            "49x58x49",
            "50x50x34",
        ),
    ],
)
def test_real_masks_on_other_grids_are_refused(
    real: Path, tmp_path: Path, source: str, mask: str, there: str, here: str
) -> None:
    paths = real / "fmri" / source, real / "fmri" / mask
    with pytest.raises(NeuroError) as caught:
        preprocess("nifti", paths[0], out=tmp_path / "out", options={"mask": str(paths[1])})
    text = str(caught.value)
    assert "mask is on" in text
    assert there in text
    assert here in text
    assert "--mask auto" in text


@pytest.mark.real
def test_real_masks_on_the_same_grid_are_used(real: Path, tmp_path: Path) -> None:
    folder = real / "fmri" / "haxby_25mm"
    mask = folder / "masks" / "brain.nii.gz"
    source = folder / "run001_bold_25mm.nii.gz"
    result = preprocess("nifti", source, out=tmp_path / "out", options={"mask": str(mask)})
    assert result.done == 1
    with open_store(find_stores(tmp_path / "out")[0][2]) as store:
        np.testing.assert_array_equal(store.mask, nib.load(mask).get_fdata() > 0)


@pytest.mark.real
def test_real_single_volumes_are_refused(real: Path, tmp_path: Path) -> None:
    source = real / "fmri" / "ds005" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    with pytest.raises(NeuroError, match=r"3D .40x64x64. where a 4D series is needed"):
        preprocess("nifti", source, out=tmp_path / "out")


@pytest.mark.real
def test_real_runs_reach_mni_space(real: Path, tmp_path: Path) -> None:
    source = real / "fmri" / "rtcloud_faceMatching_11vol.nii.gz"
    result = preprocess("nifti", source, out=tmp_path / "out", options={"space": "mni2mm"})
    record = next(iter(records(tmp_path / "out").values()))
    assert record["shape"] == [91, 109, 91, 11]
    assert "no registration was done" in result.notes[0]


# --- bad input --------------------------------------------------------------------------------


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


# --- kills ------------------------------------------------------------------------------------

_CALLS = ("fsync", "replace", "rename", "mkdir", "write", "unlink", "rmdir")


def killed_at(step: int, work: Callable[[], object], lock: Path) -> bool:
    """Do some work in a child that is killed before its n-th call that changes the disk.

    Calls count from the moment on when the folder is locked; the lock has tests of its own.

    Returns:
        Whether the work came to its end before that.
    """
    child = os.fork()
    if child == 0:
        count = 0

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += count > 0 or (lock.exists() and lock.stat().st_size > 0)
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return call

        for name in _CALLS:
            setattr(os, name, counted(getattr(os, name)))
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


def test_killed_anywhere_the_same_command_ends_the_same(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for index in range(2):
        write_nifti(source / f"run{index}.nii.gz", bold((8, 9, 10), 3, seed=index))
    (source / "bad.nii").write_bytes(b"x")

    def work(out: Path) -> PrepareResult:
        return preprocess("nifti", source, out=out)

    result = work(tmp_path / "whole")
    wanted = tree(tmp_path / "whole")
    check_whole(tmp_path / "whole", result)
    out = tmp_path / "out"
    for step in range(1, 200):
        shutil.rmtree(out, ignore_errors=True)
        ended = killed_at(step, lambda: work(out), out / ".lock")
        # Whatever stands under a final name is whole.
        for path in out.glob("run?/bold.h5"):
            with open_store(path) as store:
                store.read_packed(slice(None))
            assert (
                hashlib.sha256(path.read_bytes()).hexdigest()
                == wanted[f"{path.parent.name}/bold.h5"]
            )
        work(out)
        assert tree(out) == wanted, f"killed before call {step}"
        if ended:
            break
    assert 20 < step < 199


def test_killed_while_replacing_stale_items(tmp_path: Path) -> None:
    source = tmp_path / "in"
    before, after = (bold((8, 9, 10), 3, seed=seed) for seed in (1, 2))

    def work(out: Path) -> PrepareResult:
        return preprocess("nifti", source, out=out)

    write_nifti(source / "run.nii.gz", before)
    work(tmp_path / "old")
    write_nifti(source / "run.nii.gz", after)
    work(tmp_path / "new")
    wanted = tree(tmp_path / "new")
    out = tmp_path / "out"
    for step in range(1, 100):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tmp_path / "old", out)
        ended = killed_at(step, lambda: work(out), out / ".lock")
        work(out)
        assert tree(out) == wanted, f"killed before call {step}"
        if ended:
            break
    assert 10 < step < 99


def test_killed_at_random_with_workers(tmp_path: Path, root: Path) -> None:
    source = tmp_path / "in"
    for index in range(6):
        write_nifti(source / f"run{index}.nii.gz", bold(seed=index))
    whole, out = tmp_path / "whole", tmp_path / "out"
    command = (
        "import neurocli,sys; neurocli.preprocess('nifti', sys.argv[1], out=sys.argv[2], jobs=2)"
    )
    for n_lines in (1, 2, 4):
        process = subprocess.Popen(
            [sys.executable, "-c", command, str(source), str(out)],
            cwd=root,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        manifest = out / "manifest.jsonl"
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if manifest.exists() and manifest.read_bytes().count(b"\n") >= n_lines:
                break
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    preprocess("nifti", source, out=whole)
    preprocess("nifti", source, out=out)
    assert tree(out) == tree(whole)
