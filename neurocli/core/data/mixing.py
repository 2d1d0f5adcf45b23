"""Draw an epoch from several groups of samples, so that each has the share its weight says.

An epoch is a pure function of (seed, epoch), whatever came before, so a resumed run draws what an
uninterrupted one would have drawn. A group of share w gets floor or ceiling of n * w of the n
draws of an epoch, and n * w on average: the bounds between groups are rounded with one common
offset that is uniform over epochs (systematic sampling). Within a group draws go on where the last
epoch stopped, through one shuffled pass after another, so no sample is seen twice before all of
its group were seen once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.loader import Samples, epoch_order
from neurocli.core.errors import UsageError

_OFFSETS = 1  # keeps the words of offsets apart from those of orders, which are seeded alike


class Mixture:
    """Say which sample of which group each draw of an epoch is.

    Args:
        groups: Indices of the samples of each group, none empty.
        weights: Of each group, > 0; only their ratios count.
        seed: Seed of the run, >= 0.

    Raises:
        UsageError: A group is empty, or a weight is not above 0.
    """

    def __init__(
        self, groups: Sequence[Sequence[int]], weights: Sequence[float], *, seed: int
    ) -> None:
        if len(groups) != len(weights) or not groups or not all(map(len, groups)):
            sizes = list(map(len, groups))
            raise UsageError(f"{len(weights)} weights for groups of {sizes} samples")
        if not all(0 < weight < math.inf for weight in weights):
            raise UsageError(f"weights {list(weights)} are not all above 0")
        self._groups = [np.array(group, dtype=np.int64) for group in groups]
        self._seed = seed
        self.n = sum(map(len, groups))
        total = math.fsum(weights)
        self._bounds = [self.n * part / total for part in accumulate(weights)]
        self._bounds[-1] = float(self.n)
        self._before: list[npt.NDArray[np.int64]] = [np.zeros(len(groups), dtype=np.int64)]
        self._kept: tuple[int, npt.NDArray[np.int64]] | None = None

    def counts(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return how many draws of an epoch each group gets; they add up to `n`."""
        words = np.random.PCG64(np.random.SeedSequence([self._seed, epoch, _OFFSETS])).random_raw(1)
        offset = float(int(words[0]) >> 11) * 2.0**-53
        ends = [min(math.floor(bound + offset), self.n) for bound in self._bounds]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return np.array(counts, dtype=np.int64)

    def draws(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the draws of an epoch, group after group.

        Args:
            epoch: Epoch, >= 0.

        Returns:
            (n, 2): the sample's index, and which pass through its group it belongs to. No pair
            comes twice in all epochs.
        """
        if self._kept is None or self._kept[0] != epoch:
            firsts, counts = self._taken_before(epoch), self.counts(epoch)
            spans = zip(self._groups, firsts.tolist(), counts.tolist(), strict=True)
            drawn = [self._span(k, *span) for k, span in enumerate(spans)]
            self._kept = (epoch, np.concatenate(drawn))
        return self._kept[1]

    def _taken_before(self, epoch: int) -> npt.NDArray[np.int64]:
        while len(self._before) <= epoch:
            self._before.append(self._before[-1] + self.counts(len(self._before) - 1))
        return self._before[epoch]

    def _span(
        self, k: int, group: npt.NDArray[np.int64], first: int, count: int
    ) -> npt.NDArray[np.int64]:
        digest = hashlib.sha256(f"{self._seed} group {k}".encode()).digest()
        seed = int.from_bytes(digest[:8], "little")
        positions = np.arange(first, first + count)
        passes, places = positions // len(group), positions % len(group)
        drawn = np.empty((count, 2), dtype=np.int64)
        drawn[:, 1] = passes
        for number in np.unique(passes).tolist():
            order = epoch_order(len(group), seed=seed, epoch=number, shuffle=True)
            is_own = passes == number
            drawn[is_own, 0] = group[np.array(order)[places[is_own]]]
        return drawn


class MixedSamples:
    """Show a part as training draws it; judging takes the part itself, every sample once.

    Args:
        samples: The part.
        mixture: Of indices of its samples.
    """

    def __init__(self, samples: Any, mixture: Mixture) -> None:
        self._samples: Samples = samples
        self._mixture = mixture
        self.participants: list[str] = samples.participants

    def __len__(self) -> int:
        """Return how many samples an epoch draws."""
        return self._mixture.n

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return one draw; its pass, not the epoch, steers what is random about it.

        A sample may come twice in an epoch, and then must not be changed in the same way twice.
        """
        chosen, number = self._mixture.draws(epoch)[index].tolist()
        return self._samples.sample(chosen, number)

    def collate(self, samples: Sequence[dict[str, Any]]) -> Mapping[str, Any]:
        """Return one batch."""
        return self._samples.collate(samples)
