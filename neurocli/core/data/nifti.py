"""Read NIfTI images frame by frame with checked content, and write them durably.

A gzip file is read to its end, so its checksums vouch for every voxel that is handed out; the last
frame is given only after that. Problems of a file are `InputError`, whatever went wrong inside.
"""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from neurocli.core.data.gzipstream import DamagedStreamError, GzipStream
from neurocli.core.data.nifti_header import DEFAULT_MAX_BYTES, ImageHeader, read_header
from neurocli.core.data.source import open_regular
from neurocli.core.errors import InputError, NeuroError
from neurocli.core.paths import durable_write

__all__ = [
    "DEFAULT_MAX_BYTES",
    "ImageHeader",
    "as_values",
    "iter_frames",
    "iter_stored",
    "read_header",
    "read_image",
    "write_image",
]

Float32 = npt.NDArray[np.float32]
_LOG = logging.getLogger(__name__)
_MAX_TAIL_BYTES = 64 << 20
_MAX_NIFTI1_LENGTH = 32767
_WRITTEN_TYPES = ("float32", "int16", "uint8")


def iter_frames(header: ImageHeader) -> Iterator[Float32]:
    """Yield the volumes of an image in time order, with memory of two of them.

    Values are stored * slope + inter, computed in float64 and rounded to float32. Non-finite values
    pass; the caller decides about them.

    Args:
        header: As read from the file; the file must not have changed since.

    Yields:
        (X, Y, Z) float32, each a new array in the file's (Fortran) order.

    Raises:
        InputError: The file is cut short, damaged or gone; says how many frames were readable.
    """
    for stored in iter_stored(header):
        yield as_values(stored.reshape(header.shape[:3], order="F"), header.slope, header.inter)


def iter_stored(header: ImageHeader) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored numbers of each volume in time order, with memory of one of them.

    Args:
        header: As read from the file; the file must not have changed since.

    Yields:
        (X * Y * Z,) of the stored type, the first axis fastest; the next one overwrites it.

    Raises:
        InputError: The file is cut short, damaged or gone; says how many frames were readable.
    """
    path = header.voxel_path
    n_read = 0
    try:
        with open_regular(path) as handle:
            source = _Source(handle, is_gzip=header.is_gzip)
            source.skip(header.data_offset)
            raw = np.empty(header.frame_bytes, dtype=np.uint8)
            for n_read in range(header.n_frames):
                source.fill(raw.data)
                if n_read + 1 == header.n_frames:
                    source.finish(path)
                yield raw.view(header.dtype)
    except DamagedStreamError as error:
        raise InputError(
            path,
            f"{error}; {n_read} of {header.n_frames} frames were readable",
            "copy or download the file again",
        ) from error
    except MemoryError as error:
        raise InputError(path, f"a volume {header.shape[:3]} exceeds the memory") from error


def as_values(stored: npt.NDArray[Any], slope: float, inter: float) -> Float32:
    """Return stored numbers as values: stored * slope + inter, rounded once to float32.

    Args:
        stored: Any shape and numeric type.
        slope: 1 and `inter` 0 leave the numbers as they are.
        inter: Is added after scaling.

    Returns:
        A new array of the same shape.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if slope == 1 and inter == 0:
            return stored.astype(np.float32)
        scaled = stored * np.float64(slope)
        scaled += inter
        return scaled.astype(np.float32)


class _Source:
    def __init__(self, handle: BufferedReader, *, is_gzip: bool) -> None:
        self._handle = handle
        self._stream = GzipStream(handle) if is_gzip else None

    def skip(self, n_bytes: int) -> None:
        if self._stream is None:
            self._handle.seek(n_bytes)
        elif self._stream.skip(n_bytes) < n_bytes:
            raise DamagedStreamError("the file ends before the first voxel")

    def fill(self, target: memoryview) -> None:
        done = 0
        while done < len(target):
            if self._stream is not None:
                count = self._stream.readinto(target[done:])
            else:
                count = self._handle.readinto(target[done:])
            if not count:
                raise DamagedStreamError("the file is cut short")
            done += count

    def finish(self, path: Path) -> None:
        if self._stream is None:
            return
        tail = self._stream.skip(_MAX_TAIL_BYTES)
        if tail == _MAX_TAIL_BYTES:
            _LOG.warning(
                "%s: over %d bytes behind the voxels; its checksum was not met", path, tail
            )
        elif tail or self._stream.trailing_junk:
            _LOG.warning("%s: there are bytes behind the voxels, which were ignored", path)


def read_image(
    path: Path, *, n_dims: int | None = None, require_finite: bool = True
) -> tuple[ImageHeader, Float32]:
    """Read a whole image.

    Args:
        path: A NIfTI file.
        n_dims: 3 or 4: refuse other images; a series of one frame counts as 3D too. None for both.
        require_finite: Refuse images with NaN or Inf.

    Returns:
        Header, and values (X, Y, Z) or (X, Y, Z, T) float32; `header.shape` is their shape.

    Raises:
        InputError: See `read_header` and `iter_frames`; also wrong dimensions, values that are not
            finite, or too little memory.
    """
    header = read_header(path)
    if n_dims == 3 and len(header.shape) == 4 and header.n_frames == 1:
        header = replace(header, shape=header.shape[:3], tr_s=None)
    if n_dims is not None and len(header.shape) != n_dims:
        text = "x".join(map(str, header.shape))
        fix = "give a series (4D)" if n_dims == 4 else "give a single volume (3D)"
        raise InputError(path, f"is {len(header.shape)}D ({text}), {n_dims}D is needed", fix)
    try:
        values = np.empty(header.shape, dtype=np.float32, order="F")
    except MemoryError as error:
        raise InputError(path, f"{header.shape} values do not fit in memory", "crop it") from error
    n_bad = 0
    for index, frame in enumerate(iter_frames(header)):
        n_bad += frame.size - int(np.isfinite(frame).sum())
        values[(..., index) if values.ndim == 4 else ...] = frame
    if n_bad and require_finite:
        share = 100 * n_bad / values.size
        raise InputError(
            path,
            f"{n_bad} of {values.size} values ({share:.2g} %) are NaN or Inf",
            "replace them first, e.g. with zeros",
        )
    return header, values


def write_image(
    path: Path, array: npt.NDArray[Any], affine: npt.ArrayLike, tr_s: float | None = None
) -> None:
    """Write a NIfTI image whole or not at all; the same values give the same bytes.

    Args:
        path: Ends in .nii or .nii.gz.
        array: (X, Y, Z) or (X, Y, Z, T), float32, int16 or uint8; stored without scaling.
        affine: Voxel indices to millimetres, (4, 4).
        tr_s: Repetition time of a series in seconds; None when unknown.

    Raises:
        NeuroError: The name, the type or the number of axes is another one, or the disk is full.
    """
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        raise NeuroError("is no name of a NIfTI file", where=str(path), hint="end it in .nii.gz")
    if array.dtype.name not in _WRITTEN_TYPES or array.ndim not in (3, 4):
        raise NeuroError(
            f"cannot store a {array.ndim}D array of {array.dtype.name}",
            where=str(path),
            hint=f"give a 3D or 4D array of {', '.join(_WRITTEN_TYPES)}",
        )
    kind: Any = nib.Nifti2Image if max(array.shape) > _MAX_NIFTI1_LENGTH else nib.Nifti1Image
    image = kind(array, np.asarray(affine, dtype=np.float64))
    image.header.set_xyzt_units("mm", "sec")
    if tr_s is not None and array.ndim == 4:
        image.header["pixdim"][4] = tr_s
    content: bytes = image.to_bytes()
    # Neither time nor name enters the gzip header.
    durable_write(path, gzip.compress(content, 6, mtime=0) if name.endswith("gz") else content)
