"""Measures of tumour label maps: overlap, surface distance, counts by class.

Labels are 0 background, 1 necrotic or non-enhancing core, 2 oedema, 3 enhancing tumour. Regions
overlap: whole tumour WT (1, 2, 3), tumour core TC (1, 3), enhancing tumour ET (3). Everything but
distances follows exactly from the matrix of voxel counts by true and predicted class.

What a region without a true voxel scores is a convention, never an accident:

* `brats`: nothing predicted either scores Dice 1 and 0 mm; anything predicted scores Dice 0 and
  the diagonal of the challenge's volume, 373.13 mm.
* `nan`: undefined, so that it enters no mean.
* `zero`: Dice 0 and the diagonal, whatever is predicted.

A region that is there and is missed altogether scores Dice 0 and the diagonal in all three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import NeuroError, UsageError

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Empty = Literal["brats", "nan", "zero"]
Definition = Literal["max", "pooled"]

EMPTY_RULES: tuple[str, ...] = get_args(Empty)
CLASSES = ("background", "ncr", "ed", "et")
REGIONS: Mapping[str, tuple[int, ...]] = {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)}
WORST_MM = math.dist((0, 0, 0), (240, 240, 155))
"""What a missed region scores in `hd95`: the diagonal of a challenge volume, 373.13 mm."""
_MAX_CLASSES = 15  # the code of a pair fits in one byte


def label_confusion(truth: Labels, predicted: Labels, n_classes: int = len(CLASSES)) -> Counts:
    """Count voxels by true and predicted class.

    Args:
        truth: Labels 0 .. n_classes - 1, any shape.
        predicted: Labels of the same shape.
        n_classes: K, at most 15.

    Returns:
        (K, K) int64, the true class along rows.

    Raises:
        NeuroError: The shapes differ, or a label is K or more.

    >>> import numpy as np
    >>> label_confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 0], [1, 1]]
    """
    if truth.shape != predicted.shape:
        raise NeuroError(f"labels of {truth.shape} and {predicted.shape} cannot be compared")
    if not 1 <= n_classes <= _MAX_CLASSES:
        raise NeuroError(f"{n_classes} classes; 1 to {_MAX_CLASSES} can be counted")
    for values in (truth, predicted):
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        if low < 0 or high >= n_classes:
            raise NeuroError(f"labels {low} .. {high} are outside 0 .. {n_classes - 1}")
    code = truth.astype(np.uint8, copy=False) * np.uint8(n_classes)
    code += predicted.astype(np.uint8, copy=False)
    found = np.bincount(code.ravel(), minlength=n_classes**2)
    return found.reshape(n_classes, n_classes).astype(np.int64)


def region_counts(confusion: Counts, classes: Sequence[int]) -> tuple[int, int, int]:
    """Return true positives, false positives and false negatives of a union of classes.

    >>> import numpy as np
    >>> region_counts(np.array([[5, 1], [2, 3]]), [1])
    (3, 1, 2)
    """
    inside = np.zeros(len(confusion), dtype=bool)
    inside[list(classes)] = True
    return (
        int(confusion[np.ix_(inside, inside)].sum()),
        int(confusion[np.ix_(~inside, inside)].sum()),
        int(confusion[np.ix_(inside, ~inside)].sum()),
    )


def dice(counts: tuple[int, int, int], empty: str = "brats") -> float:
    """Return the Dice coefficient 2 TP / (2 TP + FP + FN).

    Args:
        counts: True positives, false positives, false negatives.
        empty: One of `EMPTY_RULES`, for a region without a true voxel.

    Raises:
        UsageError: Unknown rule.

    >>> dice((3, 1, 2)), dice((0, 0, 0)), dice((0, 7, 0)), dice((0, 0, 0), "zero")
    (0.6666666666666666, 1.0, 0.0, 0.0)
    """
    hit, extra, missed = counts
    if hit + missed == 0:
        return _of_empty(empty, agrees=extra == 0, best=1.0, worst=0.0)
    return 2 * hit / (2 * hit + extra + missed)


def region_dice(confusion: Counts, empty: str = "brats") -> dict[str, float]:
    """Return the Dice coefficient of every region of `REGIONS`.

    Args:
        confusion: From `label_confusion`.
        empty: One of `EMPTY_RULES`.
    """
    return {
        name: dice(region_counts(confusion, classes), empty) for name, classes in REGIONS.items()
    }


def precision_recall(confusion: Counts, index: int) -> tuple[float, float]:
    """Return TP / (TP + FP) and TP / (TP + FN) of one class; NaN where nothing is divided.

    >>> import numpy as np
    >>> precision_recall(np.array([[5, 1], [2, 3]]), 1)
    (0.75, 0.6)
    """
    hit, extra, missed = region_counts(confusion, [index])
    precision = hit / (hit + extra) if hit + extra else math.nan
    return precision, hit / (hit + missed) if hit + missed else math.nan


def region_mask(labels: Labels, region: str) -> Mask:
    """Return where a region of `REGIONS` is."""
    if region == "wt":
        return np.asarray(labels > 0)
    return np.asarray(np.isin(labels, REGIONS[region]))


def hd95(
    truth: Mask,
    predicted: Mask,
    spacing_mm: Sequence[float],
    *,
    definition: Definition = "max",
    empty: str = "brats",
) -> float:
    """Return the 95th percentile of the distance between two surfaces.

    A surface is what erosion by one voxel (faces) takes away. `max` is the larger of the two
    directed 95th percentiles, as the challenge and MONAI have it; `pooled` is one percentile of all
    distances together, as medpy has it. The two differ on the same pair.

    Args:
        truth: (X, Y, Z).
        predicted: (X, Y, Z).
        spacing_mm: Voxel size.
        definition: Which of the two.
        empty: One of `EMPTY_RULES`, for a region without a true voxel.

    Returns:
        Millimetres; `WORST_MM` where one of the two is absent.

    Raises:
        UsageError: Unknown rule.
    """
    has_truth, has_predicted = bool(truth.any()), bool(predicted.any())
    if not has_truth:
        return _of_empty(empty, agrees=not has_predicted, best=0.0, worst=WORST_MM)
    if not has_predicted:
        return WORST_MM
    there, back = surface_distances(truth, predicted, spacing_mm)
    if definition == "pooled":
        return float(np.percentile(np.concatenate([there, back]), 95))
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def surface_distances(
    truth: Mask, predicted: Mask, spacing_mm: Sequence[float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the distance of each surface voxel of one mask to the surface of the other.

    Args:
        truth: (X, Y, Z), not empty.
        predicted: (X, Y, Z), not empty.
        spacing_mm: Voxel size.

    Returns:
        From the predicted surface to the true one, and back; millimetres.
    """
    from scipy import ndimage

    # The nearest surface voxel lies in the box of both, so distances are the same as outside it.
    box = union_box(truth, predicted)
    edges = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (truth, predicted)]
    found = []
    for source, target in ((edges[1], edges[0]), (edges[0], edges[1])):
        distance = ndimage.distance_transform_edt(~target, sampling=tuple(spacing_mm))
        found.append(np.asarray(distance[source], dtype=np.float64))
    return found[0], found[1]


def union_box(*masks: Mask, margin: int = 0) -> tuple[slice, ...]:
    """Return the smallest box that holds every true voxel of any mask, and a margin around it.

    Args:
        masks: Of one shape, at least one of them not empty.
        margin: Voxels on each side, as far as the array goes.
    """
    box = []
    for axis, length in enumerate(masks[0].shape):
        others = tuple(other for other in range(masks[0].ndim) if other != axis)
        taken = np.flatnonzero(np.logical_or.reduce([mask.any(axis=others) for mask in masks]))
        box.append(slice(max(0, taken[0] - margin), min(length, taken[-1] + 1 + margin)))
    return tuple(box)


def _of_empty(empty: str, *, agrees: bool, best: float, worst: float) -> float:
    if empty == "brats":
        return best if agrees else worst
    if empty == "nan":
        return math.nan
    if empty == "zero":
        return worst
    raise UsageError(
        f"unknown rule '{empty}' for empty regions", hint=f"choices: {', '.join(EMPTY_RULES)}"
    )
