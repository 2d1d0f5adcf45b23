"""Find the brain in the mean image of a run when no mask is given.

Skull-stripped runs hold exact zeros outside the brain, which is then the mask. Others are cut at a
level between background and head (the fixed point of "half the median of what lies above", Cox
1996), freed of thin bridges where the grid is fine enough for that, reduced to the largest piece
and filled. It finds head tissue that gives signal, not the brain as a tissue model would.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from neurocli.core.data.geometry import grid_text, voxel_size_mm
from neurocli.core.data.nifti import read_image
from neurocli.core.errors import InputError, NeuroError, UsageError

Mask = npt.NDArray[np.bool_]
MIN_VOXELS = 10

_CLIP_SHARE = 0.5
_STRIPPED_ZEROS = 0.2  # of the grid
_STRIPPED_FAINT = 0.3  # of the voxels that are not zero
_STRIPPED_BORDER = 0.5  # of the faces of the grid
_OPENING_MM = 6.0
_OPENING_MAX_SPACING_MM = 5.0
_OPENING_MIN_AXIS = 16


class MaskFile(NamedTuple):
    """Hold a mask that came from a file."""

    mask: Mask
    affine: npt.NDArray[np.float64]
    is_binary: bool

    @property
    def grid(self) -> str:
        """Return its grid as people name it."""
        return grid_text(self.mask.shape, self.affine)


def mask_sources(wanted: str) -> tuple[Path, ...]:
    """Return the file of an explicit mask, whose content counts for what is stale.

    Args:
        wanted: auto, none or a path.

    Raises:
        UsageError: It is neither a word nor a file name.
        InputError: The file is missing.
    """
    if wanted in ("auto", "none"):
        return ()
    path = Path(wanted)
    if not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise InputError(path, "there is no such mask", "give --mask auto, none or a file")
        raise UsageError(
            f"the mask '{wanted}' is no file", where="--mask", hint="give auto, none or a file"
        )
    return (path,)


def read_mask(path: Path) -> MaskFile:
    """Read a mask image: voxels above 0.5 are brain.

    Args:
        path: A 3D NIfTI file, or a series of one frame.

    Raises:
        InputError: The file is damaged, no volume, not finite, or has fewer than `MIN_VOXELS`
            voxels.
    """
    header, values = read_image(path, n_dims=3)
    mask = values > 0.5
    try:
        check_size(mask, header.affine)
    except NeuroError as error:
        raise InputError(path, error.message, "give another --mask, or --mask auto") from error
    return MaskFile(mask, header.affine, bool(np.isin(values, (0, 1)).all()))


def brain_mask(mean_XYZ: npt.NDArray[np.floating], affine: npt.ArrayLike) -> Mask:
    """Return where the brain is.

    Args:
        mean_XYZ: Mean over time, finite, any intensity unit; a single slice is fine.
        affine: Voxel indices to millimetres, (4, 4).

    Returns:
        Bool (X, Y, Z) with at least `MIN_VOXELS` True.

    Raises:
        NeuroError: No brain of that size stands out.
    """
    return choose_mask(mean_XYZ, affine)[0]


def choose_mask(
    mean_XYZ: npt.NDArray[np.floating], affine: npt.ArrayLike
) -> tuple[Mask, Literal["nonzero", "computed"]]:
    """Return where the brain is, and whether exact zeros or a threshold told it.

    Args:
        mean_XYZ: Mean over time.
        affine: Voxel indices to millimetres, (4, 4).

    Returns:
        Bool (X, Y, Z), and the kind.

    Raises:
        NeuroError: Fewer than `MIN_VOXELS` voxels are left.
    """
    is_stripped = looks_stripped(mean_XYZ)
    mask = mean_XYZ != 0 if is_stripped else _threshold_mask(mean_XYZ, affine)
    check_size(mask, affine)
    return mask, "nonzero" if is_stripped else "computed"


def check_size(mask: Mask, affine: npt.ArrayLike) -> None:
    """Refuse a mask that is too small to be a brain.

    Raises:
        NeuroError: Fewer than `MIN_VOXELS` voxels are True.
    """
    count = int(np.count_nonzero(mask))
    if count < MIN_VOXELS:
        raise NeuroError(
            f"the mask holds {count} voxels of {grid_text(mask.shape, affine)}, "
            f"at least {MIN_VOXELS} are needed",
            hint="give --mask PATH on the run's own grid, or --mask none to take every voxel",
        )


def looks_stripped(mean_XYZ: npt.NDArray[np.floating]) -> bool:
    """Tell whether everything but the brain was set to exact zero.

    Zeros must fill a good part of the grid and most of its faces, and what is left must be tissue:
    an image whose faint background was merely clipped keeps many voxels close to zero.
    """
    inside = mean_XYZ != 0
    if not inside.any() or 1 - inside.mean() < _STRIPPED_ZEROS:
        return False
    bright = float(np.percentile(np.abs(mean_XYZ[inside]), 98))
    faint = float(np.mean(np.abs(mean_XYZ[inside]) < 0.2 * bright))
    faces = [inside.take(end, axis=axis).mean() for axis in _long_axes(inside) for end in (0, -1)]
    return faint < _STRIPPED_FAINT and float(np.mean(faces or [0.0])) < _STRIPPED_BORDER


def _long_axes(volume: npt.NDArray[np.generic]) -> list[int]:
    return [axis for axis, length in enumerate(volume.shape) if length > 1]


def clip_level(values: npt.NDArray[np.floating]) -> float:
    """Return a level between background and tissue.

    It is the largest fixed point of "half the median of the values above" that a descent from half
    the root mean square reaches.

    Args:
        values: Intensities, any shape; only positive ones count.

    Returns:
        The level, 0 where nothing is positive.
    """
    positive = values[values > 0].astype(np.float64)
    if positive.size == 0:
        return 0.0
    level = _CLIP_SHARE * float(np.sqrt(np.mean(positive**2)))
    for _ in range(50):
        following = _CLIP_SHARE * float(np.median(positive[positive >= level]))
        if abs(following - level) <= 1e-6 * level:
            break
        level = following
    return level


def _threshold_mask(mean_XYZ: npt.NDArray[np.floating], affine: npt.ArrayLike) -> Mask:
    from scipy import ndimage  # a third of a second that most runs do not need

    # Filters over an axis of length one would see nothing but the outside.
    squeezed = np.squeeze(mean_XYZ)
    if squeezed.ndim == 0:
        return np.asarray(mean_XYZ > 0)
    spacing = np.array(voxel_size_mm(affine))[_long_axes(mean_XYZ)]
    mask = squeezed >= max(clip_level(squeezed), np.finfo(np.float32).tiny)
    steps = int(_OPENING_MM // (2 * spacing.max()))
    is_fine = spacing.max() <= _OPENING_MAX_SPACING_MM and min(mask.shape) >= _OPENING_MIN_AXIS
    if is_fine:
        mask = _largest(ndimage.binary_erosion(mask, iterations=max(1, steps)))
        mask = ndimage.binary_dilation(mask, iterations=max(1, steps))
    mask = ndimage.binary_fill_holes(_largest(mask))
    return np.asarray(mask, dtype=bool).reshape(mean_XYZ.shape)


def _largest(mask: Mask) -> Mask:
    from scipy import ndimage  # a third of a second that most runs do not need

    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == int(sizes.argmax()))
