"""What a model is given: training patches, training slices, whole cases.

A training sample is a function of (seed, epoch, index) alone, whatever reads it. A share of the
patches is centred on a tumour voxel: a class among those the case holds, then one of its voxels.
All others have a centre anywhere in the volume. A patch that would leave the volume is moved in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neurocli.systems.brats.augment import Augmentation
from neurocli.systems.brats.store import Case

_UNIT = 2.0**-53
_N_WORDS = 5


@dataclass(frozen=True)
class PatchPlan:
    """Say how training samples are cut.

    Args:
        channels: Contrasts that are read, by their place in `MODALITIES`.
        patch: Voxels of a patch; in slices only the first two count.
        per_case: Samples of each case and epoch.
        foreground: Share of samples centred on a tumour voxel.
        seed: Of all draws.
        is_flat: Axial slices instead of patches.
    """

    channels: tuple[int, ...]
    patch: tuple[int, int, int]
    per_case: int
    foreground: float
    seed: int
    is_flat: bool = False


def draws(seed: int, epoch: int, index: int) -> npt.NDArray[np.float64]:
    """Return five numbers in [0, 1) that depend on nothing but the arguments."""
    words = np.random.PCG64(np.random.SeedSequence([seed, epoch, index])).random_raw(_N_WORDS)
    return np.asarray((words >> np.uint64(11)) * _UNIT, dtype=np.float64)


def centre_of(
    case: Case, chance: npt.NDArray[np.float64], foreground: float
) -> tuple[tuple[int, int, int], int]:
    """Draw the centre of a sample.

    Args:
        case: With or without tumour.
        chance: From `draws`.
        foreground: Share of centres on a tumour voxel.

    Returns:
        A voxel of the whole volume, and the class it was chosen for; 0 for any voxel.
    """
    present = np.unique(case.centres[:, 0]) if len(case.centres) else ()
    if chance[0] < foreground and len(present):
        kind = int(present[int(chance[1] * len(present))])
        # Rows are sorted by class.
        first, last = np.searchsorted(case.centres[:, 0], [kind, kind + 1])
        row = case.centres[first + int(chance[2] * (last - first))]
        return (int(row[1]), int(row[2]), int(row[3])), kind
    place = [int(part * length) for part, length in zip(chance[2:], case.shape, strict=True)]
    return (place[0], place[1], place[2]), 0


class _Cases:
    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = tuple(cases)

    @property
    def participants(self) -> list[str]:
        """Return whose cases they are, each person once."""
        return list(dict.fromkeys(case.participant for case in self.cases))


class PatchSet(_Cases):
    """Serve training samples.

    Args:
        cases: With labels.
        plan: How samples are cut.
        augmentation: Random changes; None for none.
    """

    def __init__(
        self, cases: Sequence[Case], plan: PatchPlan, augmentation: Augmentation | None = None
    ) -> None:
        super().__init__(cases)
        self.plan = plan
        self._augmentation = augmentation

    def __len__(self) -> int:
        """Return how many samples an epoch has."""
        return len(self.cases) * self.plan.per_case

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return a patch (C, d, h, w) float32 with its label (d, h, w) uint8, or a slice."""
        plan, case = self.plan, self.cases[index // self.plan.per_case]
        centre, _ = centre_of(case, draws(plan.seed, epoch, index), plan.foreground)
        size = (*case.shape[:2], 1) if plan.is_flat else plan.patch
        start = [
            max(0, min(middle - edge // 2, length - edge))
            for middle, edge, length in zip(centre, size, case.shape, strict=True)
        ]
        image, label = case.crop(start, size, plan.channels)
        if plan.is_flat:
            image, label = image[..., 0], label[..., 0]
        if self._augmentation is not None:
            image, label = self._augmentation(image, label, (plan.seed, epoch, index))
        return {
            "image": image,
            "label": label,
            "participant": case.participant,
            "subject": case.subject,
            "start": index,
        }

    def collate(self, samples: Sequence[dict[str, Any]]) -> Mapping[str, Any]:
        """Return one batch; smaller slices are padded behind with background."""
        shape = np.max([sample["label"].shape for sample in samples], axis=0)
        n_channels = len(samples[0]["image"])
        image = np.zeros((len(samples), n_channels, *shape), dtype=np.float32)
        label = np.zeros((len(samples), *shape), dtype=np.uint8)
        for row, sample in enumerate(samples):
            inside = tuple(slice(0, length) for length in sample["label"].shape)
            image[row][(slice(None), *inside)] = sample["image"]
            label[row][inside] = sample["label"]
        return {
            "image": torch.from_numpy(image),
            "label": torch.from_numpy(label),
            **_names(samples),
        }


class CaseSet(_Cases):
    """Serve whole cases, read when they are judged.

    Args:
        cases: Opened cases.
        channels: Contrasts that are read, by their place in `MODALITIES`.
    """

    def __init__(self, cases: Sequence[Case], channels: Sequence[int]) -> None:
        super().__init__(cases)
        self.channels = tuple(channels)

    def __len__(self) -> int:
        """Return how many cases there are."""
        return len(self.cases)

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return a case: its volume (C, X, Y, Z) and label (X, Y, Z), or None without labels."""
        del epoch  # nothing is drawn
        case = self.cases[index]
        image, label = case.whole(self.channels)
        return {
            "volume": torch.from_numpy(image),
            "truth": label if case.label is not None else None,
            "case": case,
            "participant": case.participant,
            "subject": case.subject,
            "start": 0,
        }

    def collate(self, samples: Sequence[dict[str, Any]]) -> Mapping[str, Any]:
        """Return one batch: lists, because volumes differ in size."""
        kept = {key: [sample[key] for sample in samples] for key in ("volume", "truth", "case")}
        return {**kept, **_names(samples)}


def _names(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {key: [sample[key] for sample in samples] for key in ("participant", "subject", "start")}
