"""What a standard folder holds, for the tests that prepare one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from neurocli.core.data.items import PrepareResult
from neurocli.systems.fmri.store import open_store


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
