"""Small runs on disk for the tests of preparation."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np

from neurocli.core.data.items import Item
from neurocli.systems.fmri.config import PreprocessOptions

AFFINE = np.array(
    [[-3.0, 0, 0, 30.0], [0, 3.0, 0, -40.0], [0, 0, 3.5, -20.0], [0, 0, 0, 1]], dtype=np.float64
)
SHAPE = (20, 22, 18)


def options(**chosen: Any) -> dict[str, Any]:
    """Return preprocess options as the command line hands them on."""
    return PreprocessOptions(**chosen).model_dump(mode="json")


def ball(shape: tuple[int, ...] = SHAPE, radius: float = 0.35) -> np.ndarray:
    """Return a ball in the middle of a grid."""
    axes = [np.linspace(-0.5, 0.5, n) if n > 1 else np.zeros(1) for n in shape]
    grid = np.meshgrid(*axes, indexing="ij")
    return np.sqrt(sum(axis**2 for axis in grid)) < radius


def bold(
    shape: tuple[int, ...] = SHAPE, n_frames: int = 8, *, seed: int = 0, outside: float = 20.0
) -> np.ndarray:
    """Return a run: a bright ball with noise in faint, noisy air."""
    random = np.random.default_rng(seed)
    air = outside * random.random((*shape, n_frames))
    brain = (
        900
        + 60 * random.standard_normal((*shape, 1))
        + 12 * random.standard_normal((*shape, n_frames))
    )
    return np.where(ball(shape)[..., None], brain, air).astype(np.float32)


def write_nifti(
    path: Path, values: np.ndarray, *, affine: np.ndarray = AFFINE, tr_s: float | None = 2.0
) -> Path:
    """Write an image with nibabel, our referee for what a NIfTI file is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    if values.ndim == 4 and tr_s is not None:
        image.header["pixdim"][4] = tr_s
    elif values.ndim == 4:
        image.header["pixdim"][4] = 0
    nib.save(image, path)
    return path


def cut_gzip(path: Path, share: float = 0.6) -> None:
    """Cut the end off a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip_voxel(path: Path) -> None:
    """Change one voxel of a .nii.gz and keep the old checksum, as a flipped bit on disk does."""
    content = path.read_bytes()
    raw = bytearray(gzip.decompress(content))
    raw[len(raw) // 2] ^= 1
    damaged = gzip.compress(bytes(raw), mtime=0)
    path.write_bytes(damaged[:-8] + content[-8:])


def item_of(path: Path, **details: Any) -> Item:
    """Return an item for one file."""
    name = path.name.partition(".")[0]
    return Item(name, name, (path,), {"kind": "nifti", **details})


def write_foreign(
    path: Path, values: np.ndarray, attributes: Mapping[str, Any] | None = None, **storage: Any
) -> Path:
    """Write `fmri_data` as older converters do."""
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("fmri_data", data=values, **storage)
        for key, value in (attributes or {}).items():
            file.attrs[key] = value
    return path
