"""Keep one JSON line per item of an output folder, safe against kills at any moment.

While a run lasts, lines are only appended, each by one write; a line cut by a kill is reported and
skipped, so the item is done again. At the end the file is rewritten whole and sorted. Fingerprints
of content, options and code version decide what is stale.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.data.source import check_regular, open_regular
from neurocli.core.errors import NeuroError
from neurocli.core.paths import durable_write

_MAX_BYTES = 1 << 30


class Manifest:
    """Read and write `manifest.jsonl`.

    Args:
        path: The file; it need not exist yet.

    Attributes:
        problems: Lines that the last `records()` left out, one sentence each.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def append(self, record: Mapping[str, Any]) -> None:
        """Add the newest state of one item and sync it to disk.

        Args:
            record: Plain values; `subject` names the item. NaN and Inf become null.

        Raises:
            NeuroError: The record has no subject, or the disk is full or read-only.
        """
        line = _line(record, self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self.path, flags, 0o644)
            try:
                # Behind a line that a kill has cut, the new one needs a line of its own.
                _write_once(descriptor, line if _ends_whole(descriptor) else b"\n" + line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise NeuroError(
                f"cannot append: {error.strerror or error}",
                where=str(self.path),
                hint="free space or choose another folder with --out; finished items are kept",
            ) from error

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the last line of every subject, in order of first appearance.

        Lines that cannot be read are left out and described in `problems`, which every call
        renews. A missing or empty file holds no records.

        Raises:
            InputError: The path is no regular file or cannot be read.
        """
        self.problems = []
        found: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(_lines(self.path), start=1):
            record, reason = _parse(line)
            if record is not None:
                found[record["subject"]] = record
            elif reason:
                self.problems.append(f"{self.path}:{number}: {reason}, left out")
        return found

    def rewrite(self, records: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Write the file anew, one line per subject, sorted by subject.

        Args:
            records: What to write, by subject; None for the records the file holds now.

        Raises:
            InputError: The present file cannot be read.
            NeuroError: A record has no subject, or the disk is full or read-only; the older file
                stays intact.
        """
        kept = self.records() if records is None else records
        lines = [_line(kept[subject], self.path) for subject in sorted(kept)]
        durable_write(self.path, b"".join(lines))


def fingerprint(
    paths: Sequence[Path],
    options: Mapping[str, Any],
    version: str,
    *,
    digests: Sequence[str] | None = None,
) -> str:
    """Return a digest that changes when sources, options or the code's format change.

    Args:
        paths: Source files; their content and order count, not their names or times.
        options: Plain values; the order of keys does not count.
        version: Version of the format that the code writes.
        digests: What `source_digests` gives for the paths; None reads them.

    Returns:
        64 hexadecimal digits (SHA-256).

    Raises:
        InputError: A source is missing or cannot be read.
    """
    known = source_digests(paths) if digests is None else digests
    text = json.dumps([list(known), _plain(options), version], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def source_digests(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the SHA-256 of each file; content counts, not names or times.

    Raises:
        InputError: A file is missing or cannot be read.
    """
    digests = []
    for path in paths:
        check_regular(path)
        with open_regular(path) as handle:
            digests.append(hashlib.file_digest(handle, "sha256").hexdigest())
    return tuple(digests)


def _line(record: Mapping[str, Any], path: Path) -> bytes:
    if not isinstance(record.get("subject"), str):
        raise NeuroError(f"a record names no subject: {sorted(record)}", where=str(path))
    # ASCII escapes keep names that are no valid UTF-8 and survive every locale.
    text = json.dumps(_plain(record), ensure_ascii=True, allow_nan=False, separators=(", ", ": "))
    return text.encode("ascii") + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(item) for item in value]
        return sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    as_list = getattr(value, "tolist", None)  # numpy scalars and arrays, tensors
    return _plain(as_list()) if callable(as_list) else str(value)


def _write_once(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    if written != len(data):
        raise OSError(f"only {written} of {len(data)} bytes were written")


def _ends_whole(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file() and path.stat().st_size == 0:
        return
    if os.path.lexists(path):
        with open_regular(path, max_bytes=_MAX_BYTES) as handle:
            yield from handle


def _parse(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    if not line.strip():
        return None, None
    if not line.endswith(b"\n"):
        return None, "the last line is cut short"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None, "no whole JSON object"
    if not isinstance(record, dict) or not isinstance(record.get("subject"), str):
        return None, "no subject named"
    return record, None
