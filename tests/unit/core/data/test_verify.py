"""Comparing a folder with its manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
from runner_work import FLAT, FORMAT_VERSION, run, write_items

from neurocli.core.data.items import Item
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.verify import verify_folder
from neurocli.core.data.workers import ALL_FURTHER, Task, further_digests
from neurocli.core.errors import InputError
from neurocli.core.events import ItemDone
from neurocli.core.paths import file_sha256

TEXTS = {"b": "hello world", "a": "good morning", "c": "hi", "d": "refuse", "e": "ho"}


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return write_items(tmp_path / "in", TEXTS)


@pytest.fixture
def out(tmp_path: Path, items: list[Item]) -> Path:
    """Return a flat folder of four done items and one that was refused."""
    run(items, tmp_path / "out", spec=FLAT)
    return tmp_path / "out"


def tasks_of(items: list[Item], out: Path) -> list[Task]:
    """Return what would be done now."""
    return [
        Task(item, "runner_work:copy", out, {"flat": True}, FORMAT_VERSION, None) for item in items
    ]


REFUSED = ("d", "failed: d.in: is refused; write another text")


def test_a_sound_folder(items: list[Item], out: Path) -> None:
    events: list[object] = []
    result = verify_folder(out, tasks=tasks_of(items, out), listener=events.append)
    assert (result.checked, result.sound, result.problems) == (5, 4, [REFUSED])
    assert [event.name for event in events if isinstance(event, ItemDone)] == list("abcde")


def test_files_beside_the_main_one_are_hashed_too(out: Path) -> None:
    (out / "a.txt.size").write_text("13")  # of the same length as before
    assert verify_folder(out).problems == [
        ("a", "changed: a.txt.size has another content"),
        REFUSED,
    ]
    (out / "a.txt").write_text("GOOD MORNINg")
    assert ("a", "changed: a.txt, a.txt.size have another content") in verify_folder(out).problems


def test_many_files_share_a_digest(tmp_path: Path, out: Path) -> None:
    names = ["bold.h5", *(f"frame_{i}.pt" for i in range(40))]
    for name in names:
        (out / name).write_text(name)
    digests = further_digests(out, names)
    assert list(digests) == [ALL_FURTHER]
    manifest = Manifest(out / "manifest.jsonl")
    record = {
        **manifest.records()["a"],
        "files": names,
        "sha256": file_sha256(out / "bold.h5"),
        "further_sha256": digests,
    }
    manifest.rewrite({**manifest.records(), "a": record})
    unlisted = [row for row in verify_folder(out).problems if row[0] == "a"]
    assert not unlisted
    (out / "frame_7.pt").write_text("frame_8.pt")
    told = dict(verify_folder(out).problems)["a"]
    assert told == "changed: one of frame_0.pt ... frame_39.pt has another content"
    # A manifest of an older version says nothing of further files.
    manifest.rewrite({**manifest.records(), "a": {**record, "further_sha256": None}})
    assert "a" not in dict(verify_folder(out).problems)


def test_every_planted_fault_is_found_and_no_other(items: list[Item], out: Path) -> None:
    (out / "a.txt").write_text("GOOD MORNINg")
    (out / "b.txt").unlink()
    (out / "c.txt.size").unlink()
    (out / "e.txt").write_bytes((out / "e.txt").read_bytes()[:-1])
    (out / "x.h5").write_text("who am I")
    assert verify_folder(out).problems == [
        ("a", "changed: a.txt has another content"),
        ("b", "missing: b.txt"),
        ("c", "missing: c.txt.size"),
        REFUSED,
        ("e", "changed: e.txt has another content"),
        ("x.h5", "unlisted: the manifest does not know it"),
    ]


def test_swapped_files_are_found(out: Path) -> None:
    first, second = (out / "a.txt").read_bytes(), (out / "c.txt").read_bytes()
    (out / "a.txt").write_bytes(second)
    (out / "c.txt").write_bytes(first)
    assert [name for name, _ in verify_folder(out).problems] == ["a", "c", "d"]


def test_sources_that_changed_since(tmp_path: Path, items: list[Item], out: Path) -> None:
    (tmp_path / "in" / "a.in").write_text("good evening")
    (tmp_path / "in" / "b.in").unlink()
    now = [item for item in items if item.subject != "c"]
    now += write_items(tmp_path / "in", {"new": "text"})
    found = dict(verify_folder(out, tasks=tasks_of(now, out)).problems)
    assert found == {
        "a": "stale: its source, the options or the format changed",
        "b": "stale: b.in: does not exist; check the name and the current folder",
        "c": "stale: its source is gone",
        "d": REFUSED[1],
        "new": "missing: it was never processed",
    }


def test_a_run_that_did_not_end_is_mentioned(out: Path) -> None:
    path = out / "dataset.json"
    path.write_text(path.read_text().replace('"complete": true', '"complete": false'))
    assert "did not come to its end" in verify_folder(out).notes[0]


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no manifest\.jsonl") as caught:
        verify_folder(tmp_path)
    assert "--check" in (caught.value.hint or "")
