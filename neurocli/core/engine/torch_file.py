"""Read a `.pth` without trusting it: shape first, checksum second, content last.

Torch checks nothing of what it reads: nearly every flipped bit loads as a wrong weight. The zip
container has a CRC per member, which torch ignores and we read; files of our own end with a
SHA-256 of everything before it, in the zip's comment. Objects other than tensors and plain values
are never built (`weights_only=True`), and no message tells how to switch that off.
"""

from __future__ import annotations

import hashlib
import io
import os
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
_RESTORE = "restore it from a copy, or take last.prev.pth beside it"
_CONVERT = "save its state_dict again with a torch of today, or export it to .safetensors"
_KINDS = (
    (b"\x80", "is a bare pickle (an old torch file), which may run code when read", _CONVERT),
    (b"\x89HDF", "is an HDF5 file, not a checkpoint", "give it with --data"),
    (b"\x1f\x8b", "is gzip-compressed, not a checkpoint", "unpack it first"),
    (b"PK\x05\x06", "is an empty zip archive", "give a file that `neuro train` wrote"),
)


def serialise(value: Any) -> memoryview:
    """Return the sealed bytes of a torch file; the same value gives the same bytes.

    Args:
        value: Tensors and plain values, nested in dict, list and tuple.
    """
    buffer = io.BytesIO()
    torch.save(_canonical(value), buffer)
    seal(buffer)
    return buffer.getbuffer()


def seal(buffer: io.BytesIO) -> None:
    """Append to a torch file the SHA-256 of its bytes, as the comment of the zip it is.

    Every zip reader passes over a comment, so `torch.load` still opens the file.

    Args:
        buffer: What `torch.save` wrote; its comment is still empty.
    """
    buffer.seek(-2, os.SEEK_END)
    buffer.write(_N_SEAL.to_bytes(2, "little"))
    with buffer.getbuffer() as content:
        digest = hashlib.sha256(content).hexdigest()
    buffer.write(_SEAL + digest.encode())


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
    if tail.startswith(_END) and tail[_N_END:].startswith(_SEAL):
        _check_seal(path, handle, size)
    elif tail[-_N_END:].startswith(_END) and tail.endswith(b"\0\0"):
        _check_members(path, handle, size)
    else:
        raise InputError(path, "is cut short or damaged at its end", _RESTORE)


def _check_seal(path: Path, handle: BinaryIO, size: int) -> None:
    digest, left = hashlib.sha256(), size - _N_SEAL
    handle.seek(0)
    while left > 0 and (block := handle.read(min(left, 1 << 20))):
        digest.update(block)
        left -= len(block)
    if handle.read() != _SEAL + digest.hexdigest().encode():
        raise InputError(path, "is damaged: its content does not match its SHA-256", _RESTORE)


def _check_members(path: Path, handle: BinaryIO, size: int) -> None:
    try:
        with zipfile.ZipFile(handle) as archive:
            members = archive.infolist()
            _check_directory(path, members, size)
            damaged = archive.testzip()
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
