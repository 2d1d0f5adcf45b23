"""Folders of the cache: made once, whole or absent, and nothing of a killed process stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neurocli.core.data.cached import made_once
from neurocli.core.errors import NeuroError
from neurocli.core.events import Note, ignore
from neurocli.core.paths import folder_lock


def fill(folder: Path) -> None:
    (folder / "x").write_text("1")


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    told: list[Any] = []
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        fill(folder)

    target = tmp_path / "cohort"
    for _ in range(2):
        assert made_once(target, make, what="it", listener=told.append) == target
    assert len(calls) == 1
    assert [type(event) for event in told] == [Note]
    assert [path.name for path in target.iterdir()] == ["x"]  # no lock travels with it
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]  # no draft stays


def test_what_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(NeuroError, match="cannot keep it: No space left") as caught:
        made_once(tmp_path / "cohort", make, what="it", listener=ignore)
    assert "NEURO_CACHE" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    dead, living = tmp_path / "cohort.part-999999", tmp_path / "cohort.part-1"
    for draft in (dead, living):
        draft.mkdir()
        fill(draft)
    with folder_lock(living):
        made_once(tmp_path / "cohort", fill, what="it", listener=ignore)
        assert not dead.exists()
        assert (living / "x").exists()


def test_who_comes_second_takes_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "cohort"

    def make(folder: Path) -> None:
        fill(folder)
        target.mkdir()  # another process was faster
        (target / "theirs").write_text("2")

    made_once(target, make, what="it", listener=ignore)
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]
    assert [path.name for path in target.iterdir()] == ["theirs"]
