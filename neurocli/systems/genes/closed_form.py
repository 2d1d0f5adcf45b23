"""Ridge canonical correlation of brains and genes in closed form: floor, warm start and sweep.

Everything is fitted on training people: principal components of the brain (shared by all genes),
components of each gene, and one small SVD per gene of their whitened cross-covariance. How far
each canonical pair correlates in people it was not fitted on is estimated in folds of the training
part, and pairs are scored by the pointwise mutual information at these correlations, which is what
Bayes' rule asks for when they are right.

Letters: S people, P numbers of a latent, d of a gene's vector, q components of the brain, e of a
gene, K canonical pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.linalg

from neurocli.core.errors import NeuroError
from neurocli.systems.genes.oracle import pmi_terms

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
N_FOLDS = 5
RIDGES = (0.05, 0.3, 0.9)
_MAX_EXACT = 6000  # above this side of the Gram matrix its top is found by iteration
_N_RANGE = 1024
_MAX_SHARE = 0.25  # components of the brain over training people
_SLACK = 1.05  # for the edge's fluctuation
_MIN_R = 1e-3
_GATE = 4.0  # standard errors above which a pair counts when genes are joined
_BLOCK = 2048
_EARNED = 1.05


@dataclass(frozen=True)
class Components:
    """Hold principal components of training rows.

    Args:
        mean: (P,).
        axes: (P, q) orthonormal.
        variances: (q,) of the training scores.
    """

    mean: Float32
    axes: Float32
    variances: Float64

    def scores(self, rows: Float32) -> Float64:
        """Return the scores (S, q) of rows (S, P)."""
        found = np.empty((len(rows), self.axes.shape[1]))
        for first in range(0, len(rows), _BLOCK):
            at = slice(first, first + _BLOCK)
            found[at] = (rows[at] - self.mean) @ self.axes
        return found

    def whitener(self, ridge: float) -> Float64:
        """Return (q,) weights that make scores white, damped by a ridge in [0, 1]."""
        damped = (1 - ridge) * self.variances + ridge * float(self.variances.mean())
        return np.asarray(damped**-0.5)


def fit_components(rows: Float32, n_components: int | None = None) -> Components:
    """Return the principal components of rows.

    Args:
        rows: (S, P) of training people.
        n_components: How many; None keeps those that stand out of white noise made of all smaller
            ones (the edge of Marchenko and Pastur), or all when none does; at most a quarter of
            the people.

    Raises:
        NeuroError: All rows are equal.
    """
    mean = rows.mean(0, dtype=np.float64).astype(np.float32)
    centred = rows - mean
    is_wide = centred.shape[0] <= centred.shape[1]
    gram = centred @ centred.T if is_wide else centred.T @ centred
    side = len(gram)
    values, vectors = _top(gram.astype(np.float64), _n_kept(gram, centred.shape, n_components))
    if not len(values) or values[0] <= 0:
        raise NeuroError("all training rows are equal, so there is nothing to align", where="pca")
    keep = values > values[0] * side * np.finfo(np.float32).eps
    values, vectors = values[keep], vectors[:, keep]
    axes = centred.T @ (vectors / np.sqrt(values)).astype(np.float32) if is_wide else vectors
    return Components(mean, axes.astype(np.float32), values / len(rows))


def _n_kept(gram: Float32, shape: tuple[int, ...], asked: int | None) -> int:
    most = max(1, min(*shape, int(shape[0] * _MAX_SHARE)))
    if asked is not None:
        return min(asked, *shape)
    if len(gram) > _MAX_EXACT:
        return min(most, _N_RANGE)
    values = scipy.linalg.eigvalsh(gram, check_finite=False)[::-1].astype(np.float64)
    values = np.maximum(values[: min(shape[0] - 1, shape[1])], 0.0)
    # The largest eigenvalue of m left of white noise is at most this many times their mean.
    left = np.arange(len(values), 0, -1)
    means = np.cumsum(values[::-1])[::-1] / left
    edge = _SLACK * (1 + np.sqrt(left / (max(shape) - len(values) + left))) ** 2
    stands_out = values > edge * means
    n_above = len(values) if stands_out.all() else int(np.argmin(stands_out))
    return min(n_above or most, most)


def _top(gram: Float64, n: int) -> tuple[Float64, Float64]:
    """Return the n largest eigenvalues, falling, and their vectors."""
    side = len(gram)
    if side <= _MAX_EXACT:
        values, vectors = scipy.linalg.eigh(
            gram, subset_by_index=[side - n, side - 1], driver="evr", check_finite=False
        )
        return values[::-1], vectors[:, ::-1]
    rng = np.random.Generator(np.random.PCG64(0))
    basis = rng.standard_normal((side, min(side, n + 64)))
    for _ in range(6):
        basis = np.linalg.qr(gram @ basis)[0]
    values, turn = np.linalg.eigh(basis.T @ gram @ basis)
    return values[::-1][:n], (basis @ turn[:, ::-1])[:, :n]


@dataclass(frozen=True)
class GeneFit:
    """Hold the canonical pairs of one gene.

    Args:
        components: Of the gene's vectors.
        brain: (q, K), from the brain's scores to its variates.
        gene: (e, K), from the gene's scores to its variates.
        r: (K,) correlations in people left out of the fit, which may be negative by chance.
        n: Training people with a vector.
        folds: (q, K') and (e, K') maps of the counted pairs, fitted without one fold each.
    """

    components: Components
    brain: Float64
    gene: Float64
    r: Float64
    n: int
    folds: tuple[tuple[Float64, Float64], ...] = ()

    @property
    def weights(self) -> Float64:
        """Return (K,) correlations as they are scored: shrunken by their error, never 0."""
        error = 1 / np.sqrt(self.n)
        positive = np.maximum(self.r, 0.0)
        kept = np.maximum(1 - (error / np.maximum(positive, error)) ** 2, 0.0)
        return np.asarray(np.clip(positive * kept, _MIN_R, 0.99))

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """Return (K,) which pairs stand out enough to be joined with other genes'."""
        return np.asarray(self.r > _GATE / np.sqrt(self.n))

    def gene_variates(self, rows: Float32) -> Float64:
        """Return v (S, K) of gene vectors (S, d)."""
        return self.components.scores(rows) @ self.gene


def fit_gene(
    scores: Float64,
    brain: Components,
    rows: Float32,
    *,
    ridge: float | None = None,
    folds: npt.NDArray[np.int64] | None = None,
) -> GeneFit:
    """Fit one gene to the brain's scores.

    Args:
        scores: (S, q) of training people who have the gene.
        brain: Components that gave them.
        rows: (S, d) the gene's vectors.
        ridge: In [0, 1] on both sides; None takes the one whose pairs correlate best in folds.
        folds: (S,) rising numbers of the fold of each person; None makes equal ones.

    Raises:
        NeuroError: All vectors are equal.
    """
    components = fit_components(rows)
    own = components.scores(rows)
    n = len(rows)
    numbers = fold_numbers(n) if folds is None else folds
    edges = np.searchsorted(numbers, np.arange(N_FOLDS + 1))
    parts = [slice(a, b) for a, b in itertools.pairwise(edges.tolist())]
    blocks = [scores[part].T @ own[part] for part in parts]
    best: tuple[float, GeneFit] | None = None
    for amount in RIDGES if ridge is None else (ridge,):
        left, right = brain.whitener(amount), components.whitener(amount)
        r, pairs = _held_out(scores * left, own * right, blocks, parts, (left, right))
        u, v = _directions(left[:, None] * sum(blocks) * right)
        fit = _unit(GeneFit(components, left[:, None] * u, right[:, None] * v, r, n), scores, own)
        gain = -0.5 * float(np.log1p(-(np.clip(fit.weights, 0, 0.99) ** 2)).sum())
        if best is None or gain > best[0] * _EARNED:  # a ridge must earn its place
            at = np.flatnonzero(fit.counted)
            kept = tuple((left[:, None] * a[:, at], right[:, None] * b[:, at]) for a, b in pairs)
            best = (gain, replace(fit, folds=kept))
    assert best is not None
    return best[1]


def fold_numbers(n: int) -> npt.NDArray[np.int64]:
    """Return the fold of each of n people, rising, in parts as equal as can be."""
    edges = np.arange(1, N_FOLDS) * n // N_FOLDS
    return np.asarray(np.searchsorted(edges, np.arange(n), side="right"), dtype=np.int64)


def _held_out(
    white: Float64,
    own: Float64,
    blocks: Sequence[Float64],
    parts: Sequence[slice],
    whiteners: tuple[Float64, Float64],
) -> tuple[Float64, list[tuple[Float64, Float64]]]:
    """Return the correlation of each pair in people whom its fit did not see, and these fits."""
    left, right = whiteners
    total = sum(blocks)
    sums = np.zeros((3, min(white.shape[1], own.shape[1])))
    fits = []
    for block, part in zip(blocks, parts, strict=True):
        u, v = _directions(left[:, None] * (total - block) * right)
        a, b = white[part] @ u, own[part] @ v
        sums += [(a * b).sum(0), (a * a).sum(0), (b * b).sum(0)]
        fits.append((u, v))
    floor = np.finfo(np.float64).tiny
    return np.asarray(sums[0] / np.sqrt(np.maximum(sums[1] * sums[2], floor))), fits


def _directions(cross: Float64) -> tuple[Float64, Float64]:
    """Return singular vectors (q, K) and (e, K) of a cross-covariance, the strongest first.

    They come from the smaller side's products, which is several times as fast as an SVD of the
    whole and loses only what is below the noise of any covariance.
    """
    if cross.shape[0] < cross.shape[1]:
        right, left = _directions(cross.T)
        return left, right
    squares, v = np.linalg.eigh(cross.T @ cross)
    v, strength = v[:, ::-1], np.sqrt(np.maximum(squares[::-1], 0.0))
    safe = np.maximum(strength, strength[0] * 1e-7 + np.finfo(np.float64).tiny)
    return cross @ v / safe, v


def _unit(fit: GeneFit, scores: Float64, own: Float64) -> GeneFit:
    """Return a fit whose variates have variance 1 in the training part."""
    spread = [np.maximum((x @ w).std(0), 1e-12) for x, w in ((scores, fit.brain), (own, fit.gene))]
    brain, gene = fit.brain / spread[0], fit.gene / spread[1]
    return replace(fit, brain=brain, gene=gene)


def gene_vectors(fit: GeneFit, scores: Float64, rows: Float32) -> tuple[Float64, Float64]:
    """Return vectors whose inner products score pairs of one gene.

    Args:
        fit: The gene's fit.
        scores: (S, q) the brain's scores.
        rows: (S, d) the gene's vectors.
    """
    return pmi_vectors(scores @ fit.brain, fit.gene_variates(rows), fit.weights)


def pmi_vectors(u: Float64, v: Float64, r: Float64) -> tuple[Float64, Float64]:
    """Return vectors (S, K+2) whose inner products rank pairs by pointwise mutual information."""
    cross, own = pmi_terms(r)
    one = np.ones((len(u), 1))
    brain = np.column_stack([u * cross, one, -(u**2) @ own / 2])
    gene = np.column_stack([v, -(v**2) @ own / 2, one])
    return brain, gene
