"""The best that anyone can do on the built-in cohort: Bayes' ranking from the true model.

For jointly Gaussian canonical variates u and v with correlations r the pointwise mutual
information of a pair is sum_m [ r/(1-r^2) u v - r^2/(2(1-r^2)) (u^2 + v^2) - ln(1-r^2)/2 ], and
ranking candidates by it has the highest expected R@1, because one candidate is the match and the
others are independent. The projections on the true bases are sufficient, so the canonical
variates follow from small covariances that are known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocli.systems.genes.known_truth import Cohort, spectrum

Float64 = npt.NDArray[np.float64]
_MIN_RHO = 1e-9


@dataclass(frozen=True)
class Canonical:
    """Hold weights to canonical variates.

    Args:
        brain: (m, K), from a latent's projection on the true basis.
        gene: (l, K), from a gene vector's.
        rhos: (K,) population correlations.
    """

    brain: Float64
    gene: Float64
    rhos: Float64


def pmi_terms(rhos: Float64) -> tuple[Float64, Float64]:
    """Return the weights of u v and of (u^2 + v^2)/2 in the pointwise mutual information."""
    spread = 1 - rhos**2
    return rhos / spread, rhos**2 / spread


def canonical_of_gene(cohort: Cohort, gene: int) -> Canonical:
    """Return the population's canonical weights of one true gene.

    Args:
        cohort: The cohort.
        gene: Index of a true gene.
    """
    spec, k = cohort.spec, cohort.spec.n_shared
    brain_sd = np.sqrt(spectrum(spec.n_inner) ** 2 + spec.brain_noise**2)
    gene_sd = np.sqrt(spectrum(spec.n_gene_inner) ** 2 + spec.gene_noise**2)
    turn, _ = cohort.gene_frame(gene)
    shared = cohort.brain_turn[:, gene * k : (gene + 1) * k] * spec.rhos[gene] @ turn[:, :k].T
    cross = spectrum(spec.n_inner)[:, None] * shared * spectrum(spec.n_gene_inner)
    left, rhos, right = np.linalg.svd(
        cross / brain_sd[:, None] / gene_sd, full_matrices=False, compute_uv=True
    )
    return Canonical(left[:, :k] / brain_sd[:, None], right[:k].T / gene_sd[:, None], rhos[:k])


def joint_canonical(cohort: Cohort, genes: list[Canonical]) -> tuple[Float64, Float64, Float64]:
    """Return the canonical weights of the brain with all true genes at once.

    Args:
        cohort: The cohort.
        genes: Each true gene's own weights.

    Returns:
        Brain weights (m, K); weights (K, K) that turn the genes' own variates, stacked, into
        joint ones; and correlations (K,). K is T k.
    """
    spec = cohort.spec
    brain_sd = np.sqrt(spectrum(spec.n_inner) ** 2 + spec.brain_noise**2)
    # Each gene's variates are white and independent of the other genes', so the cross-covariance
    # of the white brain with all of them is each gene's own one, side by side.
    cross = np.concatenate([(each.brain * brain_sd[:, None]) * each.rhos for each in genes], axis=1)
    left, rhos, right = np.linalg.svd(cross, full_matrices=False)
    return left / brain_sd[:, None], right.T, np.minimum(rhos, 1 - _MIN_RHO)
