"""Turn one raw case into the cache that training maps: normalised contrasts, classes, centres.

Each contrast is normalised by itself: within its non-zero voxels it is cut off at two percentiles
and brought to mean 0 and (population) standard deviation 1; everything else stays exactly 0.
Statistics are computed in float64 and the result is rounded once, to float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from neurocli.core.data.arrays import write_array
from neurocli.core.data.geometry import axis_codes, voxel_size_mm
from neurocli.core.data.items import Item
from neurocli.core.errors import NeuroError
from neurocli.core.paths import durable_json
from neurocli.systems.brats.blocks import MODALITIES, PreprocessOptions
from neurocli.systems.brats.store import (
    CASE_FILE,
    CENTRES_FILE,
    IMAGE_FILE,
    LABEL_FILE,
    ORIENTATION,
    SCHEMA,
)
from neurocli.systems.brats.volumes import RawCase, read_case

FORMAT_VERSION = "brats-case/1"
"""Changes whenever the output of `process_case` does, the painted cases included."""

_LEAST_STD = 1e-8
_MAX_CENTRES = 10_000  # per class; more would not change what is drawn
Volume = npt.NDArray[Any]


def process_case(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Process one case into a folder.

    Args:
        item: From a finder of this room.
        folder: Private and empty; gets the files that `store` describes.
        options: Values of `PreprocessOptions`.

    Returns:
        Fields for the manifest.

    Raises:
        InputError: See `volumes.read_case`.
        NeuroError: A contrast holds one value only.
    """
    settings = PreprocessOptions.model_validate(dict(options))
    raw, labels = _raw(item)
    turn = _orientation(raw.header.affine)
    images, stats = [], {}
    for name in MODALITIES:
        normalised, stats[name] = normalise(
            raw.images[name], settings.clip_low, settings.clip_high, where=f"{item.subject} {name}"
        )
        images.append(np.ascontiguousarray(reorient(normalised, turn)))
    label = None if raw.label is None else np.ascontiguousarray(reorient(raw.label, turn))
    whole = np.stack(images)
    box = _box(whole, label)
    write_array(folder / IMAGE_FILE, whole[(slice(None), *box)].astype(settings.dtype))
    centres = np.empty((0, 4), dtype=np.int16)
    if label is not None:
        write_array(folder / LABEL_FILE, label[box])
        centres = foreground(label, _seed(settings.seed, item.subject))
    write_array(folder / CENTRES_FILE, centres)
    about = {
        "schema": SCHEMA,
        "subject": item.subject,
        "participant": item.participant,
        "shape": list(whole.shape[1:]),
        "start": [part.start for part in box],
        "spacing_mm": _turned(voxel_size_mm(raw.header.affine), turn),
        "has_label": label is not None,
        "labels": labels,
        "voxels": _counts(label),
        "source": {
            "shape": list(raw.header.shape[:3]),
            "affine": raw.header.affine.tolist(),
            "orientation": axis_codes(raw.header.affine),
        },
        "modalities": list(MODALITIES),
        "normalisation": stats,
    }
    durable_json(folder / CASE_FILE, about)
    files = [CASE_FILE, IMAGE_FILE, CENTRES_FILE, *([LABEL_FILE] if label is not None else [])]
    return {
        "files": files,
        "shape": about["shape"],
        "dtype": settings.dtype,
        "affine": raw.header.affine.tolist(),
        "tr_s": None,
        "stats": {"normalisation": stats, "voxels": about["voxels"]},
        "notes": raw.notes,
    }


def _raw(item: Item) -> tuple[RawCase, str]:
    if item.details["kind"] == "synthetic":
        from neurocli.systems.brats.synthetic import paint_item

        return paint_item(item), "et4"
    labels = str(item.details["labels"])
    return read_case(item.details["files"], labels), labels


def normalise(
    volume: Volume, low: float = 0.5, high: float = 99.5, *, where: str = "volume"
) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
    """Normalise one contrast within its voxels above 0.

    Args:
        volume: (X, Y, Z), raw.
        low: Percentile of the voxels above 0 below which values are cut off.
        high: Percentile above which they are.
        where: Names it in an error.

    Returns:
        (X, Y, Z) float32, 0 where the raw value is not above 0; and `low`, `high`, `mean`, `std`.

    Raises:
        NeuroError: No voxel is above 0.
    """
    mask = volume > 0
    values = volume[mask].astype(np.float64)
    if not values.size:
        raise NeuroError("no voxel is above 0", where=where)
    lowest, highest = np.percentile(values, [low, high])
    np.clip(values, lowest, highest, out=values)
    mean, std = float(values.mean()), max(float(values.std()), _LEAST_STD)
    values -= mean
    values /= std
    result = np.zeros_like(volume, dtype=np.float32)
    result[mask] = values
    found = {"low": float(lowest), "high": float(highest), "mean": mean, "std": std}
    return result, found


def foreground(label: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.int16]:
    """Return class and place of tumour voxels, at most 10,000 of each class, drawn at random.

    Args:
        label: (X, Y, Z), classes.
        seed: Of the draw, the same on any machine.

    Returns:
        (n, 4) int16: class, x, y, z; classes in rising order.
    """
    rows = []
    for index in range(1, 4):
        places = np.argwhere(label == index).astype(np.int16)
        if len(places) > _MAX_CENTRES:
            words = np.random.PCG64(np.random.SeedSequence([seed, index])).random_raw(len(places))
            places = places[np.sort(np.argsort(words, kind="stable")[:_MAX_CENTRES])]
        rows.append(np.insert(places, 0, index, axis=1))
    return np.concatenate(rows).astype(np.int16)


def _seed(seed: int, subject: str) -> int:
    digest = hashlib.sha256(f"{seed} {subject}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _orientation(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how the axes of a file must be turned to be LPS."""
    own = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    wanted = nib.orientations.axcodes2ornt(tuple(ORIENTATION))  # type: ignore[no-untyped-call]
    turn = nib.orientations.ornt_transform(own, wanted)  # type: ignore[no-untyped-call]
    return np.asarray(turn)


def reorient(volume: Volume, turn: npt.NDArray[np.float64]) -> Volume:
    """Return a volume with its axes swapped and flipped."""
    turned = nib.orientations.apply_orientation(volume, turn)  # type: ignore[no-untyped-call]
    return np.asarray(turned)


def to_source(labels: Volume, source: Mapping[str, Any]) -> tuple[Volume, Volume]:
    """Turn a stored volume back to the axes of its file.

    Args:
        labels: (X, Y, Z) in LPS.
        source: `source` of `case.json`.

    Returns:
        The volume on the file's grid, and the file's affine (4, 4).
    """
    affine = np.asarray(source["affine"], dtype=np.float64)
    own = nib.orientations.io_orientation(affine)  # type: ignore[no-untyped-call]
    stored = nib.orientations.axcodes2ornt(tuple(ORIENTATION))  # type: ignore[no-untyped-call]
    turn = nib.orientations.ornt_transform(stored, own)  # type: ignore[no-untyped-call]
    return reorient(labels, np.asarray(turn)), affine


def from_source(volume: Volume, source: Mapping[str, Any]) -> Volume:
    """Turn a volume with the axes of a case's files to LPS.

    Args:
        volume: (X, Y, Z) on the file's grid.
        source: `source` of `case.json`.
    """
    return reorient(volume, _orientation(np.asarray(source["affine"], dtype=np.float64)))


def _turned(spacing: tuple[float, float, float], turn: npt.NDArray[np.float64]) -> list[float]:
    turned = [0.0, 0.0, 0.0]
    for source, target in enumerate(turn[:, 0].astype(int)):
        turned[target] = spacing[source]
    return turned


def _box(images: Volume, label: Volume | None) -> tuple[slice, slice, slice]:
    filled = (images != 0).any(axis=0)
    if label is not None:
        filled |= label > 0
    box = []
    for axis in range(3):
        taken = np.flatnonzero(filled.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(int(taken[0]), int(taken[-1]) + 1))
    return box[0], box[1], box[2]


def _counts(label: npt.NDArray[np.uint8] | None) -> list[int] | None:
    return None if label is None else np.bincount(label.ravel(), minlength=4).tolist()
