"""Open HDF5 files of unknown origin without following them anywhere, and write them whole.

HDF5 can point into other files (external links and storage, virtual datasets), load filter
libraries, and hand out zeros or stale memory where data is absent. Only datasets that lie whole in
the file itself are given out. Writing happens in memory, because a full disk crashes the library;
the same content gives the same bytes.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.source import HEAD_BYTES, foreign_content, open_regular
from neurocli.core.data.storage import (
    MAX_CHUNK_BYTES,
    REBUILD,
    ZSTD_FILTER,
    check_dataset,
    check_every_chunk,
    filter_codes,
    is_number,
)
from neurocli.core.errors import InputError, MissingDependencyError
from neurocli.core.paths import durable_path

# Must stand before the library starts: it stops the search for filter libraries on disk.
os.environ["HDF5_PLUGIN_PRELOAD"] = "::"
import h5py

__all__ = [
    "MAX_CHUNK_BYTES",
    "ZSTD_FILTER",
    "check_chunks",
    "create",
    "h5_attributes",
    "h5_dataset",
    "h5_names",
    "h5_read",
    "has_zstd",
    "open_h5",
    "write_h5",
]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_ATTRIBUTE_BYTES = 1 << 20
_LIBVER = ("v110", "v110")  # "latest" of a newer library could not be read by older ones
_CACHE_BYTES = 32 << 20
_WHOLE_CHUNK_BYTES = 16 << 20
_FAILURES = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)


@contextlib.contextmanager
def open_h5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading.

    Args:
        path: The file; its content decides, not its name.

    Yields:
        The open `h5py.File`. Read it through `h5_dataset` and `h5_attributes`.

    Raises:
        InputError: The file is missing, no HDF5, damaged, or fails while it is read.
    """
    with open_regular(path) as handle:
        head = handle.read(HEAD_BYTES)
    if not head.startswith(SIGNATURE):
        problem, fix = foreign_content(head) or ("is no HDF5 file", "check the file name")
        raise InputError(path, problem, fix)
    try:
        file = h5py.File(os.fspath(path), "r", locking="best-effort", rdcc_nbytes=_CACHE_BYTES)
    except _FAILURES as error:
        raise _damaged(path, "it cannot be opened", error) from error
    try:
        yield file
    except OSError as error:
        raise _damaged(path, "reading failed", error) from error
    finally:
        file.close()


def _damaged(path: str | Path, what: str, error: BaseException) -> InputError:
    text = (str(error).strip().splitlines() or ["out of memory"])[0]
    return InputError(path, f"is a damaged HDF5 file: {what} ({text})", REBUILD)


def h5_dataset(file: Any, name: str, *, n_dims: int | None = None) -> Any:
    """Return a dataset after checking that all its numbers lie in this file.

    Args:
        file: From `open_h5`.
        name: Path of the dataset, e.g. "fmri_data" or "group/data".
        n_dims: Number of axes it must have; None for any.

    Returns:
        The `h5py.Dataset`: numeric, not empty, fully stored, with known filters and chunks of at
        most `MAX_CHUNK_BYTES`.

    Raises:
        InputError: It is absent or not so; names the file, the dataset and the reason.
        MissingDependencyError: It is stored with zstd and the library is absent.
    """
    where = f"{file.filename}:{name}"
    try:
        is_sliced = _check(file, name, where, n_dims)
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        if is_sliced:
            # A cache of chunks that are read once only costs a copy of each.
            access.set_chunk_cache(0, 0, 1.0)
        return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))
    except _FAILURES as error:
        raise _damaged(file.filename, f"dataset {name}", error) from error


def _check(file: Any, name: str, where: str, n_dims: int | None) -> bool:
    """Check a dataset and tell whether each of its chunks is one whole slice, such as a frame."""
    found = _follow(file, name, where)
    check_dataset(found, where, n_dims)
    if ZSTD_FILTER in filter_codes(found) and not has_zstd():
        raise MissingDependencyError(
            "is stored with zstd, which cannot be read here",
            where=where,
            hint="pip install hdf5plugin",
        )
    sides = zip(found.shape, found.chunks or (), strict=False)
    return [side for length, side in sides if side != length] == [1]


def _follow(file: Any, name: str, where: str) -> Any:
    node = file
    for part in name.strip("/").split("/"):
        if not isinstance(node, h5py.Group) or part not in node.keys():  # noqa: SIM118
            raise InputError(where, "there is no such dataset", f"it holds: {_listing(file)}")
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise InputError(where, f"'{part}' is a link to somewhere else", REBUILD)
        node = node[part]
    if not isinstance(node, h5py.Dataset):
        raise InputError(where, "is no dataset", f"it holds: {_listing(file)}")
    return node


def _listing(group: Any) -> str:
    names = [str(name) for name in group.keys()]  # noqa: SIM118
    return ", ".join(names[:8]) or "nothing"


def h5_names(group: Any) -> list[str]:
    """Return the names of what a group itself holds; links to somewhere else are left out.

    Args:
        group: A file or group; anything else holds nothing.

    Raises:
        InputError: The file is damaged.
    """
    if not isinstance(group, h5py.Group):
        return []
    try:
        return [
            str(name)
            for name in group.keys()  # noqa: SIM118
            if isinstance(group.get(name, getlink=True), h5py.HardLink)
        ]
    except _FAILURES as error:
        raise _damaged(group.file.filename, f"group {group.name}", error) from error


def check_chunks(dataset: Any) -> None:
    """Inflate every chunk of a dataset once and check its length.

    Worth its time for files of unknown origin without checksums, once before they are used.

    Args:
        dataset: From `h5_dataset`.

    Raises:
        InputError: A chunk is damaged or of another length; names its place.
    """
    try:
        check_every_chunk(dataset, f"{dataset.file.filename}:{dataset.name}")
    except _FAILURES as error:
        raise _damaged(dataset.file.filename, f"dataset {dataset.name}", error) from error


def h5_read(dataset: Any, selection: Any = ...) -> npt.NDArray[Any]:
    """Read part of a dataset; a failure names the file.

    Args:
        dataset: From `h5_dataset`.
        selection: Slices or indices; everything unless told.

    Returns:
        A new array.

    Raises:
        InputError: The stored bytes are damaged, or do not fit in memory.
    """
    try:
        return np.asarray(dataset[selection])
    except (OSError, RuntimeError, MemoryError) as error:
        raise _damaged(dataset.file.filename, f"dataset {dataset.name}", error) from error


def h5_attributes(file: Any) -> dict[str, Any]:
    """Return the attributes of a file, group or dataset as plain values.

    Args:
        file: From `open_h5`, or a node in it.

    Returns:
        Python numbers, bools and texts; numpy arrays for arrays of numbers; lists of texts. Numbers
        may be NaN. Left out are attributes over 1 MiB and of other kinds, texts of variable length
        among them (`write_h5` stores texts of fixed length).

    Raises:
        InputError: They cannot be read.
    """
    found = {}
    try:
        for name in file.attrs:
            if isinstance(name, str) and _is_readable(file, name):
                found[name] = _plain(file.attrs[name])
    except _FAILURES as error:
        raise _damaged(file.file.filename, "its attributes", error) from error
    return found


def _is_readable(file: Any, name: str) -> bool:
    identifier = h5py.h5a.open(file.id, name.encode("utf-8", "surrogateescape"))
    dtype = identifier.dtype
    text = h5py.check_string_dtype(dtype)
    # Texts of variable length lie in heaps without checksums: one flipped bit there has kept the
    # library in an endless loop.
    is_fixed = text is not None and text.length is not None
    size = math.prod(identifier.shape or (1,)) * dtype.itemsize
    return (is_fixed or is_number(dtype)) and size <= _MAX_ATTRIBUTE_BYTES


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
        return [_plain(item) for item in value.ravel().tolist()]
    return value.item() if isinstance(value, np.generic) else value


def has_zstd() -> bool:
    """Tell whether zstd chunks can be read and written here (the package hdf5plugin brings it)."""
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")
    return bool(h5py.h5z.filter_avail(ZSTD_FILTER))


def create(file: Any, name: str, data: npt.ArrayLike | None = None, **options: Any) -> Any:
    """Create a dataset with checksums and without time stamps.

    Args:
        file: The file under construction.
        name: Name of the dataset.
        data: Its values; None to give `shape` and `dtype` and fill it afterwards.
        options: Further options of h5py's `create_dataset`. `fletcher32` is on unless told, and
            `chunks` is one for all of a small dataset.

    Returns:
        The new `h5py.Dataset`.
    """
    values = None if data is None else np.asarray(data)
    shape = tuple(options["shape"]) if values is None else values.shape
    dtype = np.dtype(options.get("dtype") or (np.float32 if values is None else values.dtype))
    if shape and 0 not in shape:
        is_small = math.prod(shape) * dtype.itemsize <= _WHOLE_CHUNK_BYTES
        options.setdefault("chunks", shape if is_small else True)
        options.setdefault("fletcher32", True)
    return file.create_dataset(name, data=values, track_times=False, **options)


class _Attributes(h5py.AttributeManager):  # type: ignore[misc]
    """Store texts of fixed length, which metadata checksums cover."""

    def create(self, name: str, data: Any, *args: Any, **options: Any) -> None:
        if isinstance(data, str):
            raw = data.encode("utf-8", "surrogateescape")
            data = np.array(raw, dtype=h5py.string_dtype("utf-8", max(len(raw), 1)))
        super().create(name, data, *args, **options)


class _NewFile(h5py.File):  # type: ignore[misc]
    @property
    def attrs(self) -> _Attributes:
        return _Attributes(self)


def write_h5(target: Path, fill: Callable[[Any], None]) -> None:
    """Write an HDF5 file whole or not at all; the same content gives the same bytes.

    Args:
        target: The final name.
        fill: Puts datasets (through `create`) and attributes into the empty file it is given. Texts
            among the file's own attributes are stored as UTF-8 of fixed length.

    Raises:
        NeuroError: The disk is full, read-only or failing; an older file stays intact.
    """
    buffer = io.BytesIO()
    with _NewFile(buffer, "w", libver=_LIBVER) as file:
        fill(file)
    with durable_path(target) as temporary, temporary.open("wb") as handle:
        handle.write(buffer.getbuffer())
