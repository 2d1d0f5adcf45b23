"""Score people by all genes at once: the pairs of variates that stand out, as one set.

Each gene's directions in the brain carry the noise of their own fit, which leaks into those of
every other gene. Where genes are independent of each other, their true directions are at right
angles in the white brain, so the nearest set of right-angled ones (the polar factor, with the
surer directions weighing more) holds less of that noise. Where genes share a direction, turning
them apart would do harm: folds of the training part decide.

Letters: S people, q components of the brain, e of a gene, d numbers of a gene's vector, G genes,
J genes in the set, K pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from neurocli.systems.genes.closed_form import Components, GeneFit
from neurocli.systems.genes.oracle import pmi_terms

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MAX_R = 0.99
_MAX_FOLD = 1500  # people of a fold that are told from each other


@dataclass(frozen=True)
class Joint:
    """Hold the pairs of all genes that are scored together.

    Args:
        brain: (q, K), from the brain's scores to variates.
        own: (d, K), from a gene's centred vectors to variates.
        mean: (J, d) taken from the vectors of each gene in the set.
        gene: (K,) which gene a pair is of, rising.
        r: (K,) correlations.
        is_turned: Whether the brain's directions were turned to right angles.
    """

    brain: Float64
    own: Float64
    mean: Float64
    gene: Ints
    r: Float64
    is_turned: bool = False

    @property
    def genes(self) -> list[int]:
        """Return the genes in the set."""
        return [int(index) for index in np.unique(self.gene)]

    def variates(self, rows: Mapping[int, Float32]) -> Float64:
        """Return v (S, K) of the vectors (S, d) of each gene in the set."""
        return np.concatenate(
            [
                (rows[index].astype(np.float64) - mean) @ self.own[:, self.gene == index]
                for index, mean in zip(self.genes, self.mean, strict=True)
            ],
            axis=1,
        )

    def brain_vectors(self, scores: Float64) -> Float64:
        """Return (S, K+1+J) of the brain's scores (S, q)."""
        u = scores @ self.brain
        cross, own = pmi_terms(self.r)
        loss = (u**2 * own / 2) @ self._members()
        return np.column_stack([u * cross, np.ones(len(u)), -loss])

    def gene_vectors(self, v: Float64, present: npt.NDArray[np.bool_]) -> Float64:
        """Return (S, K+1+J) whose inner products with the brain's are mutual information.

        Args:
            v: (S, K) the genes' variates.
            present: (S, J) who has which gene; an absent one says nothing for or against.
        """
        members = self._members()
        there = present.astype(np.float64)
        v = v * (there @ members.T)
        own = pmi_terms(self.r)[1]
        known = there @ (-0.5 * np.log1p(-(self.r**2)) @ members)
        return np.column_stack([v, known - v**2 @ own / 2, there])

    def _members(self) -> Float64:
        """Return (K, J) which pair is of which gene."""
        return np.asarray(self.gene[:, None] == np.unique(self.gene), dtype=np.float64)


def join_plainly(fits: Sequence[GeneFit]) -> Joint:
    """Return the pairs that stand out, as they are; where none does, all pairs.

    Args:
        fits: One per gene.
    """
    kept = [np.flatnonzero(fit.counted) for fit in fits]
    if not any(len(at) for at in kept):
        kept = [np.arange(len(fit.r)) for fit in fits]
    chosen = [(fit, at) for fit, at in zip(fits, kept, strict=True) if len(at)]
    r = [np.maximum(fit.r, fit.weights)[at] for fit, at in chosen]
    own = [fit.components.axes.astype(np.float64) @ fit.gene[:, at] for fit, at in chosen]
    return Joint(
        np.concatenate([fit.brain[:, at] for fit, at in chosen], axis=1),
        np.concatenate(own, axis=1),
        np.stack([fit.components.mean.astype(np.float64) for fit, _ in chosen]),
        np.repeat(np.arange(len(fits)), [len(at) for at in kept]),
        np.minimum(np.concatenate(r), MAX_R),
    )


def join(
    fits: Sequence[GeneFit],
    components: Components,
    folds: Ints,
    scores: Float64,
    own: dict[int, Float64],
    present: npt.NDArray[np.bool_],
) -> Joint:
    """Return the pairs that stand out, turned to right angles where that helps held-out people.

    Args:
        fits: One per gene.
        components: The brain's.
        folds: (S,) rising numbers of the fold of each training person.
        scores: (S, q) their brain's scores.
        own: Gene -> (S, e) scores of its vectors, of every gene with a pair that stands out.
        present: (S, G) who has which gene.
    """
    plain = join_plainly(fits)
    genes = plain.genes
    if len(genes) < 2 or not all(fits[index].counted.any() for index in genes):
        return plain
    spread = np.sqrt(components.variances)
    turned = _turned(plain.brain, spread, plain.r)
    turned /= np.maximum((scores @ turned).std(0), 1e-12)
    gains, sums = np.zeros(2), np.zeros((3, len(plain.r)))
    for fold in np.unique(folds):
        at = np.flatnonzero(folds == fold)
        maps = [fits[index].folds[fold] for index in genes]
        left = np.concatenate([brain for brain, _ in maps], axis=1)
        v = np.concatenate(
            [own[index][at] @ gene for index, (_, gene) in zip(genes, maps, strict=True)], axis=1
        )
        v /= np.maximum(v.std(0), 1e-12)
        there = present[at][:, genes]
        for way, brain in enumerate((left, _turned(left, spread, plain.r))):
            u = scores[at] @ brain
            u /= np.maximum(u.std(0), 1e-12)
            gains[way] += _told_apart(plain, u[:_MAX_FOLD], v[:_MAX_FOLD], there[:_MAX_FOLD])
        sums += [(u * v).sum(0), (u * u).sum(0), (v * v).sum(0)]
    if gains[1] <= gains[0]:
        return plain
    r = sums[0] / np.sqrt(np.maximum(sums[1] * sums[2], np.finfo(np.float64).tiny))
    return replace(plain, brain=turned, r=np.clip(r, 1e-3, MAX_R), is_turned=True)


def _turned(brain: Float64, spread: Float64, weights: Float64) -> Float64:
    """Return the nearest directions (q, K) at right angles in the white brain."""
    left, _, right = np.linalg.svd(spread[:, None] * brain * weights, full_matrices=False)
    return np.asarray((left @ right) / spread[:, None])


def _told_apart(joint: Joint, u: Float64, v: Float64, present: npt.NDArray[np.bool_]) -> float:
    """Return the summed log probability of each person's own partner among all, both ways."""
    own = replace(joint, brain=np.eye(len(joint.r)))
    table = own.brain_vectors(u) @ own.gene_vectors(v, present).T
    both = logsumexp(table, axis=1) + logsumexp(table, axis=0)
    return float((2 * np.diagonal(table) - both).sum())
