"""One slice of a judged case, kept small for reports: contrasts, truth and prediction.

A picture is (L, h, w) uint8: FLAIR and T1ce as grey levels, the truth where there is one, and the
prediction last, both as classes 0 .. 3. Its name tells the slice.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.metrics.segmentation import union_box
from neurocli.systems.brats.blocks import MODALITIES
from neurocli.systems.brats.store import Case

Bytes = npt.NDArray[np.uint8]
_MARGIN = 4
_NAME = re.compile(r"(?P<case>.*)\.axial-(?P<plane>[0-9]+)-of-(?P<n>[0-9]+)", re.DOTALL)
_SHOWN = (MODALITIES.index("flair"), MODALITIES.index("t1ce"))


def case_picture(
    case: Case, truth: npt.NDArray[Any] | None, predicted: npt.NDArray[Any]
) -> dict[str, Bytes]:
    """Return the slice of a case with most tumour, of the truth or else of the prediction.

    Args:
        case: The case.
        truth: (X, Y, Z) classes; None without labels.
        predicted: (X, Y, Z) classes.

    Returns:
        Name -> picture, one of them.
    """
    labels = truth if truth is not None and truth.any() else predicted
    plane = int((labels > 0).sum(axis=(0, 1)).argmax())
    start, size = (0, 0, plane), (*case.shape[:2], 1)
    image = case.crop(start, size, _SHOWN)[0][..., 0]
    brain = (image != 0).any(axis=0)
    box = union_box(brain, margin=_MARGIN) if brain.any() else (slice(None), slice(None))
    layers = [_grey(channel) for channel in image]
    layers += [classes[..., plane] for classes in (truth, predicted) if classes is not None]
    name = f"{case.subject}.axial-{plane}-of-{case.shape[2]}"
    return {name: np.stack([layer[box].astype(np.uint8) for layer in layers])}


def slice_of(name: str) -> tuple[str, int, int] | None:
    """Return case, slice and number of slices that a picture's name tells, else None.

    >>> slice_of("case-0007.axial-21-of-48")
    ('case-0007', 21, 48)
    """
    found = _NAME.fullmatch(name)
    return None if found is None else (found["case"], int(found["plane"]), int(found["n"]))


def _grey(channel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    inside = channel[channel != 0]
    low, high = np.percentile(inside, [1, 99.5]) if inside.size else (0.0, 1.0)
    scaled = np.clip((channel - low) / max(high - low, 1e-6), 0, 1)
    return np.where(channel != 0, np.rint(255 * scaled), 0).astype(np.float32)
