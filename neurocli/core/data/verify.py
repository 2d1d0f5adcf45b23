"""Compare a folder with its manifest: what is missing, changed, stale or was never done.

Every listed file is hashed again. Given the tasks that would make the folder now, sources that
changed since are noticed as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocli.core.data import output
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.workers import (
    ALL_FURTHER,
    Task,
    further_digests,
    reason_text,
    task_fingerprint,
)
from neurocli.core.errors import InputError, NeuroError
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted, ignore
from neurocli.core.paths import file_sha256

_HAVE = ("has", "have")


@dataclass(frozen=True)
class CheckResult:
    """Tell what a look at stored files found.

    Args:
        folder: What was looked at.
        checked: Files or items looked at.
        problems: (name, reason in one line) of those that are not sound.
        moved: Paths that were moved away, deleted or rewritten, relative to the folder.
        notes: Sentences for the user.
    """

    folder: Path
    checked: int
    problems: list[tuple[str, str]] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> int:
        """Return how many of what was looked at have no problem."""
        return self.checked - len({name for name, _ in self.problems})


def verify_folder(
    folder: Path,
    *,
    tasks: Sequence[Task] | None = None,
    jobs: int = 1,
    listener: Listener = ignore,
) -> CheckResult:
    """Hash the files of a folder again and compare them with its manifest.

    Args:
        folder: Written by `preprocess` or `convert-hdf5`.
        tasks: What would be done for its sources now; None leaves the sources alone.
        jobs: Threads that hash.
        listener: Told the progress.

    Returns:
        Every changed, missing, stale, failed and unlisted item.

    Raises:
        InputError: The folder has no manifest, or it cannot be read.
    """
    from concurrent.futures import ThreadPoolExecutor  # costs a start that others can spare

    manifest = Manifest(folder / output.MANIFEST_FILE)
    if not manifest.path.is_file():
        raise InputError(
            folder,
            f"has no {output.MANIFEST_FILE} to compare with",
            "--check reads files that have no manifest",
        )
    records = manifest.records()
    listener(WorkStarted("verify", len(records), "items"))
    problems: list[tuple[str, str]] = []
    subjects = sorted(records)
    with ThreadPoolExecutor(max(1, jobs)) as pool:
        reasons = pool.map(lambda subject: _judge(folder, records[subject]), subjects)
        for subject, reason in zip(subjects, reasons, strict=True):
            problems += [(subject, reason)] if reason else []
            listener(ItemDone(subject, "failed" if reason else "done", reason or ""))
    listener(WorkFinished("verify"))
    if tasks is not None:
        problems += _stale(records, tasks, {name for name, _ in problems})
    problems += _unlisted(folder, records)
    notes = list(manifest.problems)
    if not output.describe(folder).get("complete"):
        notes.append("the last run did not come to its end; the same command line goes on")
    return CheckResult(folder, len(records), sorted(problems), notes=notes)


def _judge(folder: Path, record: Mapping[str, Any]) -> str | None:
    """Return why an item is not as its record says, or None."""
    if record.get("status") != "done":
        return f"failed: {record.get('error')}"
    names = [str(name) for name in record.get("files") or ()]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return f"missing: {missing[0]}{more}" if missing else "missing: no file is listed"
    # Manifests of older versions hold the digest of the first file only.
    known = {names[0]: record.get("sha256"), **dict(record.get("further_sha256") or {})}
    try:
        found = {names[0]: file_sha256(folder / names[0])}
        if len(known) > 1:
            found |= further_digests(folder, names)
    except (NeuroError, OSError) as error:
        return f"changed: {reason_text(error)}"
    changed = [name for name, digest in known.items() if found.get(name) != digest]
    told = [f"one of {names[1]} ... {names[-1]}" if n == ALL_FURTHER else n for n in changed]
    return f"changed: {', '.join(told)} {_HAVE[len(told) > 1]} another content" if told else None


def _stale(
    records: Mapping[str, Mapping[str, Any]], tasks: Sequence[Task], known: set[str]
) -> list[tuple[str, str]]:
    found = []
    for task in tasks:
        subject = task.item.subject
        record = records.get(subject)
        if record is None:
            found.append((subject, "missing: it was never processed"))
        elif subject not in known:
            try:
                is_fresh = task_fingerprint(task) == record.get("fingerprint")
            except NeuroError as error:
                found.append((subject, f"stale: {reason_text(error)}"))
                continue
            if not is_fresh:
                found.append((subject, "stale: its source, the options or the format changed"))
    present = {task.item.subject for task in tasks}
    gone = sorted(set(records) - present - known)
    return [*found, *((subject, "stale: its source is gone") for subject in gone)]


def _unlisted(folder: Path, records: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    listed = {str(name) for record in records.values() for name in record.get("files") or ()}
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*.h5"))
    return [
        (name, "unlisted: the manifest does not know it")
        for name in sorted(found)
        if name not in listed
    ]
