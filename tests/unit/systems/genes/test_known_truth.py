"""The built-in cohort has the covariances that its optimum is computed from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurocli.core.metrics.retrieval import Scorer, rank_own_keys
from neurocli.systems.genes.built_in import cohort_spec, read_truth
from neurocli.systems.genes.closed_form import pmi_vectors
from neurocli.systems.genes.config import LatentsOptions
from neurocli.systems.genes.known_truth import UKB_SHAPE, Cohort, CohortSpec, blocks, spectrum
from neurocli.systems.genes.oracle import canonical_of_gene, joint_canonical, pmi_terms

MANY = CohortSpec(
    seed=1,
    sizes=(4000, 0, 0),
    latent_shape=(40,),
    n_inner=12,
    n_genes=3,
    tiers=((0.7, 1), (0.4, 1)),
    gene_dim=10,
    n_gene_inner=6,
    n_shared=2,
)


@pytest.fixture(scope="module")
def many() -> Cohort:
    return Cohort(MANY)


@pytest.fixture(scope="module")
def brain(many: Cohort) -> tuple[np.ndarray, np.ndarray]:
    return many.latents()


def test_the_described_shape() -> None:
    assert UKB_SHAPE.n_latent == 12150
    assert UKB_SHAPE.sizes == (3000, 500, 500)
    assert len(UKB_SHAPE.genes) == len(set(UKB_SHAPE.genes)) == 111
    assert len(UKB_SHAPE.rhos) == 20
    # 20 genes of 4 pairs each: 11.1 nats with the noise, against ln 500 = 6.2.
    nats = sum(-0.5 * 4 * np.log(1 - rho**2) for rho in UKB_SHAPE.rhos)
    assert nats == pytest.approx(11.1, abs=0.3)


def test_the_same_seed_gives_the_same_people(many: Cohort, brain: object) -> None:
    again = Cohort(MANY)
    assert np.array_equal(again.latents()[0], brain[0])  # type: ignore[index]
    assert np.array_equal(again.gene(1)[0], many.gene(1)[0])


def test_another_seed_gives_others(brain: object) -> None:
    other, _ = Cohort(replace(MANY, seed=2)).latents()
    assert not np.array_equal(other, brain[0])  # type: ignore[index]


def test_brain_variates_are_white(many: Cohort) -> None:
    w = many.brain_variates()
    cov = np.cov(w.T)
    # 4000 people: an entry has a standard error of 0.016, a variance one of 0.022.
    assert np.abs(cov - np.eye(12)).max() < 0.08


def test_the_brain_has_its_power_law(many: Cohort, brain: object) -> None:
    inner = brain[1]  # type: ignore[index]
    variances = inner.var(0)
    expected = spectrum(12) ** 2 + MANY.brain_noise**2
    assert np.abs(variances / expected - 1).max() < 0.1
    assert expected[3] == pytest.approx(0.5 + 0.0004)


def test_noise_lies_outside_the_basis_too(many: Cohort, brain: object) -> None:
    values, inner = brain  # type: ignore[misc]
    rest = values - inner @ many.brain_basis.T
    # 28 of 40 directions hold noise alone.
    assert rest.var() * 40 / 28 == pytest.approx(MANY.brain_noise**2, rel=0.05)


@pytest.mark.parametrize("gene", [0, 1])
def test_shared_variates_correlate_at_rho(many: Cohort, gene: int) -> None:
    w, k = many.brain_variates(), MANY.n_shared
    turn, _ = many.gene_frame(gene)
    _, inner, _ = many.gene(gene)
    own = (inner / spectrum(MANY.n_gene_inner)) @ turn
    for i in range(k):
        r = np.corrcoef(w[:, gene * k + i], own[:, i])[0, 1]
        assert r == pytest.approx(MANY.rhos[gene], abs=0.06)


def test_null_genes_share_nothing(many: Cohort, brain: object) -> None:
    _, inner, _ = many.gene(2)
    w = many.brain_variates()
    cross = np.corrcoef(np.column_stack([w, inner]).T)[:12, 12:]
    assert np.abs(cross).max() < 0.07


@pytest.mark.parametrize("gene", [0, 1])
def test_population_weights_give_white_variates_at_rho(
    many: Cohort, brain: object, gene: int
) -> None:
    canonical = canonical_of_gene(many, gene)
    u = brain[1] @ canonical.brain  # type: ignore[index]
    v = many.gene(gene)[1] @ canonical.gene
    assert np.abs(np.cov(u.T) - np.eye(2)).max() < 0.09
    assert np.abs(np.cov(v.T) - np.eye(2)).max() < 0.09
    cross = np.cov(u.T, v.T)[:2, 2:]
    assert np.abs(cross - np.diag(canonical.rhos)).max() < 0.07
    # Noise on both sides takes a little from rho.
    assert (canonical.rhos <= MANY.rhos[gene] + 1e-9).all()
    assert (canonical.rhos > 0.9 * MANY.rhos[gene]).all()


def test_no_weights_correlate_more(many: Cohort, brain: object) -> None:
    # Oracle: sample canonical correlations by QR and SVD of 4000 people.
    canonical = canonical_of_gene(many, 0)
    q1 = np.linalg.qr(brain[1] - brain[1].mean(0))[0]  # type: ignore[index]
    inner = many.gene(0)[1]
    q2 = np.linalg.qr(inner - inner.mean(0))[0]
    sample = np.linalg.svd(q1.T @ q2, compute_uv=False)[:2]
    assert sample == pytest.approx(canonical.rhos, abs=0.06)


def test_joint_variates_are_white(many: Cohort, brain: object) -> None:
    canonicals = [canonical_of_gene(many, gene) for gene in range(2)]
    weights, turn, rhos = joint_canonical(many, canonicals)
    u = brain[1] @ weights  # type: ignore[index]
    own = [many.gene(gene)[1] @ each.gene for gene, each in enumerate(canonicals)]
    v = np.concatenate(own, axis=1) @ turn
    cross = np.cov(u.T, v.T)
    assert np.abs(cross[:4, :4] - np.eye(4)).max() < 0.1
    assert np.abs(cross[4:, 4:] - np.eye(4)).max() < 0.1
    assert np.abs(cross[:4, 4:] - np.diag(rhos)).max() < 0.1


@pytest.mark.parametrize(
    ("k", "rho", "n", "expected", "error"),
    [
        (4, 0.7, 500, 0.0564, 0.0015),
        (16, 0.6, 500, 0.3407, 0.0037),
        (32, 0.6, 500, 0.7698, 0.0035),
        (32, 0.6, 128, 0.8760, 0.0055),
        (32, 0.6, 32, 0.9563, 0.0067),
    ],
)
def test_bayes_ranking_reaches_the_closed_form(
    k: int, rho: float, n: int, expected: float, error: float
) -> None:
    # Expected: Monte Carlo of the chi-square integral E[1 - F(d)]^(N-1), with its standard error.
    rng = np.random.default_rng(k + n)
    values = []
    for _ in range(max(4, 2000 // n)):
        u = rng.standard_normal((n, k))
        v = rho * u + np.sqrt(1 - rho**2) * rng.standard_normal((n, k))
        brain, gene = pmi_vectors(u, v, np.full(k, rho))
        values.append(rank_own_keys(Scorer(brain, gene)).columns()["r_at_1"].mean())
    own = np.std(values) / np.sqrt(len(values)) + 1e-3
    assert abs(np.mean(values) - expected) < 4 * np.hypot(own, error)


def test_scores_have_the_mean_of_the_information() -> None:
    # A matched pair's pointwise mutual information has the mean -k ln(1 - rho^2) / 2.
    k, rho = 16, 0.6
    rng = np.random.default_rng(0)
    u = rng.standard_normal((4000, k))
    v = rho * u + np.sqrt(1 - rho**2) * rng.standard_normal((4000, k))
    cross, own = pmi_terms(np.full(k, rho))
    constant = -0.5 * k * np.log(1 - rho**2)
    scores = (u * v) @ cross - (u**2 + v**2) @ own / 2 + constant
    assert scores.mean() == pytest.approx(constant, abs=4 * np.sqrt(k * rho**2 / 4000))


def test_a_genotype_has_few_vectors() -> None:
    values, _, _ = Cohort(replace(MANY, n_classes=6)).gene(0)
    assert len(np.unique(values, axis=0)) == 6


def test_missing_vectors_have_their_share() -> None:
    _, _, present = Cohort(replace(MANY, missing=0.1)).gene(1)
    assert present.mean() == pytest.approx(0.9, abs=0.02)


def test_twins_share_their_genes_and_hidden_numbers() -> None:
    cohort = Cohort(replace(MANY, twins=0.5))
    pairs = [i for i, who in enumerate(cohort.twin_of) if who != i]
    assert len(pairs) == 1000
    values, _, _ = cohort.gene(0)
    assert np.array_equal(values[pairs], values[cohort.twin_of[pairs]])
    people = list(cohort.people().values())
    assert people[pairs[0]]["family"] == people[pairs[0] - 1]["family"]


def test_ancestry_shows_in_null_genes_and_brain() -> None:
    cohort = Cohort(replace(MANY, ancestry=2.0))
    _, inner = cohort.latents()
    _, gene, _ = cohort.gene(2)
    assert np.corrcoef(inner[:, 0], gene[:, 0])[0, 1] > 0.5
    assert not cohort.spec.optimum_is_known


def test_bends_bound_the_brain() -> None:
    _, inner = Cohort(replace(MANY, bends=True)).latents()
    assert np.abs(inner).max() < 1.2


def test_blocks_cover_all_rows() -> None:
    assert [(s.start, s.stop) for s in blocks(5, 2)] == [(0, 2), (2, 4), (4, 5)]


def test_options_size_the_cohort() -> None:
    spec = cohort_spec(LatentsOptions(cohort="ukb", n_people=200, n_genes=7, seed=9))
    assert spec.sizes == (150, 25, 25)
    assert spec.tiers == ((0.7, 5), (0.5, 2), (0.35, 0), (0.2, 0))
    assert (spec.seed, spec.n_genes) == (9, 7)
    assert cohort_spec(LatentsOptions()).sizes == (800, 200, 200)


def test_truth_is_read_back(pack: object, cohort: Cohort) -> None:
    truth = read_truth(pack)  # type: ignore[arg-type]
    assert truth is not None
    assert dict(truth.rhos) == {"APOE": 0.8, "BDNF": 0.6}
    people = cohort.spec.ids[5:9]
    u, v, r = truth.variates(people, "BDNF")
    assert u.shape == v.shape == (4, 4)
    assert (r > 0.5).all()
    expected = cohort.latents()[1][5:9] @ canonical_of_gene(cohort, 1).brain
    assert u == pytest.approx(expected)
    assert truth.variates(people, "COMT")[0].shape == (4, 0)
    assert truth.variates(people, None)[2].shape == (8,)


def test_other_folders_have_no_truth(tmp_path: object) -> None:
    assert read_truth(tmp_path) is None  # type: ignore[arg-type]
