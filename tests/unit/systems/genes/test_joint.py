"""All genes at once: the set of pairs, and when turning its directions helps."""

from __future__ import annotations

import numpy as np
import pytest

from neurocli.systems.genes.closed_form import (
    Components,
    GeneFit,
    fit_components,
    fit_gene,
    fold_numbers,
)
from neurocli.systems.genes.floor import ClosedForm
from neurocli.systems.genes.joint import Joint, _turned, join, join_plainly
from neurocli.systems.genes.pair_set import PairSet

N, WIDTH = 1500, 40


def genes(*, is_shared: bool) -> tuple[Joint, Joint, np.ndarray, list[np.ndarray]]:
    """Return the plain and the chosen set of six genes, test scores and test vectors.

    Args:
        is_shared: Whether all genes show one and the same number of the brain, as in linkage.
    """
    rng = np.random.default_rng(0)
    brain = rng.standard_normal((2 * N, WIDTH))
    rows = []
    for index in range(6):
        own = rng.standard_normal((2 * N, 3))
        shown = brain[:, 0 if is_shared else index]
        own[:, 0] = 0.45 * shown + np.sqrt(1 - 0.45**2) * own[:, 0]
        rows.append((own @ np.linalg.qr(rng.standard_normal((3, 3)))[0]).astype(np.float32))
    components = Components(
        np.zeros(WIDTH, np.float32), np.eye(WIDTH, dtype=np.float32), brain[:N].var(0)
    )
    folds = fold_numbers(N)
    fits = [fit_gene(brain[:N], components, own[:N], ridge=0.0, folds=folds) for own in rows]
    scores = {i: fit.components.scores(rows[i][:N]) for i, fit in enumerate(fits)}
    found = join(fits, components, folds, brain[:N], scores, np.ones((N, 6), dtype=bool))
    return join_plainly(fits), found, brain[N:], [own[N:] for own in rows]


def correlations(joint: Joint, scores: np.ndarray, rows: list[np.ndarray]) -> np.ndarray:
    u, v = scores @ joint.brain, joint.variates(dict(enumerate(rows)))
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(u.T, v.T, strict=True)])


def test_independent_genes_are_turned_and_gain() -> None:
    plain, found, scores, rows = genes(is_shared=False)
    assert found.is_turned
    crosses = np.corrcoef((scores @ found.brain).T) - np.eye(len(found.r))
    assert np.abs(crosses).mean() < np.abs(np.corrcoef((scores @ plain.brain).T)).mean()
    assert correlations(found, scores, rows).mean() > correlations(plain, scores, rows).mean()
    assert found.r.mean() == pytest.approx(correlations(found, scores, rows).mean(), abs=0.05)


def test_genes_that_share_a_direction_are_left_as_they_are() -> None:
    plain, found, _, _ = genes(is_shared=True)
    assert not found.is_turned
    assert np.array_equal(found.brain, plain.brain)


def test_turned_directions_are_the_nearest_at_right_angles() -> None:
    rng = np.random.default_rng(1)
    spread = rng.uniform(0.5, 2, 8)
    brain = rng.standard_normal((8, 3))
    white = spread[:, None] * _turned(brain, spread, np.ones(3))
    assert white.T @ white == pytest.approx(np.eye(3), abs=1e-12)
    # The polar factor: white' (spread brain) is symmetric and positive.
    product = white.T @ (spread[:, None] * brain)
    assert product == pytest.approx(product.T, abs=1e-12)
    assert (np.linalg.eigvalsh(product) > 0).all()


def test_joint_pairs_are_those_that_stand_out(form: ClosedForm, test_part: PairSet) -> None:
    rows = test_part.rows
    joint = join_plainly(form.fits)
    v = joint.variates({i: form.cohort.gene(i, rows) for i in joint.genes})
    u = form.scores(rows) @ joint.brain
    assert u.shape == v.shape == (60, len(joint.r))
    assert len(joint.r) == form.n_counted > 2
    for place, gene in enumerate(joint.gene):
        own = form.fits[gene].gene_variates(form.cohort.gene(int(gene), rows))
        best = max(abs(np.corrcoef(v[:, place], column)[0, 1]) for column in own.T)
        assert best == pytest.approx(1, abs=1e-5)
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(u.T, v.T, strict=True)]
    assert np.mean(found) == pytest.approx(joint.r.mean(), abs=0.1)


def test_where_nothing_stands_out_all_pairs_are_joined() -> None:
    rng = np.random.default_rng(5)
    brain_rows = rng.standard_normal((400, 30)).astype(np.float32)
    brain = fit_components(brain_rows, 5)
    rows = rng.standard_normal((400, 6)).astype(np.float32)
    fit: GeneFit = fit_gene(brain.scores(brain_rows), brain, rows)
    assert len(join_plainly([fit, fit]).r) == 2 * len(fit.r)
    chosen = join(
        [fit, fit],
        brain,
        fold_numbers(400),
        brain.scores(brain_rows),
        {},
        np.ones((400, 2), dtype=bool),
    )
    assert not chosen.is_turned
