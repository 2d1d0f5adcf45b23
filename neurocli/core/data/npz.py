"""Read arrays of .npy and .npz files without trusting them: header arithmetic before memory.

Nothing is ever unpickled: a header that asks for objects is refused, and so is one whose shape and
type do not make exactly the bytes that are there. A stored member of a zip is used where it lies
in the file's bytes, which costs a fraction of unpacking archives one by one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.npy_header import NPY_MAGIC, parse_npy_header
from neurocli.core.data.source import foreign_content, open_regular
from neurocli.core.errors import InputError
from neurocli.core.names import choices_text

MAX_BYTES = 1 << 28
_MAX_MEMBERS = 1000
_MAX_RATIO = 1100  # deflate cannot expand more
_ZIP, _END, _ENTRY = b"PK\x03\x04", b"PK\x05\x06", b"PK\x01\x02"
_ENTRY_FORMAT = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_N_END, _N_LOCAL = 22, 30
_AGAIN = "write it again with numpy.savez, or copy it again"

Array = npt.NDArray[Any]


def read_array(path: Path, *, key: str | None = None, preferred: Sequence[str] = ()) -> Array:
    """Return one array of a file as a view of its bytes.

    Args:
        path: .npy or .npz; content decides.
        key: Name of the array inside an .npz; None takes the only one, else the first of
            `preferred` that is there.
        preferred: Plausible names, the likeliest first.

    Returns:
        Integers or floats of any shape, not yet looked at for NaN.

    Raises:
        InputError: The file is damaged, of another kind, holds objects, or its header does not
            match its size; or the array cannot be chosen, and all names are listed.
    """
    with open_regular(path, max_bytes=MAX_BYTES) as handle:
        data = handle.read()
    if data.startswith(NPY_MAGIC):
        return _parse(path, memoryview(data), "")
    if not data.startswith(_ZIP):
        problem, fix = foreign_content(data) or ("is no .npy or .npz file", _AGAIN)
        raise InputError(path, problem, fix)
    members = _members(path, data)
    name = _choose(path, data, members, key, preferred)
    return _parse(path, _content(path, data, name, members[name]), name)


def _members(path: Path, data: bytes) -> dict[str, tuple[int, int, int, int, int, int]]:
    """Return name -> (flags, method, crc, stored size, size, offset) of a zip's arrays."""
    end = data.rfind(_END, max(0, len(data) - _N_END - 0xFFFF))
    if end < 0 or end + _N_END > len(data):
        raise InputError(path, "is a zip archive that was cut off", _AGAIN)
    count, size, place = struct.unpack_from("<HLL", data, end + 10)
    if count > _MAX_MEMBERS or place + size > end:
        raise InputError(path, f"is a damaged zip archive ({count} members)", _AGAIN)
    found = {}
    for _ in range(count):
        if place + _ENTRY_FORMAT.size > end:
            raise InputError(path, "is a damaged zip archive (its directory ends early)", _AGAIN)
        entry = _ENTRY_FORMAT.unpack_from(data, place)
        first = place + _ENTRY_FORMAT.size
        name = data[first : first + entry[10]].decode("utf-8", "replace")
        if entry[0] != _ENTRY:
            raise InputError(
                path, "is a damaged zip archive (no entry where one should be)", _AGAIN
            )
        if name.endswith(".npy"):
            found[name.removesuffix(".npy")] = (*entry[3:5], *entry[7:10], entry[16])
        place = first + entry[10] + entry[11] + entry[12]
    if not found:
        raise InputError(path, "holds no array", "give a file that numpy.savez wrote")
    return found


def _choose(
    path: Path, data: bytes, members: Any, key: str | None, preferred: Sequence[str]
) -> str:
    if key is not None and key not in members:
        raise InputError(path, f"has no array '{key}'", f"it holds {choices_text(members)}")
    chosen = key or (next(iter(members)) if len(members) == 1 else None)
    chosen = chosen or next((name for name in preferred if name in members), None)
    if chosen is not None:
        return str(chosen)
    told = []
    for name, member in members.items():
        array = _parse(path, _content(path, data, name, member), name)
        told.append(f"{name} {'x'.join(map(str, array.shape))} {array.dtype}")
    raise InputError(
        path, f"holds several arrays: {choices_text(told)}", "name the one to take (npz_key)"
    )


def _content(
    path: Path, data: bytes, name: str, member: tuple[int, int, int, int, int, int]
) -> memoryview:
    flags, method, crc, stored, size, offset = member
    if flags & 1:
        raise InputError(path, f"array '{name}' is encrypted", _AGAIN)
    if offset + _N_LOCAL > len(data) or data[offset : offset + 4] != _ZIP:
        raise InputError(path, f"array '{name}' lies outside the file", _AGAIN)
    first = offset + _N_LOCAL + sum(struct.unpack_from("<HH", data, offset + 26))
    if first + stored > len(data) or size > MAX_BYTES or size > stored * _MAX_RATIO + 64:
        raise InputError(path, f"array '{name}' claims {size} bytes, which are not there", _AGAIN)
    raw = memoryview(data)[first : first + stored]
    if method == 8:
        raw = memoryview(_inflated(path, name, raw, size))
    elif method != 0:
        raise InputError(path, f"array '{name}' is packed with method {method}", _AGAIN)
    if len(raw) != size or zlib.crc32(raw) != crc:
        raise InputError(path, f"array '{name}' is damaged (checksum)", _AGAIN)
    return raw


def _inflated(path: Path, name: str, raw: memoryview, size: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, size + 1)
    except zlib.error as error:
        raise InputError(path, f"array '{name}' is damaged ({error})", _AGAIN) from error


def _parse(path: Path, raw: memoryview, name: str) -> Array:
    told = f"array '{name}'" if name else "its array"
    if bytes(raw[: len(NPY_MAGIC)]) != NPY_MAGIC:
        raise InputError(path, f"{told} is no .npy content", _AGAIN)
    header = parse_npy_header(raw, f"{path}:{name}" if name else path)
    if header.dtype.kind not in "iuf":
        raise InputError(path, f"{told} holds {header.dtype}, real numbers are needed", _AGAIN)
    if 0 in header.shape and prod(side or 1 for side in header.shape) > MAX_BYTES:
        raise InputError(path, f"{told} has a damaged header: shape {header.shape}", _AGAIN)
    present = len(raw) - header.offset
    if header.n_bytes != present:
        raise InputError(
            path,
            f"{told} of shape {header.shape} needs {header.n_bytes} bytes, {present} are there",
            _AGAIN,
        )
    flat = np.frombuffer(raw, dtype=header.dtype, offset=header.offset)
    return flat.reshape(header.shape, order="F" if header.is_fortran else "C")
