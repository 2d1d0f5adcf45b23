"""Judge from its description how an HDF5 dataset is stored, before a number of it is read.

Three states would be read as zeros without a word: never written, half written, and a virtual
dataset without its source. Two read foreign bytes: storage in other files, and chunks that expand
to less than their size, which the library tops up with whatever its memory held.
"""

from __future__ import annotations

import math
from typing import Any

from neurocli.core.data.chunks import check_chunk, expanded_limit
from neurocli.core.errors import InputError

MAX_CHUNK_BYTES = 256 << 20
ZSTD_FILTER = 32015
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf", ZSTD_FILTER: "zstd"}
REBUILD = "make the file again from its source"


def is_number(dtype: Any) -> bool:
    """Tell whether a stored type is a real number or bool of at most eight bytes."""
    return bool(dtype.kind in "iufb" and dtype.itemsize <= 8)


def filter_codes(dataset: Any) -> list[int]:
    """Return the HDF5 numbers of a dataset's filters in the order of writing."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]


def check_dataset(dataset: Any, where: str, n_dims: int | None) -> None:
    """Check kind, filters and completeness of a dataset.

    Args:
        dataset: The `h5py.Dataset`.
        where: File and dataset, for errors.
        n_dims: Number of axes it must have; None for any.

    Raises:
        InputError: It may not be read; says why.
    """
    _check_kind(dataset, where, n_dims)
    _check_filters(dataset, where)
    _check_storage(dataset, where)


def _check_kind(dataset: Any, where: str, n_dims: int | None) -> None:
    shape, dtype = dataset.shape, dataset.dtype
    if not is_number(dtype):
        raise InputError(where, f"holds {dtype}, real numbers are needed", REBUILD)
    if shape is None or 0 in shape:
        raise InputError(where, "is empty", REBUILD)
    if n_dims is not None and len(shape) != n_dims:
        text = "x".join(map(str, shape)) or "one number"
        raise InputError(where, f"has {len(shape)} axes ({text}), {n_dims} are needed", REBUILD)


def _check_filters(dataset: Any, where: str) -> None:
    if dataset.is_virtual or dataset.external:
        raise InputError(where, "takes its numbers from other files", REBUILD)
    for code in filter_codes(dataset):
        if code not in FILTERS:
            known = ", ".join(FILTERS.values())
            raise InputError(where, f"is stored with filter {code}", f"known are: {known}")


def _check_storage(dataset: Any, where: str) -> None:
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.chunks is None:
        stored = dataset.id.get_storage_size()
        if stored < claimed:
            raise InputError(where, f"is half written: {stored} of {claimed} bytes", REBUILD)
        return
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk_bytes > MAX_CHUNK_BYTES:
        problem = f"has chunks of {chunk_bytes} bytes, the limit is {MAX_CHUNK_BYTES}"
        raise InputError(where, problem, "store it again with one frame per chunk")
    sides = zip(dataset.shape, dataset.chunks, strict=True)
    expected = math.prod(-(-length // side) for length, side in sides)
    present = 0
    # The library walks the index of all chunks to count them; one that the file has no room for
    # would keep it busy for minutes.
    if expected <= dataset.file.id.get_filesize():
        limit = expanded_limit(dataset.id.get_storage_size(), filter_codes(dataset))
        present = dataset.id.get_num_chunks() if claimed <= limit else 0
    if present != expected:
        problem = f"is half written: a part of its {claimed} bytes is not stored"
        raise InputError(where, problem, REBUILD)


def check_every_chunk(dataset: Any, where: str) -> None:
    """Inflate every chunk of a dataset once and compare its length with what it must be.

    Args:
        dataset: The `h5py.Dataset`, already through `check_dataset`.
        where: File and dataset, for errors.

    Raises:
        InputError: A chunk is damaged or of another length; names its place.
    """
    if dataset.chunks is None:
        return
    chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    codes = filter_codes(dataset)
    offsets: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(lambda info: offsets.append(tuple(info.chunk_offset)))
    for offset in offsets:
        skipped, raw = dataset.id.read_direct_chunk(offset)
        used = [code for index, code in enumerate(codes) if not skipped >> index & 1]
        problem = check_chunk(raw, used, chunk_bytes)
        if problem:
            raise InputError(where, f"chunk at {offset} is damaged: {problem}", REBUILD)
