"""Check the stored bytes of one HDF5 chunk without HDF5.

A chunk passes through filters when written; here they are undone in reverse order, only as far as
needed to learn how long the chunk really is.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from neurocli.core.data.gzipstream import MAX_RATIO

_GZIP, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_CHECKSUM_BYTES = 4
_LZF_RATIO = 132  # a back reference of 3 bytes stands for at most 264


def expanded_limit(stored_bytes: int, codes: Sequence[int]) -> float:
    """Return the most bytes that stored chunks can expand to.

    Args:
        stored_bytes: Their size in the file.
        codes: HDF5 filter numbers of the dataset.

    Returns:
        Bytes; infinite when a filter's ratio has no known bound.
    """
    ratios = {_GZIP: MAX_RATIO, _LZF: _LZF_RATIO, _SHUFFLE: 1, _FLETCHER32: 1}
    limit = float(stored_bytes)
    for code in codes:
        limit *= ratios.get(code, float("inf"))
    return limit


def check_chunk(raw: bytes, codes: Sequence[int], chunk_bytes: int) -> str | None:
    """Return what is wrong with a stored chunk, or None.

    Args:
        raw: The stored bytes.
        codes: HDF5 numbers of the filters that were used for it, in the order of writing.
        chunk_bytes: Bytes that it must expand to.

    Returns:
        One phrase; None also where a filter's length cannot be told without its library (zstd
        checks its own length).
    """
    length = len(raw)
    for code in reversed(codes):
        if code == _FLETCHER32:
            raw, length = raw[:-_CHECKSUM_BYTES], length - _CHECKSUM_BYTES
        elif code == _GZIP:
            inflater = zlib.decompressobj()
            try:
                raw = inflater.decompress(raw, chunk_bytes + 1)
                inflater.decompress(inflater.unconsumed_tail, 1)
            except zlib.error as error:
                return str(error)
            if not inflater.eof:
                return "it is cut short or expands too far"
            length = len(raw)
        elif code == _LZF:
            length = _lzf_length(raw)
        elif code != _SHUFFLE:
            return None
    return None if length == chunk_bytes else f"it holds {length} of {chunk_bytes} bytes"


def _lzf_length(raw: bytes) -> int:
    length = position = 0
    while position < len(raw):
        control = raw[position]
        if control < 32:  # a run of literals
            length += control + 1
            position += control + 2
            continue
        run = control >> 5
        if run == 7:  # a long back reference has one more length byte
            position += 1
            run += raw[position] if position < len(raw) else 0
        length += run + 2
        position += 2
    return length
