"""Durable writes, output locks and safe file names.

A file under its final name is complete: it is built under a temporary name beside its target,
synced, renamed, and its folder is synced. Nothing is ever written through `$TMPDIR`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neurocli.core.errors import NeuroError, OutputError, UsageError

LOCK_NAME = ".lock"
DISK_FAILURES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_TEMPORARY = ".part-"
_LOCK_TRIES = 3
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def durable_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; publish it on a clean exit, drop it on an error.

    Args:
        target: The final name; its folder is made when missing.

    Raises:
        NeuroError: The disk is full, read-only or failing; an older file stays intact.
    """
    temporary = target.with_name(f"{target.name}{_TEMPORARY}{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise _write_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_error(target: Path, error: OSError) -> NeuroError:
    kind = OutputError if error.errno in DISK_FAILURES else NeuroError
    return kind(
        f"cannot write: {error.strerror or error}",
        where=str(target),
        hint="free space or choose another folder with --out; files already there are intact",
    )


def durable_write(target: Path, content: bytes | str) -> Path:
    """Write a whole file, or leave what was there.

    Args:
        target: The final name.
        content: Bytes, or text that is written as UTF-8.

    Returns:
        `target`.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with durable_path(target) as temporary:
        temporary.write_bytes(data)
    return target


def durable_json(target: Path, value: Mapping[str, Any]) -> Path:
    """Write one JSON object, keys in their given order, with a final newline."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    return durable_write(target, text + "\n")


def clear_leftovers(folder: Path) -> int:
    """Remove temporary files of killed processes below `folder`; return how many."""
    count = 0
    for path in folder.rglob(f"*{_TEMPORARY}*"):
        owner = path.name.rpartition(_TEMPORARY)[2]
        if owner.isdigit() and not _is_alive(int(owner)) and not path.is_dir():
            path.unlink(missing_ok=True)
            count += 1
    return count


def safe_name(identifier: str) -> str:
    """Return a file name for any identifier: reversible, without separators or leading dots.

    >>> safe_name("../sub 1")
    '%2E.%2Fsub%201'
    """
    raw = identifier.encode("utf-8", "surrogateescape")
    text = "".join(
        chr(byte) if byte < 128 and not _UNSAFE.match(chr(byte)) else f"%{byte:02X}" for byte in raw
    )
    return f"%2E{text[1:]}" if text.startswith(".") else text


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def cache_dir() -> Path:
    """Return where made-once data lies: `$NEURO_CACHE`, else the user's cache folder."""
    chosen = os.environ.get("NEURO_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "neuro"


def runs_dir() -> Path:
    """Return where run folders go by default: `$NEURO_RUNS`, else `runs`."""
    return Path(os.environ.get("NEURO_RUNS") or "runs")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for one writer.

    A lock left by a process that no longer lives on this host is taken over.

    Args:
        folder: The output folder; made when missing.

    Raises:
        UsageError: Another process is writing there; the holder is named.
        NeuroError: The folder cannot be written.
    """
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _take_lock(path)
    except OSError as error:
        raise _write_error(path, error) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _take_lock(path: Path) -> None:
    mine = f"{socket.gethostname()} {os.getpid()}"
    # Linked in place with its content, so that a kill never leaves a lock that names nobody.
    draft = path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}")
    draft.write_text(mine, encoding="utf-8")
    try:
        for _ in range(_LOCK_TRIES):
            if _link(draft, path):
                return
            holder = _holder(path)
            if holder is not None and not _is_stale(holder):
                raise UsageError(
                    f"another process is writing here ({holder})",
                    where=str(path.parent),
                    hint=f"wait for it or choose another --out; if it is gone, delete {path}",
                )
            if holder is not None:
                _bury(path, holder)
    finally:
        draft.unlink(missing_ok=True)
    raise UsageError("the output folder is being taken by another process", where=str(path.parent))


def _link(draft: Path, path: Path) -> bool:
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    return True


def _holder(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


def _is_stale(holder: str) -> bool:
    host, _, pid = holder.partition(" ")
    return host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid))


def _bury(path: Path, holder: str) -> None:
    # Two processes may see the same stale lock: the rename lets one of them win, and what was
    # renamed is looked at again, for it may be the winner's fresh lock.
    grave = path.with_name(f"{path.name}.stale{_TEMPORARY}{os.getpid()}")
    try:
        path.rename(grave)
    except FileNotFoundError:
        return
    if _holder(grave) != holder:
        _link(grave, path)
    grave.unlink(missing_ok=True)
