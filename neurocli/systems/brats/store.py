"""A prepared case on disk: one folder, mapped and never read whole.

`image.npy` (4, x, y, z) holds the normalised contrasts of the brain's box, `label.npy` (x, y, z)
the classes 0 .. 3 there, `foreground.npy` (n, 4) int16 a sample of tumour voxels as class and place
in the whole volume, `case.json` the rest. Outside the box everything is exactly 0, so cutting it
off loses nothing. Volumes are stored with their axes towards left, posterior and superior (LPS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.arrays import open_array
from neurocli.core.data.documents import read_json
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.output import MANIFEST_FILE, describe
from neurocli.core.errors import InputError
from neurocli.systems.brats.blocks import LABEL_VALUES, MODALITIES

SCHEMA = "neuro/brats-case/1"
CASE_FILE, IMAGE_FILE, LABEL_FILE, CENTRES_FILE = (
    "case.json", "image.npy", "label.npy", "foreground.npy",
)  # fmt: skip
ORIENTATION = "LPS"

Triple = tuple[int, int, int]
Image = npt.NDArray[np.floating]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """Hold an opened case.

    Args:
        subject: Its name.
        participant: Whose it is.
        shape: Voxels of the whole volume, in LPS.
        start: First voxel of the stored box.
        image: (4, x, y, z) normalised contrasts of the box, a map of the file.
        label: (x, y, z) uint8 of the box; None without labels.
        centres: (n, 4) class and place of tumour voxels; empty without labels.
        spacing_mm: Voxel size.
        about: `case.json`.
    """

    subject: str
    participant: str
    shape: Triple
    start: Triple
    image: Image
    label: Labels | None
    centres: npt.NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    about: Mapping[str, Any]

    def crop(
        self, start: Sequence[int], size: Sequence[int], channels: Sequence[int]
    ) -> tuple[npt.NDArray[np.float32], Labels]:
        """Copy a part of the volume.

        Args:
            start: Its first voxel.
            size: Its voxels; what lies outside the volume is 0.
            channels: Which contrasts, by their place in `MODALITIES`.

        Returns:
            (C, d, h, w) float32 and (d, h, w) uint8, the latter 0 without labels.
        """
        image = np.zeros((len(channels), *size), dtype=np.float32)
        label = np.zeros(tuple(size), dtype=np.uint8)
        source, target = _overlap(self.start, self.image.shape[1:], start, size)
        for row, channel in zip(image, channels, strict=True):
            row[target] = self.image[channel][source]
        if self.label is not None:
            label[target] = self.label[source]
        return image, label

    def whole(self, channels: Sequence[int]) -> tuple[npt.NDArray[np.float32], Labels]:
        """Return the whole volume, (C, X, Y, Z) float32, and its labels (X, Y, Z) uint8."""
        return self.crop((0, 0, 0), self.shape, channels)


def _overlap(
    start: Sequence[int], size: Sequence[int], other: Sequence[int], length: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the common part of two boxes, as places in the first and in the second."""
    source, target = [], []
    for a, n, b, m in zip(start, size, other, length, strict=True):
        low = max(a, b)
        high = max(low, min(a + n, b + m))
        source.append(slice(low - a, high - a))
        target.append(slice(low - b, high - b))
    return tuple(source), tuple(target)


def open_case(folder: Path) -> Case:
    """Open a prepared case.

    Args:
        folder: As `process_case` fills it.

    Raises:
        InputError: A file is missing, damaged or does not fit the others.
    """
    about = read_json(folder / CASE_FILE)
    if about.get("schema") != SCHEMA:
        raise InputError(
            folder / CASE_FILE, f"is of schema {about.get('schema')!r}", f"{SCHEMA} is needed"
        )
    try:
        shape, start, spacing = (
            tuple(int(n) for n in about["shape"]),
            tuple(int(n) for n in about["start"]),
            tuple(float(n) for n in about["spacing_mm"]),
        )
        names = (str(about["subject"]), str(about["participant"]), bool(about["has_label"]))
        LABEL_VALUES[about["labels"]]
        affine = np.asarray(about["source"]["affine"], dtype=np.float64).reshape(4, 4)
        np.linalg.inv(affine)  # predictions go back through it
    except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
        raise InputError(folder / CASE_FILE, f"lacks or misspells {error}") from error
    image = open_array(folder / IMAGE_FILE, n_dims=4)
    label = open_array(folder / LABEL_FILE, n_dims=3) if names[2] else None
    centres = open_array(folder / CENTRES_FILE, n_dims=2)
    box = image.shape[1:]
    if (
        len(image) != len(MODALITIES)
        or len(shape) != 3
        or any(a < 0 or a + n > whole for a, n, whole in zip(start, box, shape, strict=False))
        or (label is not None and label.shape != box)
    ):
        raise InputError(folder / IMAGE_FILE, "does not fit case.json", "prepare the case again")
    return Case(names[0], names[1], shape, start, image, label, np.asarray(centres), spacing, about)  # type: ignore[arg-type]


def case_folders(folder: Path) -> list[tuple[str, Path]]:
    """List the finished cases of a prepared dataset, sorted by name.

    Args:
        folder: Made by `neuro preprocess`.

    Raises:
        InputError: It is no prepared dataset of this room.
    """
    about = describe(folder)
    if about.get("room") != "brats":
        raise InputError(
            folder,
            "holds no prepared tumour cases",
            "prepare raw ones first: neuro preprocess brats2021 SRC -o DIR",
        )
    found = []
    for subject, record in sorted(Manifest(folder / MANIFEST_FILE).records().items()):
        names = [str(name) for name in record.get("files") or ()]
        # Only names inside the dataset are followed, whatever the manifest says.
        if record.get("status") == "done" and names and ".." not in Path(names[0]).parts:
            found.append((subject, folder / Path(names[0]).parent))
    return found
