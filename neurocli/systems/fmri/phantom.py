"""A brain for synthetic runs: one template, and people whose anatomy differs from it.

The template is the MNI152 T1 image that nilearn carries, averaged to 4 mm, or an analytic head
(nested ellipsoids) where nilearn is absent. A person is the template seen through a small affine
change and a smooth warp, with a smooth receive field of its own. All randomness enters as
standard normal numbers, so that relatives can share a part of them.

Letters: X Y Z space, V the voxels of the grid in C order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
BrainKind = Literal["mni152", "head"]

GRID = (24, 24, 24)
SPACING_MM = 8.0
# The grid is centred on the brain, which in MNI152 space reaches further back than forward.
AFFINE = np.array(
    [[8.0, 0, 0, -92.0], [0, 8.0, 0, -108.0], [0, 0, 8.0, -87.0], [0, 0, 0, 1.0]], dtype=np.float64
)
N_WAVES = 6
N_ANATOMY = 9 + 5 * N_WAVES
"""Standard normal numbers that describe one anatomy: affine, warp (3 fields) and receive field."""

_TEMPLATE_STEP = 4
_SCALE_SD, _TURN_SD, _SHIFT_SD_MM = 0.025, 0.03, 2.0
_WARP_MM, _FIELD_SHARE = 2.5, 0.12
_LEVEL, _CONTRAST = 1100.0, 0.45


@dataclass(frozen=True)
class Brain:
    """Hold a template: tissue brightness in [0, 1] and the share of brain in each voxel."""

    tissue_XYZ: Floats
    share_XYZ: Floats
    affine: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Anatomy:
    """Hold one person's brain on the common grid.

    Args:
        mean_XYZ: Mean intensity, 0 outside the brain.
        mask_XYZ: Brain.
        position_V3: Template position of every voxel in mm, where networks are placed.
    """

    mean_XYZ: Floats
    mask_XYZ: npt.NDArray[np.bool_]
    position_V3: Floats


def brain_kind() -> BrainKind:
    """Return which template this installation can offer."""
    return "mni152" if find_spec("nilearn") else "head"


@cache
def template(kind: BrainKind) -> Brain:
    """Return the template brain, made once per process.

    Args:
        kind: "mni152" needs nilearn; "head" is made of ellipsoids.
    """
    return _mni_brain() if kind == "mni152" else _analytic_brain()


def _mni_brain() -> Brain:
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    tissue = _block_mean(np.asarray(image.dataobj, dtype=np.float32), _TEMPLATE_STEP)
    fine = np.asarray(image.dataobj, dtype=np.float32)
    share = _block_mean((fine > 0.2 * float(fine.max())).astype(np.float32), _TEMPLATE_STEP)
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (_TEMPLATE_STEP - 1) / 2)
    affine[:3, :3] *= _TEMPLATE_STEP
    return Brain(tissue / tissue.max(), share, affine)


def _block_mean(volume_XYZ: Floats, step: int) -> Floats:
    trimmed = volume_XYZ[tuple(slice(0, size // step * step) for size in volume_XYZ.shape)]
    x, y, z = (size // step for size in trimmed.shape)
    blocks = trimmed.reshape(x, step, y, step, z, step)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


def _analytic_brain() -> Brain:
    shape = (48, 58, 48)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-94.0, -132.0, -88.0)
    x, y, z = _positions(shape, affine).T.reshape(3, *shape)
    radius = np.sqrt((x / 70) ** 2 + ((y + 17) / 88) ** 2 + ((z - 8) / 68) ** 2)
    ventricle = np.sqrt((x / 18) ** 2 + ((y + 10) / 34) ** 2 + ((z - 12) / 16) ** 2)
    share = np.clip((1.0 - radius) * 12 + 0.5, 0, 1)
    tissue = np.where(radius < 0.82, 0.95, 0.65) * np.where(ventricle < 1, 0.3, 1.0)
    return Brain((tissue * (share > 0)).astype(np.float32), share.astype(np.float32), affine)


def _positions(shape: tuple[int, ...], affine: Floats) -> npt.NDArray[np.float64]:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.asarray(np.einsum("vi,ji->vj", index.reshape(-1, 3), affine[:3, :3]) + affine[:3, 3])


def make_anatomy(normals: Floats, kind: BrainKind) -> Anatomy:
    """Return the brain that a vector of standard normal numbers describes.

    Equal vectors give equal brains; a vector of zeros gives the template itself.

    Args:
        normals: `(N_ANATOMY,)`, unit variance.
        kind: The template.

    Returns:
        Arrays on `GRID`: mean float32, mask bool, positions `(V, 3)` float64 in mm.
    """
    from scipy.ndimage import map_coordinates

    brain = template(kind)
    centre = AFFINE[:3, :3] @ ((np.array(GRID) - 1) / 2) + AFFINE[:3, 3]
    position = _positions(GRID, AFFINE)
    fields = _smooth_fields(position / 100, normals[9:])
    position = np.einsum("vi,ji->vj", position - centre, _small_affine(normals[:6])) + centre
    position = position + _SHIFT_SD_MM * normals[6:9] + _WARP_MM * fields[:, :3]
    inverse = np.linalg.inv(brain.affine)
    index = np.einsum("vi,ji->jv", position, inverse[:3, :3]) + inverse[:3, 3:]
    share = map_coordinates(brain.share_XYZ, index, order=1, mode="constant")
    tissue = map_coordinates(brain.tissue_XYZ, index, order=1, mode="constant")
    mask = (share > 0.5).reshape(GRID)
    # T2*-weighted images show white matter darker than the T1-weighted template does.
    level = _LEVEL * (1 - _CONTRAST * tissue) * np.exp(_FIELD_SHARE * fields[:, 3])
    mean = np.where(mask, level.reshape(GRID), 0.0).astype(np.float32)
    return Anatomy(mean, mask, position)


def _small_affine(normals: Floats) -> Floats:
    a, b, c = _TURN_SD * normals[3:6]
    turn = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    return np.asarray(np.eye(3) + np.diag(_SCALE_SD * normals[:3]) + turn)


def _smooth_fields(position_V3: Floats, normals: Floats) -> Floats:
    """Return 4 unit-variance fields `(V, 4)` as sums of a few slow waves."""
    per_field = normals[: 4 * N_WAVES].reshape(4, N_WAVES)
    phase = normals[4 * N_WAVES :]
    waves = np.stack(
        [
            np.cos(np.einsum("vi,i->v", position_V3, direction) + 2 * phase[index])
            for index, direction in enumerate(_WAVE_DIRECTIONS)
        ]
    )
    return np.asarray(np.einsum("fw,wv->vf", per_field, waves) / np.sqrt(N_WAVES / 2))


_WAVE_DIRECTIONS = 3.0 * np.array(
    [[1, 0, 0.3], [0.2, 1, 0], [0, 0.3, 1], [1, 1, 0], [0, 1, -1], [1, 0, -1]]
)
