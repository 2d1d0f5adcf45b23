"""Runs stored as patches: a window is one plain read in the order of a model's tokens."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.halves import copy_as_float32
from neurocli.core.data.hdf5 import h5_dataset, h5_read
from neurocli.core.errors import InputError
from neurocli.systems.fmri.patch_grid import PatchGrid, Triple, cut_mask
from neurocli.systems.fmri.store_base import Float32, Shape4
from neurocli.systems.fmri.store_hdf5 import Hdf5Store, frames_at_once
from neurocli.systems.fmri.store_write import PATCH_DATA

_AGAIN = "make the file again with `neuro convert-hdf5`"


class PatchStore(Hdf5Store):
    """Read `patches` (T, P, S): kept patches of every frame, in raster order of their places."""

    data_name = PATCH_DATA
    n_dims = 3

    def _shape(self) -> Shape4:
        x, y, z = h5_dataset(self.file, "mask", n_dims=3).shape
        return int(x), int(y), int(z), int(self.data.shape[0])

    @property
    def patch_size(self) -> Triple:
        """Return the voxels of a patch along X, Y, Z.

        Raises:
            InputError: The file does not say, or no sizes.
        """
        size = np.asarray(self.attributes.get("patch_size", ()))
        if size.shape != (3,) or size.dtype.kind not in "iu" or size.min() < 1:
            raise InputError(self.path, f"attribute patch_size is {size.tolist()!r:.40}", _AGAIN)
        height, width, depth = (int(side) for side in size)
        return height, width, depth

    @property
    def dtype(self) -> npt.DTypeLike:
        """Return the dtype of the patches that are read: as stored, float32 of whole numbers."""
        stored: np.dtype[Any] = self.data.dtype
        return stored if stored.kind == "f" else np.float32

    @property
    def at_once(self) -> int:
        """Return how many frames are best read in one call."""
        return frames_at_once(self.data)

    @cached_property
    def cut(self) -> PatchGrid:
        """Return which patches are kept and where voxels lie in them.

        Raises:
            InputError: The patches are not those of the mask.
        """
        found = cut_mask(self.mask, self.patch_size)
        wanted = (self.n_frames, found.n_patches, found.n_voxels)
        places = h5_read(h5_dataset(self.file, "places", n_dims=2))
        if tuple(self.data.shape) != wanted or not np.array_equal(places, found.places):
            raise InputError(
                self.path, f"patches are {self.data.shape}, by the mask {wanted}", _AGAIN
            )
        return found

    @property
    def is_proven_finite(self) -> bool:
        """Tell whether checksums show it: the writer refuses other values."""
        return self._sums is not None

    def read_patches(self, frames: slice) -> npt.NDArray[Any]:
        """Read patches as they are stored.

        Args:
            frames: Start, stop and positive step, within the run.

        Returns:
            (t, P, S), float16 or float32.

        Raises:
            InputError: The file is damaged.
        """
        rows = self._frames(frames)
        return rows if rows.dtype.kind == "f" else self._values(rows)

    def _read(self, frames: range) -> Float32:
        values = np.empty((len(frames), self.n_voxels), dtype=np.float32)
        for first in range(0, len(frames), self.at_once):
            part = frames[first : first + self.at_once]
            rows = self.read_patches(slice(part.start, part.stop, part.step))
            inside = np.take(rows.reshape(len(rows), -1), self.cut.inside, axis=1)
            copy_as_float32(inside, values[first : first + len(rows)])
        return values

    def _load_moments(self) -> tuple[Float32, Float32]:
        shape = (self.n_voxels,)
        return self._map("voxel_mean", 1, shape), self._map("voxel_std", 1, shape)


def place_patches(stored: npt.NDArray[Any], placed: npt.NDArray[Any]) -> None:
    """Copy patches of frames to where tokens want them.

    One frame after another is faster than all in one strided copy, and a patch moved in one piece
    faster than number by number.

    Args:
        stored: (t, P, S), contiguous.
        placed: (P, t, S), each patch contiguous; is filled.
    """
    piece = np.dtype((np.void, stored.shape[2] * stored.itemsize))
    for time, frame in enumerate(stored.view(piece)[..., 0]):
        placed[:, time].view(piece)[..., 0] = frame
