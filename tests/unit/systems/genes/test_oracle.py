"""The optimum against scipy, whitened covariances, and folds that are looped by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal

from neurocli.systems.genes.closed_form import (
    N_FOLDS,
    GeneFit,
    fit_components,
    fit_gene,
    pmi_vectors,
)
from neurocli.systems.genes.known_truth import Cohort, spectrum
from neurocli.systems.genes.oracle import canonical_of_gene, joint_canonical, pmi_terms

R = np.array([0.85, 0.4, 0.0, -0.3])


def test_scores_are_log_density_ratios_up_to_what_all_pairs_share() -> None:
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, 12, len(R)))
    brain, gene = pmi_vectors(u, v, R)
    found = brain @ gene.T
    expected = np.zeros((12, 12))
    for k, r in enumerate(R):
        joint = multivariate_normal(cov=[[1, r], [r, 1]])
        one = multivariate_normal(cov=1)
        for i in range(12):
            for j in range(12):
                expected[i, j] += joint.logpdf([u[i, k], v[j, k]])
                expected[i, j] -= one.logpdf(u[i, k]) + one.logpdf(v[j, k])
    # The constant -sum ln(1 - r^2) / 2 ranks nothing and is left out.
    shift = -0.5 * np.log(1 - R**2).sum()
    assert found + shift == pytest.approx(expected, abs=1e-9)


def test_terms_by_hand() -> None:
    # r / (1 - r^2) and r^2 / (1 - r^2) at 0.5: 2/3 and 1/3.
    cross, own = pmi_terms(np.array([0.0, 0.5]))
    assert cross == pytest.approx([0, 2 / 3])
    assert own == pytest.approx([0, 1 / 3])


@pytest.mark.parametrize("gene", [0, 1])
def test_population_weights_are_those_of_any_canonical_analysis(cohort: Cohort, gene: int) -> None:
    spec, k = cohort.spec, cohort.spec.n_shared
    turn, _ = cohort.gene_frame(gene)
    brain_sd, gene_sd = spectrum(spec.n_inner), spectrum(spec.n_gene_inner)
    # Covariances written out: x = D B w + noise, where k of the w correlate at rho.
    cov_x = np.diag(brain_sd**2 + spec.brain_noise**2)
    cov_y = np.diag(gene_sd**2 + spec.gene_noise**2)
    inner = np.zeros((spec.n_inner, spec.n_gene_inner))
    for i in range(k):
        inner[gene * k + i, i] = spec.rhos[gene]
    cross = np.diag(brain_sd) @ cohort.brain_turn @ inner @ turn.T @ np.diag(gene_sd)
    whitened = np.linalg.inv(sqrtm(cov_x)) @ cross @ np.linalg.inv(sqrtm(cov_y))
    expected = np.linalg.svd(whitened, compute_uv=False)[:k]
    found = canonical_of_gene(cohort, gene)
    assert found.rhos == pytest.approx(expected, rel=1e-9)
    assert found.brain.T @ cov_x @ found.brain == pytest.approx(np.eye(k), abs=1e-9)
    assert found.gene.T @ cov_y @ found.gene == pytest.approx(np.eye(k), abs=1e-9)
    assert found.brain.T @ cross @ found.gene == pytest.approx(np.diag(expected), abs=1e-9)
    # Noise can only lose: what is seen correlates less than what is hidden.
    assert found.rhos.max() < spec.rhos[gene]


def test_all_genes_at_once_are_at_least_as_sure_as_the_surest(cohort: Cohort) -> None:
    genes = [canonical_of_gene(cohort, gene) for gene in range(2)]
    brain, turn, rhos = joint_canonical(cohort, genes)
    assert turn.T @ turn == pytest.approx(np.eye(len(rhos)), abs=1e-9)
    assert (np.diff(rhos) <= 0).all()
    assert rhos[0] >= max(gene.rhos.max() for gene in genes) - 1e-12
    assert rhos.max() < 1
    assert brain.shape == (cohort.spec.n_inner, len(rhos))
    # The trace of the squared cross-covariance is the same in any basis.
    assert (rhos**2).sum() == pytest.approx(sum((gene.rhos**2).sum() for gene in genes))


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_held_out_correlations_equal_a_loop_over_folds(ridge: float) -> None:
    rng = np.random.default_rng(1)
    n = 103  # no multiple of the folds
    shared = rng.standard_normal((n, 2))
    brain_rows, gene_rows = (
        (shared @ rng.standard_normal((2, width)) + 0.5 * rng.standard_normal((n, width))).astype(
            np.float32
        )
        for width in (6, 5)
    )
    brain = fit_components(brain_rows, 6)
    scores = brain.scores(brain_rows)
    fit = fit_gene(scores, brain, gene_rows, ridge=ridge)
    own = fit.components.scores(gene_rows)
    left, right = (
        np.diag(((1 - ridge) * c.variances + ridge * c.variances.mean()) ** -0.5)
        for c in (brain, fit.components)
    )
    products = np.zeros((3, own.shape[1]))
    for fold in range(N_FOLDS):
        out = np.zeros(n, dtype=bool)
        out[fold * n // N_FOLDS : (fold + 1) * n // N_FOLDS] = True
        # numpy's SVD of the whitened cross-covariance of everybody else.
        u, _, vt = np.linalg.svd(left @ scores[~out].T @ own[~out] @ right)
        a = scores[out] @ left @ u[:, : own.shape[1]]
        b = own[out] @ right @ vt.T
        products += [(a * b).sum(0), (a * a).sum(0), (b * b).sum(0)]
    expected = products[0] / np.sqrt(products[1] * products[2])
    assert fit.r == pytest.approx(expected, abs=1e-6)


def test_weights_never_exceed_what_was_seen(cohort: Cohort) -> None:
    r = np.linspace(-1, 1, 41)
    fit = GeneFit(fit_components(np.eye(3, dtype=np.float32)), np.eye(3), np.eye(3), r, 50)
    seen = np.clip(r, 1e-3, 0.99)
    assert (fit.weights <= seen + 1e-12).all()
    assert (np.diff(fit.weights) >= 0).all()
    assert (fit.weights >= 1e-3).all()
