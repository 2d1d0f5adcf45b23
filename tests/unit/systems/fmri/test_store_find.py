"""Stores are found by a manifest or by scanning, and named after their people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_files import DENSE, write

from neurocli.core.data.frames import write_frames
from neurocli.core.errors import InputError
from neurocli.systems.fmri.store import find_stores, open_store, participant_of


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
