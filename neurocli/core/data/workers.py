"""Do one item: what a worker is given, what became of it, and its line for the manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurocli.core.catalog import resolve
from neurocli.core.data.ahead import begin
from neurocli.core.data.items import Item
from neurocli.core.data.manifest import fingerprint, source_digests
from neurocli.core.data.output import part_path, plain_values
from neurocli.core.errors import NeuroError, OutputError
from neurocli.core.paths import DISK_FAILURES, file_sha256

_ONE_BY_ONE = 16
ALL_FURTHER = "*"
"""Key of the one digest that many further files share, such as those of a run's frames."""


@dataclass(frozen=True)
class Task:
    """Hold what a worker needs for one item.

    Args:
        item: The item.
        process: `"module:function"`, called as `process(item, folder, options)`.
        out: The output folder.
        options: Handed to the function.
        version: Format of the items.
        known: Fingerprint of an output that is in place; None when there is none.
    """

    item: Item
    process: str
    out: Path
    options: Mapping[str, Any]
    version: str
    known: str | None


@dataclass(frozen=True)
class Outcome:
    """Hold what became of one item.

    Args:
        record: Its line for the manifest; `status` is done, failed or skipped.
        part: Private folder with the files of a done item.
    """

    record: dict[str, Any]
    part: Path | None = None

    @property
    def status(self) -> str:
        """Return "done", "failed" or "skipped"."""
        return str(self.record["status"])


def perform(task: Task) -> Outcome:
    """Do one item; what is the item's own failure becomes a failed record, never an exception.

    Args:
        task: What to do.

    Returns:
        The record; for a done item also the private folder that holds its files.

    Raises:
        OutputError: The disk is full, read-only or failing.
    """
    item = task.item
    started = time.perf_counter()
    part = part_path(task.out, item.subject)
    is_done = False
    try:
        digests = _digests(task)
        if task.known is not None and task_fingerprint(task, digests=digests()) == task.known:
            return Outcome({"subject": item.subject, "status": "skipped"})
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        told = replace(item, digests=digests)
        fields = dict(resolve(task.process)(told, part, task.options))
        fields["sha256"] = file_sha256(part / fields["files"][0])
        fields["further_sha256"] = further_digests(part, fields["files"])
        digest = task_fingerprint(task, digests=digests())
        is_done = True
    except OutputError:
        raise
    except (NeuroError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno in DISK_FAILURES:
            raise _disk_failure(task, error) from error
        return Outcome(failed_record(item, reason_text(error), time.perf_counter() - started))
    finally:
        if not is_done:
            shutil.rmtree(part, ignore_errors=True)
    record = {
        **empty_record(item),
        **fields,
        "status": "done",
        "fingerprint": digest,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Outcome(record, part)


def _digests(task: Task) -> Callable[[], tuple[str, ...]]:
    """Return what gives the digests of a task's sources, read once."""
    sources = task.item.sources
    if task.known is None and task.item.is_alone:
        # Nothing waits for them until the end, and there is a core to spare.
        return begin(lambda: source_digests(sources))
    found = source_digests(sources)
    return lambda: found


def further_digests(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each file of an item but the first.

    Args:
        folder: Where they are.
        files: Names of all files of the item.

    Returns:
        Name -> digest; of more than a few files one digest of their digests, under `ALL_FURTHER`.
    """
    digests = {name: file_sha256(folder / name) for name in files[1:]}
    if len(digests) <= _ONE_BY_ONE:
        return digests
    return {ALL_FURTHER: hashlib.sha256("".join(digests.values()).encode()).hexdigest()}


def _disk_failure(task: Task, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write: {error.strerror or error}",
        where=str(task.out),
        hint="free space or choose another --out; the same command line goes on where it stopped",
    )


def task_fingerprint(task: Task, *, digests: Sequence[str] | None = None) -> str:
    """Return a digest of a task's sources, options and format.

    Args:
        task: The task.
        digests: Of its sources, where they are known; None reads them.

    Raises:
        InputError: A source cannot be read.
    """
    return fingerprint(task.item.sources, _identity(task), task.version, digests=digests)


def _identity(task: Task) -> dict[str, Any]:
    return {
        "subject": task.item.subject,
        "participant": task.item.participant,
        "details": plain_values(task.item.details),
        "options": plain_values(task.options),
    }


def empty_record(item: Item) -> dict[str, Any]:
    """Return a manifest line with every key in its place."""
    return {
        "subject": item.subject,
        "participant": item.participant,
        "status": "failed",
        "files": [],
        "shape": None,
        "dtype": None,
        "affine": None,
        "tr_s": None,
        "stats": {},
        "notes": [],
        "source": [path.name for path in item.sources],
        "sha256": None,
        "further_sha256": {},
        "fingerprint": None,
        "seconds": 0.0,
        "error": None,
    }


def failed_record(item: Item, reason: str, seconds: float) -> dict[str, Any]:
    """Return the manifest line of an item that failed."""
    return {**empty_record(item), "seconds": round(seconds, 3), "error": reason}


def reason_text(error: NeuroError | OSError | MemoryError) -> str:
    """Return an error as one line that names files without their folders.

    >>> reason_text(NeuroError("is empty", where="/data/run.nii", hint="copy it again"))
    'run.nii: is empty; copy it again'
    """
    if isinstance(error, NeuroError):
        where = f"{Path(error.where).name}: " if error.where else ""
        text = f"{where}{error.message}" + (f"; {error.hint}" if error.hint else "")
    elif isinstance(error, OSError):
        where = f"{Path(os.fsdecode(error.filename)).name}: " if error.filename else ""
        text = f"{where}{error.strerror or error}"
    else:
        text = "not enough memory; use fewer --jobs or a machine with more"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
