"""Random changes of training samples, by MONAI's transforms, drawn from the sample's own seed."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["flip", "affine", "intensity", "all"]
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

_CHANCE, _RARE = 0.5, 0.3
_TURN = 0.26  # radians
_SCALE = 0.15
_GAIN, _OFFSET, _NOISE = 0.1, 0.05, 0.03
_GAMMA = (0.7, 1.3)


class Augmentation:
    """Change samples at random: mirror, turn and scale, or vary intensities.

    What was exactly 0, the background, is exactly 0 afterwards.

    Args:
        kind: Which changes.
        n_axes: 3 for patches, 2 for slices.
    """

    def __init__(self, kind: Kind, n_axes: int) -> None:
        steps: list[Any] = []
        if kind in ("flip", "all"):
            steps += _flips(n_axes)
        if kind in ("affine", "all"):
            steps.append(_affine(n_axes))
        if kind in ("intensity", "all"):
            steps += _intensities()
        self._steps = _transform("Compose")(steps)

    def __call__(
        self, image: Floats, label: Labels, key: tuple[int, int, int]
    ) -> tuple[Floats, Labels]:
        """Return a changed copy.

        Args:
            image: (C, ...) normalised contrasts.
            label: (...) classes.
            key: Seed of the run, epoch and index of the sample: the same key, the same change.
        """
        digest = hashlib.sha256(" ".join(map(str, key)).encode()).digest()
        self._steps.set_random_state(seed=int.from_bytes(digest[:4], "little"))
        # The mask goes through the same geometry, so that intensities leave the background alone.
        found = self._steps({"image": image, "label": label[None], "brain": (image != 0)})
        changed = np.asarray(found["image"], dtype=np.float32)
        changed[~(np.asarray(found["brain"]) > 0)] = 0
        return np.ascontiguousarray(changed), np.ascontiguousarray(
            np.asarray(found["label"])[0].astype(np.uint8)
        )


def _transform(name: str) -> Any:
    # Imported here: MONAI takes seconds, and most runs need none of it.
    from monai import transforms

    return getattr(transforms, name)


_KEYS = ("image", "label", "brain")


def _flips(n_axes: int) -> list[Any]:
    return [
        _transform("RandFlipd")(_KEYS, prob=_CHANCE, spatial_axis=axis) for axis in range(n_axes)
    ]


def _affine(n_axes: int) -> Any:
    turns = (_TURN,) * 3 if n_axes == 3 else (_TURN,)
    return _transform("RandAffined")(
        _KEYS,
        prob=_CHANCE,
        rotate_range=turns,
        scale_range=(_SCALE,) * n_axes,
        mode=("bilinear", "nearest", "nearest"),
        padding_mode="zeros",
    )


def _intensities() -> list[Any]:
    return [
        _transform("RandScaleIntensityd")("image", factors=_GAIN, prob=_CHANCE, channel_wise=True),
        _transform("RandShiftIntensityd")("image", offsets=_OFFSET, prob=_CHANCE),
        _transform("RandAdjustContrastd")("image", prob=_RARE, gamma=_GAMMA),
        _transform("RandGaussianNoised")("image", prob=_RARE, std=_NOISE),
    ]
