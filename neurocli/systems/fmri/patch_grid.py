"""Where the voxels of a brain lie when its grid is cut into patches.

Only patches that touch the brain are kept, in raster order of their places, which is the order of
a model's tokens. The order of a patch's voxels is (h, w, d) row-major. Edge patches reach beyond
the grid as a padded clip does.

Letters: X Y Z the grid, V voxels of the brain, P kept patches, S voxels of one patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import UsageError

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class PatchGrid:
    """Hold the kept patches of a mask.

    Args:
        size: Voxels of a patch along X, Y, Z.
        places: Place of each kept patch on the grid of patches, (P, 3), in raster order.
        inside: Place of each voxel of the brain, in C order of the mask, among the P S kept ones.
    """

    size: Triple
    places: npt.NDArray[np.int16]
    inside: npt.NDArray[np.intp]

    @property
    def n_patches(self) -> int:
        """Return P."""
        return len(self.places)

    @property
    def n_voxels(self) -> int:
        """Return S."""
        return prod(self.size)

    def tokens(self, grid: Sequence[int], n_times: int) -> npt.NDArray[np.bool_]:
        """Return which tokens of a model's raster are kept, (N,), time fastest.

        Args:
            grid: Patches along H, W, D of the model; at least those of the mask.
            n_times: Tokens along T.
        """
        kept = np.zeros(tuple(grid), dtype=bool)
        kept[tuple(self.places.T)] = True
        return np.repeat(kept.ravel(), n_times)


def cut_mask(mask: npt.NDArray[np.bool_], size: Triple) -> PatchGrid:
    """Find the patches that touch a brain.

    Args:
        mask: Brain (X, Y, Z).
        size: Voxels of a patch along X, Y, Z.

    >>> found = cut_mask(np.array([[[0, 0, 1]], [[0, 0, 0]], [[1, 0, 0]]], bool), (2, 1, 2))
    >>> found.places.tolist(), found.inside.tolist()
    ([[0, 0, 1], [1, 0, 0]], [0, 4])
    """
    voxels = np.nonzero(mask)
    counts = tuple(-(-length // side) for length, side in zip(mask.shape, size, strict=True))
    places = tuple(axis // side for axis, side in zip(voxels, size, strict=True))
    offsets = tuple(axis % side for axis, side in zip(voxels, size, strict=True))
    numbers, patch = np.unique(np.ravel_multi_index(places, counts), return_inverse=True)
    inside = patch * prod(size) + np.ravel_multi_index(offsets, size)
    kept = np.stack(np.unravel_index(numbers, counts), axis=1).astype(np.int16)
    return PatchGrid(size, kept, inside.astype(np.intp))


def patch_size(sizes: Sequence[int]) -> Triple:
    """Return the size of a patch in space.

    Args:
        sizes: Voxels along X, Y, Z.

    Raises:
        UsageError: They are not three sizes of at least 1.
    """
    if len(sizes) != 3 or min(sizes) < 1 or max(sizes) > np.iinfo(np.int16).max:
        raise UsageError(
            f"{','.join(map(str, sizes))} is no patch in space",
            where="--patch",
            hint="give three sizes in voxels, such as 6,6,6; a patch in time is the model's",
        )
    height, width, depth = (int(size) for size in sizes)
    return height, width, depth


def word_sums(rows: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """Return one sum of 64-bit words per row, which any flipped bit or missing part changes.

    It costs a tenth of reading; that words changed places it does not see, the manifest's digest
    does.

    Args:
        rows: Stored numbers (t, ...), contiguous.

    Returns:
        (t,) uint64.
    """
    raw = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    whole = raw.shape[1] // 8 * 8
    sums: npt.NDArray[np.uint64] = raw[:, :whole].view("<u8").sum(axis=1, dtype=np.uint64)
    for shift, column in enumerate(raw[:, whole:].T):
        sums += column.astype(np.uint64) << np.uint64(8 * shift)
    return sums
