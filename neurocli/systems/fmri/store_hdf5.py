"""Runs in HDF5 of this program: what its files share, packed files and dense files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.buffers import Buffers
from neurocli.core.data.hdf5 import h5_dataset, h5_read, open_h5
from neurocli.core.data.plain_rows import PlainRows, is_plain
from neurocli.core.data.statistics import GlobalStats
from neurocli.core.errors import InputError, NeuroError
from neurocli.systems.fmri.patch_grid import word_sums
from neurocli.systems.fmri.store_base import (
    Float32,
    Mask,
    RunInfo,
    RunStore,
    Shape4,
    check_finite,
)
from neurocli.systems.fmri.store_numbers import decode, decode_residual
from neurocli.systems.fmri.store_write import DENSE_DATA, FRAME_SUMS, PACKED_DATA, RUN_SCHEMA

_of_parents: list[Any] = []
_PART_BYTES = 3 << 20
_KEPT_BYTES = 4 * _PART_BYTES
_AGAIN = "make the file again with `neuro preprocess` or `neuro convert-hdf5`"


class Hdf5Store(RunStore):
    """Read what all three kinds of file share: attributes, scale, maps.

    Args:
        path: The file.
        attributes: Its root attributes.
        person: Subject and participant where the attributes name none.
    """

    data_name = DENSE_DATA
    n_dims = 4

    def __init__(self, path: Path, attributes: Mapping[str, Any], person: tuple[str, str]) -> None:
        super().__init__(path)
        self.attributes = attributes
        self._person = person
        self._open_files: ExitStack | None = None
        self._handle: Any = None
        self._dataset: Any = None
        self._plain: PlainRows | None = None
        self._buffers = Buffers(_KEPT_BYTES)
        self._owner = 0

    def __reduce__(self) -> tuple[Any, ...]:
        # Open handles and cached arrays stay here; the copy opens its own.
        return type(self), (self.path, self.attributes, self._person)

    @property
    def file(self) -> Any:
        """Return the open `h5py.File`, opened on first use in each process."""
        if self._open_files is not None and self._owner != os.getpid():
            self._forget()
        if self._open_files is None:
            with ExitStack() as stack:
                self._handle = stack.enter_context(open_h5(self.path))
                self._open_files = stack.pop_all()
            self._owner = os.getpid()
        return self._handle

    @property
    def data(self) -> Any:
        """Return the checked dataset of the values."""
        file = self.file
        if self._dataset is None:
            self._dataset = h5_dataset(file, self.data_name, n_dims=self.n_dims)
        return self._dataset

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._open_files is not None and self._owner == os.getpid():
            self._open_files.close()
        self._forget()

    def _forget(self) -> None:
        # A handle that was opened before a fork is the parent's: two processes would move one
        # place in the file. It is left to it, neither used nor closed.
        if self._open_files is not None and self._owner != os.getpid():
            _of_parents.append((self._open_files.pop_all(), self._handle, self._dataset))
        if self._plain is not None:
            self._plain.close()
        self._open_files = self._handle = self._dataset = self._plain = None

    def _shape(self) -> Shape4:
        x, y, z, t = (int(length) for length in self.data.shape)
        return x, y, z, t

    @cached_property
    def info(self) -> RunInfo:
        """Return what the attributes say about the run."""
        found = self.attributes
        subject, participant = self._person
        tr_s = found.get("tr_s")
        source = found.get("source_sha256")
        return RunInfo(
            subject=str(found.get("subject", subject)),
            participant=str(found.get("participant", participant)),
            shape=self._shape(),
            tr_s=None if tr_s is None else self._number("tr_s"),
            affine=self._affine(),
            scaling=self._scaling(),
            mask_source=str(found.get("mask_source", "nonzero")),
            space=str(found.get("space", "native")),
            source_sha256=None if source is None else str(source),
        )

    def _scaling(self) -> str:
        return str(self.attributes["scaling"])

    def _number(self, name: str, default: float | None = None) -> float:
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise InputError(self.path, f"attribute {name} is {value!r:.40}", _AGAIN)
        return float(value)

    def _affine(self) -> npt.NDArray[np.float64]:
        affine = np.asarray(self.attributes.get("affine", np.eye(4)))
        if affine.shape != (4, 4) or affine.dtype.kind not in "iuf":
            raise InputError(self.path, f"attribute affine is of shape {affine.shape}", _AGAIN)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise InputError(self.path, "attribute affine is singular or not finite", _AGAIN)
        return affine.astype(np.float64)

    @property
    def background(self) -> float:
        """Return the value outside the mask."""
        return self._number("background", 0.0)

    def _load_stats(self) -> GlobalStats:
        try:
            return GlobalStats.from_mapping(self.attributes)
        except NeuroError as error:
            raise InputError(self.path, error.message, _AGAIN) from error

    @cached_property
    def _sums(self) -> npt.NDArray[Any] | None:
        """Checksums of all frames, which files of chunks do not need."""
        if FRAME_SUMS not in self.file:
            return None
        sums = h5_read(h5_dataset(self.file, FRAME_SUMS, n_dims=1))
        if sums.shape != (self.n_frames,) or sums.dtype != np.uint64:
            raise InputError(self.path, f"{FRAME_SUMS} are {sums.shape} {sums.dtype}", _AGAIN)
        return sums

    def _frames(self, frames: slice) -> npt.NDArray[Any]:
        """Read frames of a dataset whose first axis is time, and compare their checksums."""
        rows = self._rows(range(self.n_frames)[frames])
        if self._sums is not None:
            differing = np.flatnonzero(word_sums(rows) != self._sums[frames])
            if differing.size:
                wanted = range(*frames.indices(self.n_frames))
                check_finite(self._values(rows), self.path, wanted)
                problem = f"is damaged: the checksum of frame {wanted[int(differing[0])]} differs"
                raise InputError(self.path, problem, _AGAIN)
        return rows

    def _rows(self, frames: range) -> npt.NDArray[Any]:
        data = self.data
        if frames.step != 1 or (self._plain is None and not is_plain(data)):
            return h5_read(data, slice(frames.start, frames.stop, frames.step))
        if self._plain is None:
            self._plain = PlainRows(data)
        rows = self._buffers.take((len(frames), *data.shape[1:]), data.dtype)
        self._plain.read_into(rows, frames.start)
        return rows

    def _values(self, stored: npt.NDArray[Any]) -> Float32:
        return decode(stored, self._number("scale_factor", 1.0), self._number("offset", 0.0))

    def _load_mask(self) -> Mask:
        return np.asarray(h5_read(h5_dataset(self.file, "mask", n_dims=3)) != 0)

    def _map(self, name: str, n_dims: int, shape: tuple[int, ...]) -> Float32:
        dataset = h5_dataset(self.file, name, n_dims=n_dims)
        if dataset.shape != shape:
            raise InputError(self.path, f"{name} is {dataset.shape}, {shape} is needed", _AGAIN)
        values = np.asarray(h5_read(dataset), dtype=np.float32)
        if not np.isfinite(values).all():
            raise InputError(self.path, f"{name} holds NaN or Inf", _AGAIN)
        return values


def check_own(store: Hdf5Store) -> None:
    """Refuse a file of ours that is incomplete or contradicts itself.

    Raises:
        InputError: Says what is wrong.
    """
    found, path = store.attributes, store.path
    if found.get("schema") != RUN_SCHEMA:
        raise InputError(
            path, f"is of schema {found.get('schema')!r}", f"this version reads {RUN_SCHEMA}"
        )
    if not found.get("complete"):
        raise InputError(path, "is half written (it is not marked complete)", _AGAIN)
    missing = [name for name in ("subject", "scaling", "affine", "n_frames") if name not in found]
    if missing:
        raise InputError(path, f"lacks the attribute {', '.join(missing)}", _AGAIN)
    if store.shape[3] != found["n_frames"]:
        raise InputError(
            path, f"holds {store.shape[3]} frames and claims {found['n_frames']}", _AGAIN
        )


def frames_at_once(data: Any) -> int:
    """Return how many frames of a dataset, time first, are best read in one call."""
    return max(1, int(_PART_BYTES // (data.dtype.itemsize * np.prod(data.shape[1:]))))


class PackedStore(Hdf5Store):
    """Read `bold` (T, V): one contiguous read per window."""

    data_name = PACKED_DATA
    n_dims = 2

    def _shape(self) -> Shape4:
        x, y, z = h5_dataset(self.file, "mask", n_dims=3).shape
        return int(x), int(y), int(z), int(self.data.shape[0])

    @property
    def is_proven_finite(self) -> bool:
        """Tell whether checksums show it: the writer refuses other values."""
        return self._sums is not None

    def _load_mask(self) -> Mask:
        mask = super()._load_mask()
        if np.count_nonzero(mask) != self.data.shape[1]:
            raise InputError(
                self.path,
                f"the mask holds {np.count_nonzero(mask)} voxels, the data {self.data.shape[1]}",
                _AGAIN,
            )
        return mask

    def _read(self, frames: range) -> Float32:
        values = np.empty((len(frames), self.data.shape[1]), dtype=np.float32)
        # A few frames at a time stay in the processor's cache from reading to widening.
        step = frames_at_once(self.data)
        for first in range(0, len(frames), step):
            part = frames[first : first + step]
            stored = self._frames(slice(part.start, part.stop, part.step))
            values[first : first + step] = self._values(stored)
        return values

    @cached_property
    def _residual(self) -> tuple[Float32, Float32] | None:
        if "residual_step" not in self.file:
            return None
        shape = (int(self.data.shape[1]),)
        return self._map("residual_mean", 1, shape), self._map("residual_step", 1, shape)

    def _values(self, stored: npt.NDArray[Any]) -> Float32:
        if self._residual is not None:
            return decode_residual(stored, *self._residual)
        return super()._values(stored)

    def _load_moments(self) -> tuple[Float32, Float32]:
        shape = (int(self.data.shape[1]),)
        return self._map("voxel_mean", 1, shape), self._map("voxel_std", 1, shape)


class DenseStore(Hdf5Store):
    """Read `fmri_data` (X, Y, Z, T) of ours."""

    @cached_property
    def _inside(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self.mask)

    def _volumes(self, frames: range) -> Iterator[npt.NDArray[Any]]:
        if self.data.chunks is not None and self.data.chunks[3] == 1:
            for index in frames:
                yield h5_read(self.data, np.s_[:, :, :, index])
            return
        # Frames are interleaved: one read of the whole range touches each stored byte once.
        block = h5_read(self.data, np.s_[:, :, :, frames.start : frames.stop])
        for offset in range(0, frames.stop - frames.start, frames.step):
            yield block[..., offset]

    def _read(self, frames: range) -> Float32:
        values = np.empty((len(frames), len(self._inside)), dtype=self.data.dtype)
        for row, volume in zip(values, self._volumes(frames), strict=True):
            np.take(volume.reshape(-1), self._inside, out=row, mode="clip")
        return self._values(values)

    def _load_mask(self) -> Mask:
        mask = super()._load_mask()
        if mask.shape != self.data.shape[:3]:
            raise InputError(
                self.path, f"mask {mask.shape} and data {self.data.shape} differ", _AGAIN
            )
        return mask

    def _load_moments(self) -> tuple[Float32, Float32]:
        shape = tuple(self.data.shape[:3])
        mean, std = (self._map(name, 3, shape) for name in ("voxel_mean", "voxel_std"))
        return mean[self.mask], std[self.mask]
