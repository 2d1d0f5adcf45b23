"""A plain method beside every result: three intensity thresholds, fitted on the training part.

Voxels with a bright FLAIR are tumour; among them a bright T1ce is enhancing and a dark one is
necrotic core, the rest is oedema. Each threshold is the one with the best mean Dice of its region
over the training cases, out of steps of 0.05 standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocli.systems.brats.blocks import MODALITIES
from neurocli.systems.brats.store import Case, Image

_EDGES = np.arange(-5.0, 8.0, 0.05)
_FLAIR, _T1CE = MODALITIES.index("flair"), MODALITIES.index("t1ce")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds:
    """Hold normalised intensities.

    Args:
        flair: Above it is tumour.
        t1ce_high: Above it, tumour is enhancing.
        t1ce_low: Below it, tumour is necrotic.
    """

    flair: float
    t1ce_high: float
    t1ce_low: float

    def apply(self, image: Image) -> npt.NDArray[np.uint8]:
        """Return classes (x, y, z) of normalised contrasts (4, x, y, z)."""
        flair, t1ce = image[_FLAIR], image[_T1CE]
        label = np.where(flair > self.flair, 2, 0).astype(np.uint8)
        tumour = label > 0
        label[tumour & (t1ce > self.t1ce_high)] = 3
        label[tumour & (t1ce < self.t1ce_low)] = 1
        return label

    def whole(self, case: Case) -> npt.NDArray[np.uint8]:
        """Return classes of a case's whole volume."""
        label = np.zeros(case.shape, dtype=np.uint8)
        label[
            tuple(slice(a, a + n) for a, n in zip(case.start, case.image.shape[1:], strict=True))
        ] = self.apply(case.image)
        return label


def fit_thresholds(cases: Sequence[Case]) -> Thresholds:
    """Fit the thresholds.

    Args:
        cases: Of the training part, with labels.
    """
    flair = _best([_tumour_curve(case) for case in cases])
    high = _best([_enhancing_curve(case, flair) for case in cases])
    low = -_best([_core_curve(case, flair, high) for case in cases])
    return Thresholds(flair, high, min(low, high))


def _label(case: Case) -> npt.NDArray[np.uint8]:
    assert case.label is not None  # only labelled cases are learned from
    return np.asarray(case.label)


def _tumour_curve(case: Case) -> Floats | None:
    values = case.image[_FLAIR]
    brain = values != 0
    return _curve(values[brain], _label(case)[brain] > 0)


def _enhancing_curve(case: Case, flair: float) -> Floats | None:
    tumour, true = case.image[_FLAIR] > flair, _label(case) == 3
    return _curve(case.image[_T1CE][tumour], true[tumour], int(true.sum()))


def _core_curve(case: Case, flair: float, high: float) -> Floats | None:
    """Return the Dice of the core when, besides what enhances, dark voxels are taken."""
    t1ce, true = case.image[_T1CE], np.isin(_label(case), (1, 3))
    tumour = case.image[_FLAIR] > flair
    bright = tumour & (t1ce > high)
    rest = tumour & ~bright
    already = int((bright & true).sum()), int(bright.sum())
    return _curve(-t1ce[rest], true[rest], int(true.sum()), already)


def _curve(
    values: Image,
    hits: npt.NDArray[np.bool_],
    n_true: int | None = None,
    already: tuple[int, int] = (0, 0),
) -> Floats | None:
    """Return the Dice of `values > edge` for every edge; None where nothing is true.

    Args:
        values: Of the voxels that may be chosen.
        hits: Which of them are true.
        n_true: True voxels, also those that may not be chosen.
        already: True positives and voxels that are chosen in any case.
    """
    total = int(hits.sum()) if n_true is None else int(n_true)
    if total == 0:
        return None
    place = np.searchsorted(_EDGES, values, side="left")
    counts = [
        np.bincount(place, weights=weight, minlength=len(_EDGES) + 1) for weight in (hits, None)
    ]
    # A value lies above every edge before its place.
    above = [np.cumsum(count[::-1])[::-1][1:] for count in counts]
    return np.asarray(2 * (above[0] + already[0]) / (above[1] + already[1] + total))


def _best(curves: Sequence[Floats | None]) -> float:
    known = [curve for curve in curves if curve is not None]
    if not known:
        return float(_EDGES[-1])
    return float(_EDGES[int(np.mean(known, axis=0).argmax())])
