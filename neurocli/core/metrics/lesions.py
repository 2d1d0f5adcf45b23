"""Scores by lesion, as the 2023 tumour challenges have them.

The parts of a region are its 26-connected components. True parts that fall together when dilated
are one lesion. A predicted part belongs to every lesion whose dilation it touches. A lesion is
scored against the union of the predicted parts that belong to it; a missed one scores Dice 0 and
374 mm; so does every predicted part that belongs to none. Lesions up to a volume do not count.
Distances here are `hd95` of `segmentation`, without the weights by area of the challenge's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocli.core.metrics.segmentation import Mask, hd95, union_box

_MISSED_MM = 374.0


@dataclass(frozen=True)
class LesionRules:
    """Say what one lesion is.

    Args:
        dilation: Steps by which true parts are dilated.
        smallest_mm3: Lesions up to this volume are left out.
    """

    dilation: int = 3
    smallest_mm3: float = 50.0


RULES: Mapping[str, LesionRules] = {
    "gli": LesionRules(3, 50.0),
    "ssa": LesionRules(3, 50.0),
    "ped": LesionRules(3, 50.0),
    "men": LesionRules(1, 50.0),
    "met": LesionRules(1, 2.0),
}


@dataclass(frozen=True)
class LesionScores:
    """Hold the scores of one region.

    Args:
        dice: Mean over lesions and false parts.
        hd95_mm: The same for the distance.
        n_found: Lesions that a predicted part touches.
        n_missed: Lesions that none touches.
        n_false: Predicted parts that belong to no lesion.
    """

    dice: float
    hd95_mm: float
    n_found: int
    n_missed: int
    n_false: int


def lesion_scores(
    truth: Mask, predicted: Mask, spacing_mm: Sequence[float], rules: LesionRules | None = None
) -> LesionScores:
    """Score a region lesion by lesion.

    Args:
        truth: (X, Y, Z).
        predicted: (X, Y, Z).
        spacing_mm: Voxel size.
        rules: What one lesion is; None takes those of adult glioma.

    Returns:
        Scores; Dice 1 and 0 mm when there is nothing and nothing is predicted.
    """
    rules = rules or RULES["gli"]
    if not truth.any() and not predicted.any():
        return LesionScores(1.0, 0.0, 0, 0, 0)
    box = union_box(truth, predicted, margin=rules.dilation + 1)
    truth, predicted = truth[box], predicted[box]
    lesions, n_lesions = _lesions(truth, rules.dilation)
    parts, n_parts = _components(predicted)
    voxel_mm3 = float(np.prod(spacing_mm))
    scored: list[tuple[float, float, bool]] = []
    claimed: set[int] = set()
    for number in range(1, n_lesions + 1):
        lesion = lesions == number
        touching = np.unique(parts[_dilated(lesion, rules.dilation)])
        own = touching[touching > 0]
        claimed.update(own.tolist())
        if float(lesion.sum()) * voxel_mm3 > rules.smallest_mm3:
            scored.append(_score(lesion, np.isin(parts, own), spacing_mm, is_found=bool(own.size)))
    n_false = n_parts - len(claimed)
    count = len(scored) + n_false
    n_found = sum(found for *_, found in scored)
    if count == 0:  # only lesions that do not count, and nothing false
        return LesionScores(1.0, 0.0, 0, 0, 0)
    return LesionScores(
        dice=sum(value for value, *_ in scored) / count,
        hd95_mm=(sum(value for _, value, _ in scored) + _MISSED_MM * n_false) / count,
        n_found=n_found,
        n_missed=len(scored) - n_found,
        n_false=n_false,
    )


def _score(
    lesion: Mask, own: Mask, spacing_mm: Sequence[float], *, is_found: bool
) -> tuple[float, float, bool]:
    if not is_found:
        return 0.0, _MISSED_MM, False
    overlap = 2.0 * float((lesion & own).sum()) / float(lesion.sum() + own.sum())
    return overlap, hd95(lesion, own, spacing_mm), True


def _lesions(truth: Mask, dilation: int) -> tuple[npt.NDArray[np.int32], int]:
    """Number true voxels by the dilated component they fall into."""
    groups, n_groups = _components(_dilated(truth, dilation))
    return np.where(truth, groups, 0).astype(np.int32), n_groups


def _components(mask: Mask) -> tuple[npt.NDArray[np.int32], int]:
    from scipy import ndimage

    labels, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    return labels, int(count)


def _dilated(mask: Mask, steps: int) -> Mask:
    from scipy import ndimage

    shape = ndimage.generate_binary_structure(mask.ndim, 2)
    return np.asarray(ndimage.binary_dilation(mask, shape, iterations=steps))
