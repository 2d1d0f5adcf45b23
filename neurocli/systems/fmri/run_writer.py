"""Write a packed run frame by frame, with memory of one frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.hdf5 import create
from neurocli.core.data.hdf5_stream import put_row
from neurocli.core.data.nifti import as_values
from neurocli.core.data.statistics import GlobalStats
from neurocli.systems.fmri.patch_grid import word_sums
from neurocli.systems.fmri.store_base import Float32, Mask, RunInfo, block_frames
from neurocli.systems.fmri.store_write import PACKED_DATA, StoreForm, _attributes

FRAME_SUMS = "frame_sums"
_COMPLETE = "complete"


@dataclass(frozen=True)
class Scale:
    """Say how stored numbers become values: stored * scale_factor + offset."""

    scale_factor: float = 1.0
    offset: float = 0.0


class RunWriter:
    """Fill a new HDF5 file with one run.

    Args:
        file: From `stream_h5`.
        n_frames: T.
        mask: Brain (X, Y, Z).
        dtype: Type of the stored numbers.
    """

    def __init__(self, file: Any, n_frames: int, mask: Mask, dtype: np.dtype[Any]) -> None:
        self._file, self._mask = file, mask
        self.n_voxels = int(np.count_nonzero(mask))
        # Numbers in one piece are read several times as fast as chunks; frame_sums stand in for
        # the checksum that only chunks can carry.
        storage: dict[str, Any] = {"chunks": None, "fletcher32": False, "dtype": dtype}
        self._data = create(file, PACKED_DATA, shape=(n_frames, self.n_voxels), **storage)
        self._dtype = dtype
        self._sums = np.zeros(n_frames, dtype=np.uint64)
        self._n_written = 0

    def add(self, row_V: npt.NDArray[Any]) -> None:
        """Append one frame of stored numbers (V,)."""
        row = np.ascontiguousarray(row_V, dtype=self._dtype)
        put_row(self._data, self._n_written, row)
        self._sums[self._n_written] = word_sums(row[None])[0]
        self._n_written += 1

    def blocks(self, scale: Scale) -> Iterator[Float32]:
        """Yield what was written as blocks of values (t, V)."""
        step = block_frames(self.n_voxels)
        for start in range(0, self._n_written, step):
            stop = min(start + step, self._n_written)
            yield as_values(self._data[start:stop], scale.scale_factor, scale.offset)

    def finish(
        self,
        info: RunInfo,
        *,
        stats: GlobalStats,
        maps: tuple[Float32, Float32],
        scale: Scale,
        background: float,
    ) -> None:
        """Add what is known of the run; the file is complete after that.

        Args:
            info: What is said about the run.
            stats: Statistics of the unscaled run.
            maps: Mean and standard deviation of the values of each voxel, (V,) each.
            scale: How stored numbers become values.
            background: Value outside the mask.
        """
        create(self._file, FRAME_SUMS, self._sums)
        create(self._file, "mask", self._mask.astype(np.uint8))
        for name, values in zip(("voxel_mean", "voxel_std"), maps, strict=True):
            create(self._file, name, values)
        form = StoreForm(layout="packed", dtype="float32")
        said = dict(_attributes(info, form, stats, _NO_ENCODER, background))
        done = said.pop(_COMPLETE)
        for key, value in {**said, **_scale_attributes(scale), _COMPLETE: done}.items():
            self._file.attrs[key] = value


_NO_ENCODER: Any = None  # asked only where the form quantises


def _scale_attributes(scale: Scale) -> Mapping[str, float]:
    if scale == Scale():
        return {}
    return {"scale_factor": float(scale.scale_factor), "offset": float(scale.offset)}
