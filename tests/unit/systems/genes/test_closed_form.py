"""The closed form against plain numpy, scikit-learn's CCA and the known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

from neurocli.core.errors import NeuroError
from neurocli.core.metrics.retrieval import Scorer, rank_own_keys
from neurocli.systems.genes.closed_form import (
    Components,
    GeneFit,
    fit_components,
    fit_gene,
    gene_vectors,
    pmi_vectors,
)
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.pair_set import PairSet

RNG = np.random.default_rng(0)
SIGNAL, N = 5, 400
BASIS = np.linalg.qr(RNG.standard_normal((30, SIGNAL)))[0]
INNER = RNG.standard_normal((N, SIGNAL)) * [5, 4, 3, 2, 1.5]
ROWS = (INNER @ BASIS.T + 0.1 * RNG.standard_normal((N, 30)) + 7).astype(np.float32)


def components(rows: np.ndarray = ROWS, n: int | None = None) -> Components:
    return fit_components(rows, n)


@pytest.mark.parametrize("rows", [ROWS, ROWS[:20]], ids=["tall", "wide"])
def test_components_are_those_of_scikit_learn(rows: np.ndarray) -> None:
    found = components(rows, 4)
    theirs = PCA(4).fit(rows.astype(np.float64))
    assert found.mean == pytest.approx(theirs.mean_, rel=1e-4)
    overlap = np.abs((found.axes * theirs.components_.T).sum(0))
    assert overlap == pytest.approx(np.ones(4), abs=1e-3)
    n = len(rows)
    assert found.variances == pytest.approx(theirs.explained_variance_ * (n - 1) / n, rel=1e-3)


def test_scores_are_centred_with_the_told_variances() -> None:
    found = components()
    scores = found.scores(ROWS)
    assert scores.mean(0) == pytest.approx(np.zeros(found.axes.shape[1]), abs=1e-3)
    assert scores.var(0) == pytest.approx(found.variances, rel=1e-3)


def test_what_stands_out_of_noise_is_kept() -> None:
    assert components().axes.shape[1] == SIGNAL


@pytest.mark.parametrize("shape", [(200, 60), (60, 200)])
@pytest.mark.parametrize("n_signals", [1, 3, 10])
def test_the_number_of_components_is_found(shape: tuple[int, int], n_signals: int) -> None:
    rng = np.random.default_rng(n_signals)
    left = rng.standard_normal((shape[0], n_signals))
    right = np.linalg.qr(rng.standard_normal((shape[1], n_signals)))[0]
    rows = left @ right.T * 3 + 0.1 * rng.standard_normal(shape)
    assert fit_components(rows.astype(np.float32)).axes.shape[1] == n_signals


def test_white_noise_keeps_a_quarter_of_the_people() -> None:
    rows = np.random.default_rng(1).standard_normal((80, 50)).astype(np.float32)
    assert fit_components(rows).axes.shape[1] == 20


def test_equal_rows_are_refused() -> None:
    with pytest.raises(NeuroError, match="all training rows are equal"):
        fit_components(np.ones((10, 4), dtype=np.float32))


def test_a_ridge_damps_the_small_ones() -> None:
    found = components()
    plain, damped = found.whitener(0.0), found.whitener(0.5)
    assert plain == pytest.approx(found.variances**-0.5)
    assert damped[-1] < plain[-1]
    assert found.whitener(1.0) == pytest.approx(np.full(SIGNAL, found.variances.mean() ** -0.5))


@pytest.fixture(scope="module")
def pair() -> tuple[Components, np.ndarray, np.ndarray]:
    """Return brain components, their scores, and gene rows that share two of five numbers."""
    rng = np.random.default_rng(2)
    own = rng.standard_normal((N, 4))
    own[:, 0] = 0.8 * INNER[:, 0] / 5 + 0.6 * own[:, 0]
    own[:, 1] = 0.6 * INNER[:, 3] / 2 + 0.8 * own[:, 1]
    rows = (own @ rng.standard_normal((4, 9)) + 0.01 * rng.standard_normal((N, 9))) * 2
    brain = components()
    return brain, brain.scores(ROWS), rows.astype(np.float32)


def test_pairs_are_the_canonical_ones(
    pair: tuple[Components, np.ndarray, np.ndarray],
) -> None:
    brain, scores, rows = pair
    fit = fit_gene(scores, brain, rows, ridge=0.0)
    u, v = scores @ fit.brain, fit.gene_variates(rows)
    theirs = CCA(2, scale=False, max_iter=2000, tol=1e-10).fit(scores, rows)
    a, b = theirs.transform(scores, rows)
    for i in range(2):
        ours = np.corrcoef(u[:, i], v[:, i])[0, 1]
        # Theirs also fits the five directions of pure noise that ours leaves out.
        assert ours == pytest.approx(np.corrcoef(a[:, i], b[:, i])[0, 1], abs=0.03)
        assert abs(np.corrcoef(u[:, i], a[:, i])[0, 1]) == pytest.approx(1, abs=0.05)


def test_variates_have_variance_one(pair: tuple[Components, np.ndarray, np.ndarray]) -> None:
    brain, scores, rows = pair
    fit = fit_gene(scores, brain, rows, ridge=0.3)
    assert (scores @ fit.brain).std(0) == pytest.approx(np.ones(4), rel=1e-6)
    assert fit.gene_variates(rows).std(0) == pytest.approx(np.ones(4), rel=1e-3)


def test_held_out_correlations_are_near_the_truth(
    pair: tuple[Components, np.ndarray, np.ndarray],
) -> None:
    brain, scores, rows = pair
    fit = fit_gene(scores, brain, rows)
    assert fit.r[:2] == pytest.approx([0.8, 0.6], abs=0.09)
    # Chance: a standard error of 0.05.
    assert (np.abs(fit.r[2:]) < 0.2).all()
    assert fit.counted.tolist() == [True, True, False, False]


def test_fits_of_noise_promise_nothing() -> None:
    brain = components()
    scores = brain.scores(ROWS)
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((N, 6)).astype(np.float32)
    fit = fit_gene(scores, brain, rows)
    inside = [
        np.corrcoef(u, v)[0, 1]
        for u, v in zip((scores @ fit.brain).T, fit.gene_variates(rows).T, strict=True)
    ]
    assert max(inside) > 0.1  # what the fit itself sees
    assert not fit.counted.any()
    assert (fit.weights < 0.2).all()


def test_weights_shrink_and_never_vanish() -> None:
    fit = GeneFit(
        components(), np.zeros((5, 3)), np.zeros((5, 3)), np.array([0.5, 0.05, -0.3]), 100
    )
    # 0.5 (1 - 0.01/0.25) = 0.48; what is below its standard error is kept at the floor.
    assert fit.weights == pytest.approx([0.48, 1e-3, 1e-3])
    assert fit.counted.tolist() == [True, False, False]


def test_inner_products_rank_by_mutual_information() -> None:
    rng = np.random.default_rng(4)
    r = np.array([0.8, 0.3])
    u = rng.standard_normal((30, 2))
    v = r * u + np.sqrt(1 - r**2) * rng.standard_normal((30, 2))
    brain, gene = pmi_vectors(u, v, r)
    scores = brain @ gene.T
    for i, j in ((0, 0), (3, 7), (29, 1)):
        expected = (r / (1 - r**2) * u[i] * v[j]).sum()
        expected -= (r**2 / (1 - r**2) / 2 * (u[i] ** 2 + v[j] ** 2)).sum()
        assert scores[i, j] == pytest.approx(expected)


def test_the_closed_form_nears_the_optimum(form: ClosedForm, test_part: PairSet) -> None:
    truth = test_part.truth
    assert truth is not None
    scores = form.scores(test_part.rows)
    for index, name in enumerate(form.cohort.genes):
        rows = form.cohort.gene(index, test_part.rows)
        brain, gene = gene_vectors(form.fits[index], scores, rows)
        found = rank_own_keys(Scorer(brain, gene)).columns()["percentile"].mean()
        if name not in truth.rhos:
            assert abs(found - 0.5) < 0.16, name  # null SD 0.037 for 60 people
            continue
        best = rank_own_keys(Scorer(*pmi_vectors(*truth.variates(test_part.participants, name))))
        share = (found - 0.5) / (best.columns()["percentile"].mean() - 0.5)
        assert share > 0.7, name


def test_too_few_people_are_refused(train_part: PairSet, configure: object) -> None:
    few = PairSet(train_part.cohort, train_part.rows[:10], train_part.classes)
    with pytest.raises(NeuroError, match="10 training people are too few"):
        ClosedForm(few, configure().task)  # type: ignore[operator]


def test_only_training_people_are_looked_at(
    train_part: PairSet, configure: object, tmp_path: Path
) -> None:
    # Changing everybody else's brain leaves the fit as it was, bit by bit.
    task = configure().task  # type: ignore[operator]
    before = ClosedForm(train_part, task, genes=[0])
    block = train_part.cohort.latents
    values = np.array(block.values)
    others = np.setdiff1d(
        train_part.cohort.brain_rows, train_part.cohort.brain_rows[train_part.rows]
    )
    values[others] = 1e3
    original = block.__dict__.pop("values")
    block.__dict__["values"] = values
    try:
        after = ClosedForm(train_part, task, genes=[0])
    finally:
        block.__dict__["values"] = original
    assert np.array_equal(before.fits[0].brain, after.fits[0].brain)
    assert np.array_equal(before.components.axes, after.components.axes)
