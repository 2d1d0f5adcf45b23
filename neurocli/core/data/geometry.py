"""Grids in world space: compare, name, pad, crop and resample volumes.

A grid is a shape (X, Y, Z) and an affine (4, 4) float64 that maps voxel indices to millimetres in
RAS+ world axes. Only header geometry is used: nothing here registers images to each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.orientations import aff2axcodes

from neurocli.core.errors import NeuroError

_MNI_BOX_MM = (182.0, 218.0, 182.0)  # field of view of the 91 x 109 x 91 template at 2 mm
_LEAST_HEAD_MM, _MOST_VIEW_MM = 100.0, 700.0
_EDGES_MM = (0.05, 40.0)
_MNI_ORIGIN_MM = (90.0, -126.0, -72.0)


def same_grid(
    shape_a: Sequence[int],
    affine_a: npt.ArrayLike,
    shape_b: Sequence[int],
    affine_b: npt.ArrayLike,
    *,
    tolerance_mm: float = 1e-2,
) -> bool:
    """Tell whether two images share their voxels.

    Args:
        shape_a: Shape of one image; only the first three axes count.
        affine_a: Its affine (4, 4).
        shape_b: Shape of the other image.
        affine_b: Its affine (4, 4).
        tolerance_mm: Largest distance of two corresponding corner voxels, 0.01 mm unless told.

    Returns:
        True when shapes are equal and all eight corners agree.
    """
    if tuple(shape_a[:3]) != tuple(shape_b[:3]):
        return False
    ends = [(0, size - 1) for size in shape_a[:3]]
    corners = np.array([(*corner, 1.0) for corner in itertools.product(*ends)])
    difference = np.asarray(affine_a, dtype=np.float64) - np.asarray(affine_b, dtype=np.float64)
    distance_mm = np.linalg.norm((corners @ difference.T)[:, :3], axis=1)
    return bool(np.all(distance_mm <= tolerance_mm))


def voxel_size_mm(affine: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the voxel size along the three axes in millimetres.

    >>> voxel_size_mm([[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
    (2.0, 2.0, 3.0)
    """
    x, y, z = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0).tolist()
    return x, y, z


def doubtful_size(shape: Sequence[int], affine: npt.ArrayLike) -> str | None:
    """Return why a header's voxel size cannot be that of a head, or None.

    Args:
        shape: Of the image; only the first three axes count.
        affine: Voxel indices to millimetres, (4, 4).

    >>> doubtful_size((64, 64, 30), np.eye(4))
    'voxels of 1x1x1 mm make the image 64x64x30 mm: nobody may have filled the size in'
    >>> doubtful_size((64, 64, 30), np.diag([3.75, 3.75, 4, 1])) is None
    True
    """
    edges = voxel_size_mm(affine)
    extents = [edge * length for edge, length in zip(edges, shape, strict=False)]
    is_default = all(abs(edge - 1) < 1e-6 for edge in edges) and max(extents) < _LEAST_HEAD_MM
    is_extreme = not _EDGES_MM[0] <= min(edges) <= max(edges) <= _EDGES_MM[1]
    if not is_default and not is_extreme and max(extents) <= _MOST_VIEW_MM:
        return None
    size, view = ("x".join(f"{length:.3g}" for length in lengths) for lengths in (edges, extents))
    told = "nobody may have filled the size in" if is_default else "a unit may be wrong"
    return f"voxels of {size} mm make the image {view} mm: {told}"


def axis_codes(affine: npt.ArrayLike) -> str:
    """Return the world direction that each voxel axis points to, e.g. "LAS".

    >>> axis_codes([[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    'LAS'
    """
    codes: tuple[str, ...] = aff2axcodes(np.asarray(affine, np.float64))  # type: ignore[no-untyped-call]
    return "".join(codes)


def grid_text(shape: Sequence[int], affine: npt.ArrayLike) -> str:
    """Return a grid as people name it.

    >>> grid_text((50, 50, 34), [[-4, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
    '50x50x34, 4x4x4 mm, LAS'
    """
    size = "x".join(str(length) for length in shape[:3])
    spacing = "x".join(f"{length:.4g}" for length in voxel_size_mm(affine))
    return f"{size}, {spacing} mm, {axis_codes(affine)}"


def padding_to_multiple(shape: Sequence[int], multiple: int | Sequence[int]) -> tuple[int, ...]:
    """Return how many voxels each axis lacks to the next multiple, added at its far end.

    Args:
        shape: Lengths of the axes.
        multiple: One number for all axes, or one per axis; each >= 1.

    Returns:
        One count per axis, 0 where the length is a multiple already.

    Raises:
        NeuroError: A multiple is below 1, or their number differs from the axes.

    >>> padding_to_multiple((91, 109, 91), 6)
    (5, 5, 5)
    """
    multiples = [multiple] * len(shape) if isinstance(multiple, int) else list(multiple)
    if len(multiples) != len(shape) or min(multiples, default=1) < 1:
        raise NeuroError(
            f"cannot pad {tuple(shape)} to multiples of {tuple(multiples)}",
            hint="give one whole number >= 1 for every axis",
        )
    return tuple(-length % step for length, step in zip(shape, multiples, strict=True))


def mni_grid(spacing_mm: float = 2.0) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """Return the grid of the MNI152 template as FSL stores it, at any spacing.

    At 2 mm it is 91 x 109 x 91 with its first axis to the left and the first voxel at
    (90, -126, -72) mm; other spacings keep that voxel and cover the same box.

    Args:
        spacing_mm: Voxel size, > 0.

    Returns:
        Shape, and affine (4, 4) float64.

    Raises:
        NeuroError: The spacing is not a positive number.
    """
    if not 0 < spacing_mm < math.inf:
        raise NeuroError(f"spacing is {spacing_mm} mm", hint="give a number above 0, e.g. 2")
    x, y, z = (math.ceil(length / spacing_mm) for length in _MNI_BOX_MM)
    affine = np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = _MNI_ORIGIN_MM
    return (x, y, z), affine


def resample(
    volume_XYZ: npt.NDArray[Any],
    affine: npt.ArrayLike,
    shape: Sequence[int],
    target_affine: npt.ArrayLike,
    *,
    order: int = 1,
    fill: float = 0.0,
) -> npt.NDArray[np.float32]:
    """Interpolate a volume on another grid of the same world space.

    Args:
        volume_XYZ: Values (X, Y, Z), numeric or bool.
        affine: Its affine (4, 4).
        shape: Shape of the target grid.
        target_affine: Affine (4, 4) of the target grid.
        order: Spline order 0 .. 5: 0 for labels and masks, 1 linear, 3 cubic.
        fill: Value outside the source's field of view.

    Returns:
        Values on the target grid, float32.

    Raises:
        NeuroError: The source affine cannot be inverted.
    """
    from scipy import ndimage  # a third of a second that most runs do not need

    try:
        to_source = np.linalg.inv(np.asarray(affine, dtype=np.float64)) @ np.asarray(target_affine)
    except np.linalg.LinAlgError as error:
        raise NeuroError("the affine is singular", hint="repair the image's orientation") from error
    result: npt.NDArray[np.float32] = ndimage.affine_transform(
        np.asarray(volume_XYZ, dtype=np.float32),
        to_source[:3, :3],
        offset=to_source[:3, 3],
        output_shape=tuple(shape),
        order=order,
        mode="constant",
        cval=fill,
    )
    return result


def crop_box(mask: npt.NDArray[Any]) -> tuple[slice, ...]:
    """Return the smallest box that holds every True voxel, one slice per axis.

    Raises:
        NeuroError: No voxel is True.
    """
    inside = np.asarray(mask).astype(bool, copy=False)
    if not inside.any():
        raise NeuroError("the mask is empty", hint="give a mask with at least one voxel")
    box = []
    for axis in range(inside.ndim):
        others = tuple(other for other in range(inside.ndim) if other != axis)
        taken = np.flatnonzero(inside.any(axis=others))
        box.append(slice(int(taken[0]), int(taken[-1]) + 1))
    return tuple(box)
