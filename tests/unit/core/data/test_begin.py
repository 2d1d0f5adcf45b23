"""Work begun in a thread, and sources that are hashed while an item is made."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neurocli.core.data.ahead import begin
from neurocli.core.data.items import Item
from neurocli.core.data.workers import Task, perform, task_fingerprint
from neurocli.core.errors import InputError

FORMAT_VERSION = "1"


def told(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write what the item says of its source."""
    assert item.digests is not None
    (folder / "x").write_text(item.digests()[0])
    return {"files": ["x"]}


def heedless(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Write a file and ask for nothing."""
    (folder / "x").write_text("x")
    return {"files": ["x"]}


def test_work_goes_on_beside_the_caller_and_its_result_stays() -> None:
    gate = threading.Event()
    result = begin(lambda: gate.wait(10))
    gate.set()  # a call that worked at once would have waited in vain
    assert result() is True
    assert result() is True


def test_what_the_work_raises_is_raised_at_every_look() -> None:
    def work() -> None:
        raise InputError(Path("x"), "is bad", "mend it")

    result = begin(work)
    for _ in range(2):
        with pytest.raises(InputError, match="is bad"):
            result()


@pytest.mark.parametrize("is_alone", [True, False])
def test_an_item_alone_gets_the_same_digest_and_fingerprint(tmp_path: Path, is_alone: bool) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    item = Item("s", "s", (source,), is_alone=is_alone)
    task = Task(item, f"{__name__}:told", tmp_path / "out", {}, FORMAT_VERSION, None)
    outcome = perform(task)
    assert outcome.part is not None
    assert (outcome.part / "x").read_text() == hashlib.sha256(b"content").hexdigest()
    assert outcome.record["fingerprint"] == task_fingerprint(task)
    assert perform(replace(task, known=task_fingerprint(task))).status == "skipped"


def test_a_source_that_cannot_be_hashed_fails_the_item(tmp_path: Path) -> None:
    item = Item("s", "s", (tmp_path / "none",), is_alone=True)
    outcome = perform(Task(item, f"{__name__}:heedless", tmp_path, {}, FORMAT_VERSION, None))
    assert outcome.status == "failed"
    assert "does not exist" in outcome.record["error"]
    assert not list(tmp_path.glob("s.part*"))
