"""Looking into stored runs, and what is moved, deleted or rewritten."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cohort_files import SHAPE, values_of, write_cohort
from run_files import write_foreign

from neurocli.core.data.frames import write_frames, write_stats
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.statistics import global_stats
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.systems.fmri.check import QUARANTINE_FILE, check_runs
from neurocli.systems.fmri.convert import convert_hdf5
from neurocli.systems.fmri.repack import repack_runs
from neurocli.systems.fmri.store import open_store

STATISTICS = {"valid_voxels": 10, "global_mean": 1.0, "global_std": 1.0, "global_max": 9.0}


def dense_of(index: int, n_frames: int = 6) -> np.ndarray:
    """Return whole numbers (X, Y, Z, T) of one person, 0 outside."""
    values, mask = values_of(index, n_frames)
    dense = np.zeros((*SHAPE, n_frames), np.float32)
    dense[mask] = np.rint(values.T)
    return dense


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return sound runs of every kind in one folder."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    write_cohort(folder, 1)
    write_foreign(folder / "gz.h5", dense_of(1), STATISTICS, compression="gzip")
    write_foreign(folder / "flat.h5", dense_of(2), STATISTICS)
    write_foreign(folder / "by5.h5", dense_of(3), STATISTICS, chunks=(*SHAPE, 5))
    frames = np.moveaxis(dense_of(4), 3, 0)
    for name in ("v1", "v2"):
        (folder / name).mkdir()
        write_frames(folder / name, frames)
    write_stats(folder / "v2", global_stats(lambda: [frames.reshape(len(frames), -1)]))
    convert_hdf5(folder / "gz.h5", tmp_path / "own", patch=(2, 2, 2))
    shutil.copy(tmp_path / "own" / "gz.h5", folder / "own.h5")
    return folder


def test_sound_runs_of_every_kind(mixed: Path) -> None:
    result = check_runs(mixed)
    assert (result.checked, result.sound, result.problems) == (7, 7, [])


def edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return apply


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def with_nan(path: Path) -> None:
    dense = dense_of(1)
    dense[2, 1, 1, 3] = np.nan
    path.unlink()
    write_foreign(path, dense, STATISTICS)


def drop(name: str) -> Callable[[Path], None]:
    return edit(lambda file: file.attrs.__delitem__(name))


BROKEN = [
    ("gz.h5", cut, "truncated"),
    ("gz.h5", with_nan, "1 values are NaN or Inf, the first in frame 3"),
    ("gz.h5", drop("global_std"), "lacks the attribute global_std"),
    ("gz.h5", edit(lambda file: file.attrs.update({"n_frames": 7})), "holds 6 frames and claims 7"),
    ("s00.h5", edit(lambda file: file.attrs.update({"n_frames": 11})), "12 frames and claims 11"),
    ("s00.h5", drop("scaling"), "lacks the attribute scaling"),
    ("s00.h5", drop("complete"), "is half written"),
    ("v1/frame_3.pt", cut, "is no sound tensor file"),
    ("v2/frame_2.pt", Path.unlink, "lacks frame_2.pt while it holds frame_5.pt"),
]


@pytest.mark.parametrize(("name", "harm", "reason"), BROKEN)
def test_broken_runs_are_named(
    mixed: Path, name: str, harm: Callable[[Path], None], reason: str
) -> None:
    harm(mixed / name)
    before = {path: path.stat().st_size for path in mixed.rglob("*") if path.is_file()}
    result = check_runs(mixed)
    ((run, problem),) = result.problems
    assert run == name.partition("/")[0].removesuffix(".h5")
    assert reason in problem
    # Neither moving nor deleting is the default.
    assert result.moved == []
    assert before == {path: path.stat().st_size for path in mixed.rglob("*") if path.is_file()}


def test_an_expected_shape(mixed: Path) -> None:
    wanted = dict(check_runs(mixed, expect=(*SHAPE, 6)).problems)
    assert wanted == {"s00": "is 5x4x3x12, 5x4x3x6 is expected (0 is any)"}
    assert check_runs(mixed, expect=(*SHAPE, 0)).problems == []
    for bad in ((5, 4, 3), (5, 4, 3, -1)):
        with pytest.raises(UsageError, match="is no shape"):
            check_runs(mixed, expect=bad)


def test_another_shape_than_the_manifest_says(tmp_path: Path) -> None:
    src = write_cohort(tmp_path, 2)
    convert_hdf5(src, tmp_path / "out")
    shutil.copy(src / "s01.h5", tmp_path / "out" / "s01.h5")
    assert check_runs(tmp_path / "out").problems == []
    write_cohort(tmp_path / "out", 1, n_frames=9)
    ((name, problem),) = check_runs(tmp_path / "out").problems
    assert (name, problem) == ("s00", "is 5x4x3x9, 5x4x3x12 is expected (0 is any)")


def test_a_grid_unlike_the_others_is_only_mentioned(mixed: Path) -> None:
    write_foreign(mixed / "small.h5", dense_of(5)[:4], STATISTICS)
    result = check_runs(mixed, delete=True)
    assert result.problems == []
    assert result.notes[0].startswith("1 runs have another grid than 5x4x3, which most have (small")


def test_statistics_that_most_others_carry(mixed: Path) -> None:
    write_foreign(mixed / "bare.h5", dense_of(5))
    ((name, problem),) = check_runs(mixed).problems
    assert name == "bare"
    assert "which most files here carry" in problem
    assert check_runs(mixed / "bare.h5").problems == []  # alone there is nothing to miss


def test_quarantine_moves_with_reasons(mixed: Path, tmp_path: Path) -> None:
    for name in ("gz.h5", "v1/frame_3.pt"):
        cut(mixed / name)
    result = check_runs(mixed, quarantine=tmp_path / "q")
    assert sorted(result.moved) == ["gz.h5", "v1"]
    assert not (mixed / "gz.h5").exists()
    assert len(list((tmp_path / "q" / "v1").iterdir())) == 6
    reasons = Manifest(tmp_path / "q" / QUARANTINE_FILE).records()
    assert "truncated" in reasons["gz.h5"]["reason"]
    assert check_runs(mixed).problems == []
    write_foreign(mixed / "gz.h5", dense_of(1))
    cut(mixed / "gz.h5")
    with pytest.raises(NeuroError, match="an earlier file is in quarantine"):
        check_runs(mixed, quarantine=tmp_path / "q")
    with pytest.raises(UsageError, match="lies inside the folder itself"):
        check_runs(mixed, quarantine=mixed / "q")


def test_deleting_takes_the_run_and_nothing_else(mixed: Path) -> None:
    for name in ("gz.h5", "v1/frame_3.pt"):
        cut(mixed / name)
    (mixed / "v1" / "notes.txt").write_text("mine")
    result = check_runs(mixed, delete=True)
    assert sorted(result.moved) == ["gz.h5", "v1"]
    assert [path.name for path in (mixed / "v1").iterdir()] == ["notes.txt"]
    assert not (mixed / "gz.h5").exists()
    assert (mixed / "flat.h5").exists()
    with pytest.raises(UsageError, match="exclude each other"):
        check_runs(mixed, delete=True, quarantine=mixed.parent / "q")


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", None])
def test_what_was_never_fetched_is_not_deleted(mixed: Path, content: bytes | None) -> None:
    path = mixed / "far.h5"
    if content is None:
        path.symlink_to(mixed / "nowhere.h5")
        convert_hdf5(mixed, mixed.parent / "all")
        (mixed.parent / "all" / "gz.h5").unlink()
        mixed, path = mixed.parent / "all", mixed.parent / "all" / "gz.h5"
    else:
        path.write_bytes(content)
    result = check_runs(mixed, delete=True)
    assert [name for name, _ in result.problems] == [path.stem]
    assert result.moved == []
    assert path.exists() == (content is not None)


def test_short_memory_is_no_reason_to_delete(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("neurocli.systems.fmri.check._read_all", fail)
    result = check_runs(mixed, delete=True)
    assert (len(result.problems), result.moved) == (7, [])


def test_several_processes_find_the_same(mixed: Path) -> None:
    cut(mixed / "gz.h5")
    alone, team = check_runs(mixed), check_runs(mixed, jobs=2)
    assert alone == team
    assert [name for name, _ in team.problems] == ["gz"]


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no stored run"):
        check_runs(tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "int16", "float32"])
def test_repack_rewrites_older_files_where_they_lie(mixed: Path, dtype: str) -> None:
    before = {path.name: path.read_bytes() for path in mixed.glob("*.h5")}
    wanted = {}
    for name in ("gz", "flat", "by5"):
        with open_store(mixed / f"{name}.h5") as store:
            wanted[name] = store.mask, store.read_packed(slice(None)), store.stats
    result = repack_runs(mixed, layout="packed", dtype=dtype)
    assert (sorted(result.moved), result.problems) == (["by5.h5", "flat.h5", "gz.h5"], [])
    for name, (mask, values, stats) in wanted.items():
        with open_store(mixed / f"{name}.h5") as store:
            np.testing.assert_array_equal(store.mask, mask)
            # Whole numbers below 2048 are exact in all three.
            np.testing.assert_array_equal(store.read_packed(slice(None)), values)
            assert store.stats == stats
    for name in ("s00.h5", "own.h5"):
        assert (mixed / name).read_bytes() == before[name]
    again = repack_runs(mixed, layout="packed", dtype=dtype)
    assert (again.moved, again.checked) == ([], 5)


def test_repack_keeps_what_it_cannot_rewrite(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(mixed / "gz.h5")
    damaged, sound = (mixed / "gz.h5").read_bytes(), (mixed / "flat.h5").read_bytes()

    def wrong(*_: object) -> None:
        raise InputError(mixed / "flat.h5", "its new form reads back differently")

    monkeypatch.setattr("neurocli.systems.fmri.repack._compare", wrong)
    result = repack_runs(mixed)
    assert result.moved == []
    assert [name for name, _ in result.problems] == ["by5", "flat", "gz"]
    assert (mixed / "gz.h5").read_bytes() == damaged
    assert (mixed / "flat.h5").read_bytes() == sound
    assert not list(mixed.glob("*.part-*"))


def test_a_new_form_that_differs_is_noticed(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neurocli.systems.fmri import repack

    def spoil(store: Any, item: Any, target: Path, form: Any) -> None:
        write_foreign(target, dense_of(9))

    monkeypatch.setattr(repack, "write_run", spoil)
    problems = dict(repack_runs(mixed).problems)
    assert "reads back differently" in problems["flat"]


def test_repack_leaves_folders_of_this_program_alone(mixed: Path, tmp_path: Path) -> None:
    convert_hdf5(mixed, tmp_path / "out")
    with pytest.raises(UsageError, match="this program's own"):
        repack_runs(tmp_path / "out")
    with pytest.raises(UsageError, match="unknown layout"):
        repack_runs(mixed, layout="cube")
