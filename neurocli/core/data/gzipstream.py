"""Inflate gzip files front to back, so that every member's CRC-32 and length are checked.

Readers that stop at the last byte they need never meet the checksum and hand on damaged voxels.
The faster `isal` is used when it is installed; both inflaters give the same bytes.
"""

from __future__ import annotations

import contextlib
import zlib
from io import BufferedReader
from types import ModuleType
from typing import Any

_inflate: ModuleType = zlib
with contextlib.suppress(ImportError):  # the optional extra `fast`
    from isal import isal_zlib

    _inflate = isal_zlib
_Error: type[Exception] = _inflate.error

MAGIC = b"\x1f\x8b"
MAX_RATIO = 1040  # deflate cannot expand one byte to more than 1032
_STEP_BYTES = 32 * 1024  # larger steps give blocks that are mapped and faulted in every time
_GZIP_WINDOW = 31  # 15 bits of window, plus 16: gzip framing with its checks


class DamagedStreamError(Exception):
    """Say why a gzip stream cannot be inflated to its end."""


class GzipStream:
    """Read the inflated bytes of a gzip file in order.

    Several members in a row are one stream. Bytes after the last member that start no further
    member are left alone, as `gzip` does; `trailing_junk` tells of them.

    Args:
        handle: The open file, at its start.
    """

    def __init__(self, handle: BufferedReader) -> None:
        self.trailing_junk = False
        self._handle = handle
        self._inflater: Any = None
        self._raw = b""
        self._block = memoryview(b"")
        self._has_ended = False

    def readinto(self, target: memoryview) -> int:
        """Fill `target` with the next bytes.

        Args:
            target: Writable bytes.

        Returns:
            Number of bytes written, less than asked for only at the end of the stream.

        Raises:
            DamagedStreamError: The stream is cut or damaged before that.
        """
        done = 0
        while done < len(target) and (len(self._block) or self._refill()):
            count = min(len(self._block), len(target) - done)
            target[done : done + count] = self._block[:count]
            self._block = self._block[count:]
            done += count
        return done

    def skip(self, n_bytes: int) -> int:
        """Pass over up to `n_bytes`; return how many there were.

        Raises:
            DamagedStreamError: The stream is cut or damaged before that.
        """
        done = 0
        while done < n_bytes and (len(self._block) or self._refill()):
            count = min(len(self._block), n_bytes - done)
            self._block = self._block[count:]
            done += count
        return done

    def _refill(self) -> bool:
        while not self._has_ended:
            if self._inflater is None and not self._start_member():
                return False
            data = self._raw or self._handle.read(_STEP_BYTES)
            if not data:
                raise DamagedStreamError("the gzip stream is cut short")
            try:
                block = self._inflater.decompress(data)
            except _Error as error:
                raise DamagedStreamError(f"the gzip stream is damaged ({error})") from error
            is_member_done = self._inflater.eof
            self._raw = self._inflater.unused_data if is_member_done else b""
            if is_member_done:
                self._inflater = None
            if block:
                self._block = memoryview(block)
                return True
        return False

    def _start_member(self) -> bool:
        while len(self._raw) < len(MAGIC):
            more = self._handle.read(_STEP_BYTES)
            if not more:
                break
            self._raw += more
        if self._raw.startswith(MAGIC):
            self._inflater = _inflate.decompressobj(_GZIP_WINDOW)
            return True
        self.trailing_junk = bool(self._raw.strip(b"\0"))
        self._has_ended = True
        return False
