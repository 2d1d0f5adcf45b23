"""Made-up tumours with known truths, painted in four contrasts.

What is true, and nothing else:

* FLAIR is brighter in the whole tumour. It is the only contrast that shows oedema.
* T1ce is brighter in enhancing tumour and darker in the necrotic core. It is the only contrast
  that tells the two apart, or either of them from oedema.
* T1 and T2 show anatomy: tissue and ventricles. They say nothing of the tumour.
* What misleads: bright vessels in T1ce and a bright rim in FLAIR, both outside the tumour; gain and
  shading of each scan; noise.

Of every twelve cases one has no enhancing tumour, one has two tumours, one reaches the edge of the
brain and one has a far island of enhancing tumour. A case is a function of (seed, index) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.items import Item
from neurocli.core.data.nifti import ImageHeader, write_image
from neurocli.systems.brats.blocks import MODALITIES
from neurocli.systems.brats.volumes import RawCase, stored_values

Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.uint8]

_BLOCK = 12
_NO_ENHANCING, _TWO, _AT_EDGE, _ISLAND = 4, 7, 9, 10
_LEVEL = {"t1": 500.0, "t1ce": 520.0, "t2": 450.0, "flair": 400.0}
_TISSUE = {"t1": 0.15, "t1ce": 0.12, "t2": -0.12, "flair": -0.08}
_VENTRICLE = {"t1": -0.5, "t1ce": -0.5, "t2": 0.8, "flair": -0.55}
_TUMOUR: dict[str, tuple[float, float, float]] = {  # added in classes 1, 2, 3
    "t1": (0.0, 0.0, 0.0),
    "t1ce": (-0.3, 0.0, 0.55),
    "t2": (0.0, 0.0, 0.0),
    "flair": (0.5, 0.55, 0.5),
}
_NOISE = 0.05
_SHADING = 0.12

LAYOUTS = ("brats2018", "brats2021", "brats2023")
_NEW_WORDS = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}


@dataclass(frozen=True)
class CohortSpec:
    """Say which cohort: every case follows from these values and an index.

    Args:
        seed: Any whole number.
        n_cases: Cases in the cohort.
        shape: Voxels.
        spacing_mm: Edge of a voxel.
    """

    seed: int = 0
    n_cases: int = 12
    shape: tuple[int, int, int] = (64, 64, 48)
    spacing_mm: float = 3.0

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """Return the affine of every case: axes to left, posterior, superior."""
        step = self.spacing_mm
        affine = np.diag([-step, -step, step, 1.0])
        affine[1, 3] = (self.shape[1] - 1) * step
        return affine


def case_name(index: int) -> str:
    """Return the name of a case.

    >>> case_name(0)
    'case-0001'
    """
    return f"case-{index + 1:04d}"


def paint_case(index: int, spec: CohortSpec) -> tuple[dict[str, npt.NDArray[np.int16]], Labels]:
    """Paint one case.

    Args:
        index: From 0.
        spec: The cohort.

    Returns:
        Contrast -> (X, Y, Z) int16 with a background of exactly 0, and classes (X, Y, Z) 0 .. 3.
    """
    random = np.random.default_rng(np.random.SeedSequence((spec.seed, index)))
    place = _coordinates(spec.shape)
    brain = _ball(place, np.zeros(3), 0.86 + 0.04 * random.random(3))
    ventricles = _ball(np.abs(place - [0, 0.05, 0.05]), np.array([0.13, 0, 0]), (0.08, 0.3, 0.16))
    label = _tumour(index % _BLOCK, place, brain, random)
    tissue = _smooth(random.standard_normal(spec.shape), 2.0)
    vessels = brain & (label == 0) & (_smooth(random.standard_normal(spec.shape), 1.0) > 2.6)
    rim = brain & ~_ball(place, np.zeros(3), (0.8, 0.8, 0.8)) & (label == 0)
    images = {}
    for name in MODALITIES:
        level = 1 + _TISSUE[name] * tissue
        level[ventricles & (label == 0)] += _VENTRICLE[name]
        for kind, change in enumerate(_TUMOUR[name], start=1):
            level[label == kind] += change
        if name == "t1ce":
            level[vessels] += 0.5
        if name == "flair":
            level[rim] += 0.35
        shade = np.exp(_SHADING * _wave(place, random))
        noise = _NOISE * random.standard_normal(spec.shape)
        gain = _LEVEL[name] * np.exp(0.2 * random.standard_normal())
        values = np.rint(gain * np.maximum(level * shade + noise, 0.02)).astype(np.int16)
        images[name] = np.where(brain, np.maximum(values, 1), 0).astype(np.int16)
    return images, label


def _coordinates(shape: tuple[int, int, int]) -> Floats:
    """Return the place of every voxel, (X, Y, Z, 3), each axis from -1 to 1."""
    axes = [(np.arange(length) + 0.5) / length * 2 - 1 for length in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _ball(place: Floats, centre: Floats, radii: Any) -> npt.NDArray[np.bool_]:
    return np.asarray((((place - centre) / np.asarray(radii)) ** 2).sum(axis=-1) <= 1)


def _tumour(
    slot: int, place: Floats, brain: npt.NDArray[np.bool_], random: np.random.Generator
) -> Labels:
    label = np.zeros(brain.shape, dtype=np.uint8)
    n_tumours = 2 if slot == _TWO else 1
    for number in range(n_tumours):
        side = 1 if (random.random() < 0.5) != bool(number) else -1
        distance = 0.78 if slot == _AT_EDGE else 0.25 + 0.2 * random.random()
        angle = np.pi * (random.random() - 0.5)
        centre = distance * np.array([side * np.cos(angle), np.sin(angle), 0.0])
        centre[2] = 0.5 * (random.random() - 0.5)
        size = (0.22 + 0.08 * random.random()) / (1.25 if n_tumours > 1 else 1.0)
        # Oedema lies off the core by chance, so that the core does not tell where it is.
        shift = 0.45 * size * (2 * random.random(3) - 1)
        bumps = 1 + 0.25 * _wave(place, random)
        swelling = size * 1.55 * bumps
        core = size * (1 + 0.2 * _wave(place, random))
        for kind, middle, radius in (
            (2, centre + shift, swelling),
            (3, centre, core),
            (1, centre, 0.68 * core),
        ):
            inside = ((place - middle) ** 2).sum(axis=-1) <= radius**2
            label[inside & brain] = 1 if slot == _NO_ENHANCING and kind == 3 else kind
        if slot == _ISLAND:
            label[_ball(place, -centre, (0.09, 0.09, 0.12)) & brain] = 3
    return label


def _wave(place: Floats, random: np.random.Generator) -> Floats:
    """Return a slow field (X, Y, Z) of mean 0 and standard deviation about 1."""
    field = np.zeros(place.shape[:3])
    for _ in range(3):
        direction = random.standard_normal(3) * 2
        field += np.cos(place @ direction + 2 * np.pi * random.random())
    return np.asarray(field / np.sqrt(1.5))


def _smooth(noise: Floats, sigma: float) -> Floats:
    from scipy import ndimage

    field = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    return np.asarray(field / field.std())


def paint_item(item: Item) -> RawCase:
    """Paint the case that an item of the built-in cohort names.

    Args:
        item: Its details hold `index`, `seed`, `n_cases`.
    """
    spec = CohortSpec(int(item.details["seed"]), int(item.details["n_cases"]))
    images, label = paint_case(int(item.details["index"]), spec)
    header = ImageHeader(
        path=Path(item.subject),
        shape=spec.shape,
        dtype=np.dtype(np.int16),
        affine=spec.affine,
        zooms_mm=(spec.spacing_mm,) * 3,
        tr_s=None,
        slope=1.0,
        inter=0.0,
        is_gzip=False,
        data_offset=0,
    )
    floats = {name: values.astype(np.float32) for name, values in images.items()}
    return RawCase(floats, label, header)


def write_tree(
    folder: Path, layout: str, spec: CohortSpec, *, with_labels: bool = True, suffix: str = ".nii"
) -> list[Path]:
    """Write a cohort as raw files in the layout of a challenge.

    Args:
        folder: Root of the tree.
        layout: One of `LAYOUTS`.
        spec: The cohort.
        with_labels: Whether label files are written.
        suffix: .nii or .nii.gz.

    Returns:
        The folder of each case.
    """
    folders = []
    for index in range(spec.n_cases):
        images, label = paint_case(index, spec)
        name, home, gap = _place(folder, layout, index)
        is_new = layout == "brats2023"
        for kind in MODALITIES:
            word = _NEW_WORDS[kind] if is_new else kind
            write_image(home / f"{name}{gap}{word}{suffix}", images[kind], spec.affine)
        if with_labels:
            stored = stored_values(label, "et3" if is_new else "et4")
            write_image(home / f"{name}{gap}seg{suffix}", stored, spec.affine)
        folders.append(home)
    return folders


def _place(folder: Path, layout: str, index: int) -> tuple[str, Path, str]:
    if layout == "brats2018":
        grade = "LGG" if index % _BLOCK == _NO_ENHANCING else "HGG"
        name = f"Brats18_TCIA{index % 3 + 1:02d}_{index + 100}_1"
        return name, folder / "MICCAI_BraTS_2018_Data_Training" / grade / name, "_"
    if layout == "brats2021":
        name = f"BraTS2021_{index:05d}"
        return name, folder / "BraTS2021_Training_Data" / name, "_"
    name = f"BraTS-GLI-{index:05d}-000"
    return name, folder / name, "-"
