"""Read the raw files of one case and judge them before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocli.core.data.geometry import grid_text, same_grid
from neurocli.core.data.nifti import ImageHeader, read_image
from neurocli.core.errors import InputError
from neurocli.systems.brats.blocks import LABEL_VALUES, MODALITIES

Float32 = npt.NDArray[np.float32]

_ENHANCING = 3
_LARGEST_INT16 = 32767
_SATURATED_SHARE = 5e-3  # of the brain; a scaled image reaches the maximum in a few voxels only
_NEGATIVE_SHARE = 1e-2  # of the volume; resampling leaves a few negative voxels
_OUTSIDE_SHARE = 0.2  # of the tumour
_FEW_VALUES = 6


@dataclass(frozen=True)
class RawCase:
    """Hold the volumes of a case as stored.

    Args:
        images: Contrast -> (X, Y, Z) float32.
        label: (X, Y, Z) uint8, classes 0 .. 3; None without labels.
        header: Of the first contrast; all share its grid.
        notes: What the user should know.
    """

    images: Mapping[str, Float32]
    label: npt.NDArray[np.uint8] | None
    header: ImageHeader
    notes: list[str] = field(default_factory=list)


def read_case(files: Mapping[str, str], labels: str) -> RawCase:
    """Read and judge the files of a case.

    Args:
        files: Contrast or "seg" -> path.
        labels: Which values the label file may hold, a key such as "et4".

    Raises:
        InputError: A file is damaged or holds NaN; grids differ; a background is negative; an
            image looks like labels or labels like an image; a label value is unknown; the labels
            lie outside the brain.
    """
    images: dict[str, Float32] = {}
    notes: list[str] = []
    first: ImageHeader | None = None
    for name in MODALITIES:
        path = Path(files[name])
        header, values = read_image(path, n_dims=3)
        first = first or header
        _check_grid(header, first)
        _check_image(path, name, values, notes)
        images[name] = values
    assert first is not None  # there are four contrasts
    label = None
    if "seg" in files:
        path = Path(files["seg"])
        header, values = read_image(path, n_dims=3)
        _check_grid(header, first)
        label = _classes(path, values, labels)
        _check_place(path, label, images)
        if not (label == _ENHANCING).any():
            notes.append("no enhancing tumour")
    return RawCase(images, label, first, notes)


def stored_values(label: npt.NDArray[np.uint8], labels: str) -> npt.NDArray[np.uint8]:
    """Return classes 0 .. 3 as the values a label file holds.

    Args:
        label: Classes.
        labels: Which values, a key such as "et4".
    """
    return np.asarray(LABEL_VALUES[labels], dtype=np.uint8)[label]


def _check_grid(header: ImageHeader, first: ImageHeader) -> None:
    if same_grid(header.shape, header.affine, first.shape, first.affine):
        return
    own, other = (grid_text(each.shape, each.affine) for each in (header, first))
    if own == other:
        moved = float(np.linalg.norm((header.affine - first.affine)[:3, 3]))
        own, other = f"{own}, moved by {moved:.3g} mm or turned", "as it should be"
    raise InputError(
        header.path,
        f"lies on another grid ({own}) than {first.path.name} ({other})",
        "register and resample the contrasts to one grid first",
    )


def _check_image(path: Path, name: str, values: Float32, notes: list[str]) -> None:
    brain = values > 0
    n_brain = int(brain.sum())
    if n_brain == 0:
        raise InputError(path, "holds no voxel above 0", "give the image of a brain")
    low, high = float(values.min()), float(values.max())
    if high <= 4 and len(np.unique(values)) <= _FEW_VALUES:
        raise InputError(
            path, f"holds only labels (0 .. {high:g}), not a {name} image", "are files swapped?"
        )
    if low < 0:
        _check_negative(path, values, low, notes)
    if high >= _LARGEST_INT16:
        share = float((values == high).sum()) / n_brain
        if share > _SATURATED_SHARE:
            raise InputError(
                path,
                f"{100 * share:.2g} % of the brain holds the largest value {high:g}: cut off",
                "export it again without scaling to the full range",
            )
        notes.append(f"{name} reaches {high:g}, scaled to the full range of int16")


def _check_negative(path: Path, values: Float32, low: float, notes: list[str]) -> None:
    share = float((values < 0).mean())
    if share > _NEGATIVE_SHARE:
        raise InputError(
            path,
            f"{100 * share:.2g} % of its voxels are negative (down to {low:g}); the background "
            "must be 0",
            "skull-strip it, and set what is outside the brain to 0",
        )
    notes.append("some negative voxels count as background")


def _classes(path: Path, values: Float32, labels: str) -> npt.NDArray[np.uint8]:
    allowed = LABEL_VALUES[labels]
    found = np.unique(values)
    if len(found) > _FEW_VALUES:
        raise InputError(
            path, f"holds {len(found)} values, an image and not labels", "are files swapped?"
        )
    unknown = [f"{value:g}" for value in found if value not in allowed]
    if unknown:
        fix = "if they follow another year's values, prepare them with --set labels=et3 or et4"
        raise InputError(
            path,
            f"holds label {', '.join(unknown)}; allowed are {' '.join(map(str, allowed))}",
            fix,
        )
    table = np.zeros(max(allowed) + 1, dtype=np.uint8)
    table[list(allowed)] = range(len(allowed))
    return np.asarray(table[values.astype(np.intp)], order="F")


def _check_place(path: Path, label: npt.NDArray[np.uint8], images: Mapping[str, Float32]) -> None:
    tumour = label > 0
    n_tumour = int(tumour.sum())
    if n_tumour == 0:
        return
    dark = np.logical_and.reduce([image[tumour] <= 0 for image in images.values()])
    share = float(dark.sum()) / n_tumour
    if share > _OUTSIDE_SHARE:
        raise InputError(
            path,
            f"{100 * share:.0f} % of its tumour lies outside the brain",
            "is it of another patient, or flipped?",
        )
