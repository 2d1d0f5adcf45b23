"""The people of one part, and batches of their latents and gene vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neurocli.core.metrics.retrieval import equal_rows
from neurocli.systems.genes.built_in import Truth
from neurocli.systems.genes.cohort import PairedCohort

_GOLDEN, _MIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9


class PairSet:
    """Hold the pairs of one part.

    Args:
        cohort: All people.
        rows: Places of this part's people.
        classes: (S,) equal numbers for equal gene vectors, over all people.
        truth: What is true of the built-in cohort; None for real data.
        seed: Of dropout.
        covariates: Column -> cells over all people.
        strata: (S,) numbers in which candidates of the hard gallery agree; None for none.
    """

    def __init__(
        self,
        cohort: PairedCohort,
        rows: npt.NDArray[np.intp],
        classes: npt.NDArray[np.int64],
        *,
        truth: Truth | None = None,
        seed: int = 0,
        covariates: Mapping[str, list[str | None]] | None = None,
        strata: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.cohort, self.rows, self.classes = cohort, rows, classes
        self.truth, self.seed, self.covariates = truth, seed, covariates or {}
        self.strata = strata

    def __len__(self) -> int:
        """Return how many people there are."""
        return len(self.rows)

    def with_people(self, other: PairSet) -> PairSet:
        """Return the people of this part and of another of the same cohort.

        Args:
            other: The other part.
        """
        return self._with_rows(other.rows)

    def with_ids(self, people: Sequence[str]) -> PairSet:
        """Return the people of this part and others of the cohort by id, unknown ones left out.

        Args:
            people: Ids.
        """
        wanted = set(people) - set(self.participants)
        places = [row for row, who in enumerate(self.cohort.people) if who in wanted]
        return self._with_rows(np.array(places, dtype=np.intp)) if places else self

    def _with_rows(self, rows: npt.NDArray[np.intp]) -> PairSet:
        return PairSet(
            self.cohort,
            np.concatenate([self.rows, rows]),
            self.classes,
            truth=self.truth,
            seed=self.seed,
            covariates=self.covariates,
            strata=self.strata,
        )

    @property
    def participants(self) -> list[str]:
        """Return their ids."""
        return [self.cohort.people[row] for row in self.rows]

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return who a sample is; vectors are read for a whole batch at once."""
        return {"row": int(self.rows[index]), "draw": draw_of(self.seed, epoch, index)}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch.

        It has `neuro_embedding` (B, P), `gene_sequence` (B, G, d), `present` (B, G) where absent
        vectors are hidden, `owned` (B, G) where any is absent, and `gene_keys` (B, G), equal for
        equal stored vectors, where covariates were taken out of them.
        """
        rows = np.array([sample["row"] for sample in samples], dtype=np.intp)
        people = [self.cohort.people[row] for row in rows]
        batch: dict[str, Any] = {
            "neuro_embedding": torch.from_numpy(self.cohort.brain(rows)),
            "gene_sequence": torch.from_numpy(self.cohort.sequence(rows)),
            "gene_class": torch.from_numpy(self.classes[rows]),
            "draw": torch.tensor([sample["draw"] for sample in samples], dtype=torch.int64),
            "participant": people,
            "subject": people,
            "iid": people,
            "family": [self.cohort.families[row] for row in rows],
            "start": [0] * len(people),
        }
        if self.strata is not None:
            batch["stratum"] = torch.from_numpy(self.strata[rows])
        present = self.cohort.present[:, rows]
        if not present.all():
            batch["owned"] = torch.from_numpy(present.T.copy())
            if self.cohort.filled is None:
                batch["present"] = batch["owned"]
        if self.cohort.genes_explained is not None:
            batch["gene_keys"] = torch.from_numpy(self.gene_keys(rows).view(np.int64))
        return batch

    def gene_keys(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.uint64]:
        """Return (n, G) numbers that are equal where the stored vectors of a gene are."""
        genes = range(len(self.cohort.genes))
        return np.stack([equal_rows(self.cohort.raw_gene(index, rows)) for index in genes], axis=1)


def draw_of(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one sample in one epoch, 62 bits, the same on any machine.

    >>> draw_of(0, 1, 2) == draw_of(0, 1, 2) != draw_of(0, 2, 1)
    True
    """
    word = 0
    for part in (seed, epoch, index):
        word = ((word ^ part) + _GOLDEN) & 0xFFFFFFFFFFFFFFFF
        word = ((word ^ (word >> 30)) * _MIX) & 0xFFFFFFFFFFFFFFFF
        word ^= word >> 27
    return word >> 2
