"""Read and write a `.pth` without trusting it: shape first, checksums second, content last.

Torch checks nothing of what it reads: nearly every flipped bit loads as a wrong weight. The zip
container has a CRC per member, which torch writes and ignores, and which we read. Files of our own
also end with a SHA-256 of all that is not member data (headers, padding, directory), as the zip's
comment, so that no bit of them can change unnoticed; hashing the data as well would double the
time of a save. Objects other than tensors and plain values are never built (`weights_only=True`),
and no message tells how to switch that off.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import re
import stat
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from neurocli.core.errors import InputError

_SEAL = b"neuro-sha256:"
_END = b"PK\x05\x06"  # the zip's end record; its last two bytes count the comment
_N_END = 22
_N_SEAL = len(_SEAL) + 64
_N_HEAD = 30  # of a member, before its name
_N_BUFFER = 1 << 20
_RESTORE = "restore it from a copy, or take last.prev.pth beside it"
_CONVERT = "save its state_dict again with a torch of today, or export it to .safetensors"
# What argparse leaves in checkpoints of other programs: values that do nothing when they are built.
_PLAIN_TYPES: list[Any] = [argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath]
_KINDS = (
    (b"\x80", "is a bare pickle (an old torch file), which may run code when read", _CONVERT),
    (b"\x89HDF", "is an HDF5 file, not a checkpoint", "give it with --data"),
    (b"\x1f\x8b", "is gzip-compressed, not a checkpoint", "unpack it first"),
    (b"PK\x05\x06", "is an empty zip archive", "give a file that `neuro train` wrote"),
)


def write_torch_file(path: Path, value: Any) -> None:
    """Write a sealed torch file; the same value gives the same bytes.

    Args:
        path: The target, under a temporary name.
        value: Tensors and plain values, nested in dict, list and tuple.

    Raises:
        OSError: The disk refuses. Through a Python file, torch lets the cause pass; writing to a
            path by itself, it reports a full disk as a bug of its own.
    """
    with path.open("w+b", buffering=_N_BUFFER) as handle:
        torch.save(_canonical(value), handle)
        seal(handle)


def seal(handle: BinaryIO) -> None:
    """Append the checksum to a torch file, as the comment of the zip it is.

    Every zip reader passes over a comment, so `torch.load` still opens the file.

    Args:
        handle: What `torch.save` wrote, open for reading and writing; its comment is empty.
    """
    with zipfile.ZipFile(handle) as archive:
        gaps = _gaps(handle, archive)
    # The digest covers the comment's length, so it is set first.
    end = handle.seek(-2, os.SEEK_END) + 2
    handle.write(_N_SEAL.to_bytes(2, "little"))
    digest = _digest(handle, [*gaps[:-1], (gaps[-1][0], end)])
    handle.seek(end)
    handle.write(_SEAL + digest)


def _gaps(handle: BinaryIO, archive: zipfile.ZipFile) -> list[tuple[int, int]]:
    """Return where bytes are that belong to no member's data, as (first, after last)."""
    gaps, position = [], 0
    for member in sorted(archive.infolist(), key=lambda item: item.header_offset):
        handle.seek(member.header_offset)
        head = handle.read(_N_HEAD)
        n_names = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        first = member.header_offset + _N_HEAD + n_names
        # A damaged size could otherwise hide headers, or the directory, among the data.
        if member.header_offset < position:
            raise zipfile.BadZipFile(f"'{member.filename}' overlaps another member")
        gaps.append((position, first))
        position = first + member.compress_size
    if position > archive.start_dir:
        raise zipfile.BadZipFile("a member overlaps the directory")
    return [*gaps, (position, handle.seek(0, os.SEEK_END))]


def _digest(handle: BinaryIO, gaps: list[tuple[int, int]]) -> bytes:
    digest = hashlib.sha256()
    for first, last in gaps:
        handle.seek(first)
        digest.update(handle.read(last - first))
    return digest.hexdigest().encode()


def _canonical(value: Any) -> Any:
    # A pickle repeats a text or a reference to it by identity, which differs between processes.
    if type(value) is str:
        return sys.intern(value)
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_canonical(item) for item in value)
    return value


def open_regular(path: Path) -> BinaryIO:
    """Open a file that is one, and holds something.

    Raises:
        InputError: It is missing, a folder, a pipe, empty or unreadable.
    """
    try:
        # Before opening: a pipe would wait for a writer for ever.
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(path, "is a folder, not a file", "give the .pth file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(path, "is not a regular file", "give a checkpoint file")
        if status.st_size == 0:
            raise InputError(path, "is empty (0 bytes)", _RESTORE)
        return path.open("rb")
    except FileNotFoundError as error:
        raise InputError(path, "there is no such file", "check the path") from error
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from error


def read_torch_file(path: Path, *, map_location: str | torch.device = "cpu") -> Any:
    """Return the content of a zip-based torch file after checking every byte that counts.

    Args:
        path: The file; its name does not matter.
        map_location: Device of the tensors.

    Returns:
        Tensors and plain values, nested as they were saved.

    Raises:
        InputError: Anything else: cut, damaged, another format, or holding other objects.
    """
    with open_regular(path) as handle:
        _check_kind(path, handle.read(64))
        _check_bytes(path, handle)
        handle.seek(0)
        try:
            with torch.serialization.safe_globals(_PLAIN_TYPES):
                return torch.load(handle, map_location=map_location, weights_only=True, mmap=False)
        except Exception as error:
            # Torch raises a dozen types here, and its texts advise to allow code; ours do not.
            raise _refusal(path, error) from None


def _check_kind(path: Path, head: bytes) -> None:
    if head.startswith(b"PK\x03\x04"):
        return
    for magic, problem, fix in _KINDS:
        if head.startswith(magic):
            raise InputError(path, problem, fix)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        raise InputError(
            path,
            "is a safetensors file: weights alone, without the configuration of a run",
            "give it with --init-from, or give the .pth it came from",
        )
    is_text = all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
    kind = "is a text file" if is_text else "is not a torch file (no zip signature)"
    raise InputError(path, kind, "give a .pth that `neuro train` wrote")


def _check_bytes(path: Path, handle: BinaryIO) -> None:
    size = handle.seek(0, os.SEEK_END)
    handle.seek(max(0, size - _N_END - _N_SEAL))
    tail = handle.read()
    is_sealed = tail.startswith(_END) and tail[_N_END:].startswith(_SEAL)
    if not is_sealed and not (tail[-_N_END:].startswith(_END) and tail.endswith(b"\0\0")):
        raise InputError(path, "is cut short or damaged at its end", _RESTORE)
    try:
        with zipfile.ZipFile(handle) as archive:
            _check_directory(path, archive.infolist(), size)
            damaged = archive.testzip()
            if is_sealed and damaged is None:
                *gaps, (first, _) = _gaps(handle, archive)
                if _digest(handle, [*gaps, (first, size - _N_SEAL)]) != tail[-64:]:
                    damaged = "the container"
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, LookupError) as error:
        raise InputError(path, f"is damaged: {error}", _RESTORE) from error
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(path, f"is a zip archive that torch does not write: {error}") from error
    if damaged is not None:
        raise InputError(path, f"is damaged: '{damaged}' does not match its checksum", _RESTORE)


def _check_directory(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    leaves = {member.filename.rpartition("/")[2] for member in members}
    if "data.pkl" not in leaves:
        kind = "a NumPy archive" if any(leaf.endswith(".npy") for leaf in leaves) else "a zip file"
        raise InputError(path, f"is {kind}, not a checkpoint", "give a .pth of `neuro train`")
    if "constants.pkl" in leaves:
        raise InputError(path, "is a TorchScript program, not a checkpoint", _CONVERT)
    # Torch stores its members whole: a packed or overlapping one could unpack without end.
    packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED]
    if packed or sum(member.file_size for member in members) > size:
        raise InputError(path, "holds packed or overlapping members, as torch never writes them")


def _refusal(path: Path, error: Exception) -> InputError:
    text = str(error)
    named = re.search(r"GLOBAL ([\w.]+)", text)
    if named:
        return InputError(
            path,
            f"holds '{named[1]}', but only tensors and plain values are read from a file",
            _CONVERT,
        )
    if isinstance(error, MemoryError) or "can't allocate" in text:
        return InputError(path, "needs more memory than there is", "use a machine with more")
    if "Weights only load failed" in text or "WeightsUnpickler" in text:
        return InputError(path, "holds objects other than tensors and plain values", _CONVERT)
    first = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return InputError(path, f"cannot be read as a torch file: {first[:200]}", _RESTORE)
