"""Process functions that workers can import, and what tests of the runner share."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocli.core.data.items import Found, Item, OutputSpec, PrepareResult
from neurocli.core.data.runner import run_items
from neurocli.core.errors import InputError
from neurocli.core.events import Event

FORMAT_VERSION = "work/1"
SPEC = OutputSpec("room", "preprocessed", "kind", FORMAT_VERSION)
FLAT = OutputSpec("room", "hdf5", "kind", FORMAT_VERSION, is_flat=True)


def copy(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a text in capitals; obey a word in it."""
    text = item.sources[0].read_text()
    obey(text, item)
    name = f"{item.subject}.txt" if options.get("flat") else "text.txt"
    (folder / name).write_text(text.upper())
    (folder / f"{name}.size").write_text(str(len(text)))
    notes = ["it is short"] if len(text) < 10 else []
    return {"files": [name, f"{name}.size"], "shape": [len(text)], "notes": notes}


def obey(text: str, item: Item) -> None:
    word, _, rest = text.partition(" ")
    if word == "refuse":
        raise InputError(item.sources[0], "is refused", "write another text")
    if word == "memory":
        raise MemoryError
    if word == "bug":
        raise ZeroDivisionError("a bug")
    # Only a worker is to be caught at work: what is done again here need not wait.
    if word == "sleep" and multiprocessing.parent_process() is not None:
        time.sleep(float(rest))
    if word == "die" or (word == "die-once" and not Path(rest).exists()):
        if word == "die-once":
            Path(rest).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def write_items(folder: Path, texts: Mapping[str, str]) -> list[Item]:
    """Write source files and return items for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.in").write_text(text)
    return [Item(name, name, (folder / f"{name}.in",)) for name in texts]


def run(
    items: list[Item] | Found, out: Path, *, spec: OutputSpec = SPEC, jobs: int = 1, **more: Any
) -> PrepareResult:
    """Run the copying process."""
    events: list[Event] = more.pop("events", [])
    options = more.pop("options", {"flat": spec.is_flat})
    return run_items(
        items if isinstance(items, Found) else Found(items),
        "runner_work:copy",
        out,
        spec=spec,
        options=options,
        jobs=jobs,
        listener=events.append,
        **more,
    )


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
    """Return the manifest by subject."""
    lines = (out / "manifest.jsonl").read_text().splitlines()
    return {line["subject"]: line for line in map(json.loads, lines)}
