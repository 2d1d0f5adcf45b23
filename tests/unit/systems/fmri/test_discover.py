"""Plain files and frame folders: what becomes an item and how it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_files import ball, bold, options, write_nifti

from neurocli.core.data.frames import write_frames
from neurocli.core.data.items import Found
from neurocli.core.errors import InputError, UsageError
from neurocli.systems.fmri.discover import find_frames, find_nifti
from neurocli.systems.fmri.dummy import find_dummy

SMALL = bold((6, 6, 6), 2)


def find(*sources: Path, **chosen: Any) -> Found:
    return find_nifti(list(sources), options(**chosen))


def names(found: Found) -> list[str]:
    return [item.subject for item in found.items]


def test_files_are_named_after_themselves(tmp_path: Path) -> None:
    one = write_nifti(tmp_path / "run.1.nii.gz", SMALL)
    two = write_nifti(tmp_path / "sub-7_task-x_bold.nii", SMALL)
    found = find(one, two)
    assert names(found) == ["run.1", "sub-7_task-x_bold"]
    assert [item.participant for item in found.items] == ["run.1", "sub-7"]
    assert found.items[0].sources == (one,)


def test_folders_are_searched_one_level_down(tmp_path: Path) -> None:
    for name in ("b.nii", "a.nii.gz", "p1/c.nii.gz", "p1/deep/d.nii", ".hidden/e.nii", "._f.nii"):
        write_nifti(tmp_path / name, SMALL)
    (tmp_path / "notes.txt").write_text("x")
    assert names(find(tmp_path)) == ["a", "b", "c"]


def test_equal_names_below_get_their_folder(tmp_path: Path) -> None:
    for name in ("p1/rest.nii", "p2/rest.nii", "p2/task.nii"):
        write_nifti(tmp_path / name, SMALL)
    assert names(find(tmp_path)) == ["p1_rest", "p2_rest", "task"]


@pytest.mark.parametrize("name", ["brain_mask.nii", "T1w.nii", "masks/vt.nii", "x_atlas.nii"])
def test_volumes_that_say_so_are_left_out(tmp_path: Path, name: str) -> None:
    write_nifti(tmp_path / "run.nii", SMALL)
    write_nifti(tmp_path / name, ball((6, 6, 6)).astype(np.uint8))
    found = find(tmp_path)
    assert names(found) == ["run"]
    assert found.notes == [f"1 single volumes were left out by their names: {name}"]


def test_other_volumes_and_named_series_are_items(tmp_path: Path) -> None:
    write_nifti(tmp_path / "thing.nii", SMALL[..., 0])
    write_nifti(tmp_path / "mask_task.nii", SMALL)
    (tmp_path / "mask_broken.nii").write_bytes(b"x")
    (tmp_path / "gone.nii").symlink_to(tmp_path / "annex" / "gone.nii")
    assert names(find(tmp_path)) == ["gone", "mask_broken", "mask_task", "thing"]


def test_a_folder_with_volumes_only_is_refused(tmp_path: Path) -> None:
    write_nifti(tmp_path / "T1w.nii", SMALL[..., 0])
    with pytest.raises(InputError, match=r"holds no series, only 1 volumes such as T1w\.nii"):
        find(tmp_path)


def test_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no .nii or .nii.gz, nor does a folder in it"):
        find(tmp_path)
    (tmp_path / "dataset_description.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        find(tmp_path)
    assert "neuro preprocess bids" in str(caught.value.hint)


def test_one_missing_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", SMALL)
    found = find(path, tmp_path / "b.nii")
    assert names(found) == ["a"]
    assert found.failures == [("b", "b.nii: does not exist; check the name and the folder")]
    with pytest.raises(InputError, match=r"b\.nii: does not exist"):
        find(tmp_path / "b.nii")


def test_the_mask_counts_as_a_source(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", SMALL)
    mask = write_nifti(tmp_path / "m.nii", ball((6, 6, 6)).astype(np.uint8))
    assert find(path, mask=str(mask)).items[0].sources == (path, mask)
    with pytest.raises(InputError, match=r"nothere\.nii: there is no such mask"):
        find(path, mask="nothere.nii")
    with pytest.raises(UsageError, match="--mask"):
        find(path, mask="atuo")


def test_frame_folders(tmp_path: Path) -> None:
    for name in ("img/100", "img/ABIDE1/sub-5_run-1"):
        (tmp_path / name).mkdir(parents=True)
        write_frames(tmp_path / name, np.moveaxis(SMALL, 3, 0))
    (tmp_path / "img" / "100" / "global_stats.pt").write_bytes(b"x")
    found = find_frames([tmp_path], options())
    assert names(found) == ["100", "sub-5_run-1"]
    assert [item.participant for item in found.items] == ["100", "sub-5"]
    assert [path.name for path in found.items[0].sources] == [
        "frame_0.pt",
        "frame_1.pt",
        "global_stats.pt",
    ]
    (tmp_path / "img" / "100" / "frame_3.pt").write_bytes(b"x")
    failed = find_frames([tmp_path], options())
    assert failed.failures == [
        ("100", "100: lacks frame_2.pt while it holds frame_3.pt; "
                "write the frames again from their source")
    ]  # fmt: skip


def test_sources_without_frames(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no folder with frame_0.pt"):
        find_frames([tmp_path], options())
    with pytest.raises(InputError, match="does not exist"):
        find_frames([tmp_path / "no"], options())
    path = write_nifti(tmp_path / "a.nii", SMALL)
    with pytest.raises(InputError, match="is a file, a folder is needed"):
        find_frames([path], options())


def test_the_built_in_cohort_needs_no_source(tmp_path: Path) -> None:
    found = find_dummy([], options(n_subjects=5, seed=3))
    assert names(found) == ["sub-0001", "sub-0002", "sub-0003", "sub-0004", "sub-0005"]
    assert found.built_in_data
    assert found.participants is not None
    assert set(found.participants) == set(names(found))
    assert "synthetic data: 5 made-up subjects" in found.notes[0]
    with pytest.raises(UsageError, match="reads no source"):
        find_dummy([tmp_path], options())
