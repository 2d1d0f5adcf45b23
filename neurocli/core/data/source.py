"""Open the files that a user hands in: regular, of sane size, and what their name says.

Everything that is not a file of the wanted kind ends as an `InputError` that names the file and
the way out. Archives under version control leave stand-ins for large files (dead links, pointer
texts), and failed downloads leave web pages; these are told apart from damage.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from neurocli.core.errors import InputError

HEAD_BYTES = 1024
_ANNEX_POINTER = re.compile(rb"[./]*(git/)?annex/objects/")
_FETCH = "fetch the content first, e.g. datalad get"
_MAGICS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet)"),
    (b"PAR1", "a Parquet table"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"(\xb5/\xfd", "a zstd file"),
    (b"\x1f\x8b", "a gzip file"),
)


def check_regular(path: Path, *, max_bytes: int | None = None) -> int:
    """Return the size of a regular file without opening it.

    A named pipe would block a plain `open` for ever, a device would be triggered by it.

    Args:
        path: The file; links are followed.
        max_bytes: Largest size that is accepted; None for any.

    Returns:
        Size in bytes, never 0.

    Raises:
        InputError: The path is missing, a dead or looping link, a folder, a pipe, a device, empty,
            too large or not readable.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise _stat_error(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(path, "is a folder, a file is needed", "give the file inside it")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(path, "is no regular file (pipe, socket or device)", "give a stored file")
    if status.st_size == 0:
        raise InputError(path, "is empty (0 bytes)", "copy or download the file again")
    if max_bytes is not None and status.st_size > max_bytes:
        raise InputError(
            path,
            f"is larger than the limit: {status.st_size} of {max_bytes} bytes",
            "check that this is the right file, or raise the limit",
        )
    return status.st_size


def _stat_error(path: Path, error: OSError | ValueError) -> InputError:
    if isinstance(error, ValueError):
        return InputError(path, f"is no usable file name: {error}", "rename the file")
    if error.errno == errno.ELOOP:
        return InputError(path, "is a link that points to itself", "replace the link by the file")
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return InputError(path, "is a link to a missing file", f"{_FETCH} {path.name}")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InputError(path, "does not exist", "check the name and the current folder")
    return InputError(path, f"cannot be read: {error.strerror or error}", "check its permissions")


@contextlib.contextmanager
def open_regular(path: Path, *, max_bytes: int | None = None) -> Iterator[BufferedReader]:
    """Open a regular file for reading, and name it in every error met while it is open.

    Args:
        path: The file; links are followed.
        max_bytes: Largest size that is accepted; None for any.

    Raises:
        InputError: See `check_regular`; also an input error of the disk while reading.
    """
    check_regular(path, max_bytes=max_bytes)
    try:
        # Non-blocking, so that a pipe put there since the check cannot hang us.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as handle:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InputError(path, "is no regular file any more", "give a stored file")
            yield handle
    except OSError as error:
        raise _stat_error(path, error) from error


def foreign_content(head: bytes, *, is_text_wanted: bool = False) -> tuple[str, str] | None:
    """Name what a file is when it is not of the wanted kind.

    Args:
        head: The first bytes of the file; `HEAD_BYTES` of them are looked at.
        is_text_wanted: Whether a plain text would be of the wanted kind.

    Returns:
        (problem, fix), or None when the content is not recognised.
    """
    head = head[:HEAD_BYTES]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the data", "fetch the content first: git lfs pull"
    if _ANNEX_POINTER.match(text):
        return "is a git-annex pointer, not the data", _FETCH
    if text.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not the data (a failed download?)", "download the file again"
    if text.startswith(b"<?xml"):
        return "is an XML text", "check the file name"
    if head[128:132] == b"DICM":
        return "is a DICOM file", "convert the series to NIfTI first, e.g. with dcm2niix"
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return f"is {kind}", "check the file name"
    if is_text_wanted:
        return None
    if head and all(byte in b"\t\r\n\f" or 32 <= byte < 127 for byte in head[:256]):
        return "is a plain text", "check the file name"
    return None
