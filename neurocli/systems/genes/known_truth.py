"""The built-in cohort: brains and genes drawn from a Gaussian model whose optimum is known.

A true gene owns k hidden numbers of a person. They show in the brain and in the gene's vector as
variates t and t' that correlate at the gene's rho; null genes share nothing with the brain. The
brain's variates and private ones (m in all) are turned by a random rotation, given a power-law
spectrum, spread over P numbers and covered with noise; a gene's vector is made the same way.

Letters: S people, P numbers of a latent, m inner numbers of a brain, G genes, T true genes, k
shared numbers of a gene, d numbers of a gene's vector, l inner numbers of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_KNOWN = (
    "APOE", "BDNF", "COMT", "MAPT", "APP", "CLU", "BIN1", "PICALM", "TREM2", "SORL1", "ABCA7",
    "CR1", "CD33", "DRD2", "SNCA", "LRRK2", "GRN", "NRXN1", "CACNA1C", "DISC1", "GRIN2A", "RELN",
    "SLC6A4", "MTHFR",
)  # fmt: skip
_POWER = -0.5  # of the spectrum: the i-th inner number has variance i ** power
_N_SITES = 3
_BLOCK = 512


@dataclass(frozen=True)
class CohortSpec:
    """Size a cohort of known truth.

    Args:
        seed: Of everything that is drawn.
        sizes: People for training, validation and test.
        latent_shape: Shape of a latent as its file holds it; its product is P.
        n_inner: m.
        brain_noise: Standard deviation of the noise on a latent.
        n_genes: G; the true ones come first.
        tiers: (rho, how many genes) of the true genes.
        n_shared: k.
        gene_dim: d.
        n_gene_inner: l.
        gene_noise: Standard deviation of the noise on a gene's vector.
        n_classes: Distinct vectors of the first gene, as of a genotype; 0 for as many as people.
        missing: Share of (person, gene) without a vector.
        ancestry: Weight of one number of a person that shows in the brain and in all genes.
        twins: Share of people who have an identical twin: same genes, same hidden numbers.
        bends: Whether the brain's inner numbers pass through tanh.
    """

    seed: int = 0
    sizes: tuple[int, int, int] = (800, 200, 200)
    latent_shape: tuple[int, ...] = (2, 8, 8, 4)
    n_inner: int = 64
    brain_noise: float = 0.02
    n_genes: int = 24
    tiers: tuple[tuple[float, int], ...] = ((0.7, 2), (0.5, 2), (0.35, 1), (0.2, 1))
    n_shared: int = 4
    gene_dim: int = 32
    n_gene_inner: int = 16
    gene_noise: float = 0.05
    n_classes: int = 0
    missing: float = 0.0
    ancestry: float = 0.0
    twins: float = 0.0
    bends: bool = False

    @property
    def n_people(self) -> int:
        """Return S."""
        return sum(self.sizes)

    @property
    def n_latent(self) -> int:
        """Return P."""
        return prod(self.latent_shape)

    @cached_property
    def rhos(self) -> tuple[float, ...]:
        """Return rho of each true gene."""
        return tuple(rho for rho, count in self.tiers for _ in range(count))

    @property
    def genes(self) -> list[str]:
        """Return the names of the genes, the true ones first."""
        named = list(_KNOWN[: self.n_genes])
        return named + [f"GENE{i:03d}" for i in range(len(named) + 1, self.n_genes + 1)]

    @property
    def ids(self) -> list[str]:
        """Return the participants' ids: seven digits."""
        return [str(1_000_000 + 7 * i + 1) for i in range(self.n_people)]

    @property
    def optimum_is_known(self) -> bool:
        """Return whether the closed form of the optimum holds for this cohort."""
        return not (self.ancestry or self.bends or self.twins or self.n_classes)


UKB_SHAPE = CohortSpec(
    seed=1,
    sizes=(3000, 500, 500),
    latent_shape=(3, 15, 18, 15),
    n_inner=400,
    n_genes=111,
    tiers=((0.7, 5), (0.5, 5), (0.35, 5), (0.2, 5)),
    gene_dim=256,
    n_gene_inner=32,
)
"""As many people, numbers and genes as the described study has."""


class Cohort:
    """Draw the people of a specification, gene by gene, so that only one is held at a time."""

    def __init__(self, spec: CohortSpec) -> None:
        self.spec = spec
        rng = _rng(spec, 0)
        n, k = spec.n_people, spec.n_shared
        self.twin_of = _twins(spec)
        self.hidden = rng.standard_normal((len(spec.rhos), n, k))[:, self.twin_of]
        self.ancestry = rng.standard_normal(n)[self.twin_of]
        self.brain_turn = _rotation(rng, spec.n_inner)
        self.brain_basis = _orthonormal(rng, spec.n_latent, spec.n_inner)

    def brain_variates(self) -> Float64:
        """Return w (S, m): every true gene's t, then the private numbers."""
        spec = self.spec
        w = _rng(spec, 1).standard_normal((spec.n_people, spec.n_inner))
        for gene, rho in enumerate(spec.rhos):
            at = slice(gene * spec.n_shared, (gene + 1) * spec.n_shared)
            w[:, at] = np.sqrt(rho) * self.hidden[gene] + np.sqrt(1 - rho) * w[:, at]
        return w

    def latents(self) -> tuple[Float32, Float64]:
        """Return the latents (S, P) and their projection on the true basis (S, m)."""
        spec = self.spec
        inner = self.brain_variates() @ self.brain_turn.T * spectrum(spec.n_inner)
        inner[:, 0] += spec.ancestry * self.ancestry
        if spec.bends:
            inner = np.tanh(inner)
        rng = _rng(spec, 2)
        basis = self.brain_basis.astype(np.float32)
        values = np.empty((spec.n_people, spec.n_latent), dtype=np.float32)
        for first in range(0, spec.n_people, _BLOCK):
            rows = slice(first, first + _BLOCK)
            values[rows] = inner[rows].astype(np.float32) @ basis.T
            noise = rng.standard_normal(values[rows].shape, dtype=np.float32)
            values[rows] += np.float32(spec.brain_noise) * noise
        return values, (values @ basis).astype(np.float64)

    def gene_frame(self, gene: int) -> tuple[Float64, Float64]:
        """Return a gene's rotation (l, l) and basis (d, l)."""
        rng = _rng(self.spec, 10_000 + gene)
        return _rotation(rng, self.spec.n_gene_inner), _orthonormal(
            rng, self.spec.gene_dim, self.spec.n_gene_inner
        )

    def gene(self, gene: int) -> tuple[Float32, Float64, npt.NDArray[np.bool_]]:
        """Return one gene's vectors (S, d), their projection (S, l), and who has one (S,)."""
        spec = self.spec
        turn, basis = self.gene_frame(gene)
        rng = _rng(spec, 20_000 + gene)
        w = rng.standard_normal((spec.n_people, spec.n_gene_inner))[self.twin_of]
        if gene < len(spec.rhos):
            rho = spec.rhos[gene]
            own = w[:, : spec.n_shared]
            w[:, : spec.n_shared] = np.sqrt(rho) * self.hidden[gene] + np.sqrt(1 - rho) * own
        if gene == 0 and spec.n_classes:
            w = _as_genotype(w, spec.n_classes)
        inner = w @ turn.T * spectrum(spec.n_gene_inner)
        inner[:, 0] += spec.ancestry * self.ancestry
        values = inner.astype(np.float32) @ basis.astype(np.float32).T
        noise = rng.standard_normal(values.shape, dtype=np.float32)[self.twin_of]
        if not (gene == 0 and spec.n_classes):
            values += np.float32(spec.gene_noise) * noise
        present = rng.random(spec.n_people) >= spec.missing
        return values, (values @ basis).astype(np.float64), present

    def people(self) -> dict[str, dict[str, str]]:
        """Return the phenotype table: participant -> column -> text."""
        rng = _rng(self.spec, 3)
        n, twin_of = self.spec.n_people, self.twin_of
        ages, sexes = rng.integers(45, 81, n)[twin_of], rng.integers(0, 2, n)[twin_of]
        sites = rng.integers(0, _N_SITES, n)
        ids = self.spec.ids
        return {
            person: {
                "age": str(ages[i]),
                "sex": "FM"[sexes[i]],
                "site": f"site-{sites[i] + 1}",
                "family": ids[twin_of[i]],
                "ancestry": f"{self.ancestry[i]:.4f}",
            }
            for i, person in enumerate(ids)
        }

    def parts(self) -> dict[str, list[str]]:
        """Return ids by part, in the sizes of the specification."""
        ids, (n_train, n_val, _) = self.spec.ids, self.spec.sizes
        return {
            "train": ids[:n_train],
            "val": ids[n_train : n_train + n_val],
            "test": ids[n_train + n_val :],
        }


def spectrum(n: int) -> Float64:
    """Return the standard deviations of n inner numbers.

    >>> spectrum(4)[3] ** 2
    0.5
    """
    return np.arange(1, n + 1, dtype=np.float64) ** (_POWER / 2)


def _rng(spec: CohortSpec, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([spec.seed, stream])))


def _rotation(rng: np.random.Generator, n: int) -> Float64:
    return _orthonormal(rng, n, n)


def _orthonormal(rng: np.random.Generator, n: int, k: int) -> Float64:
    return np.linalg.qr(rng.standard_normal((n, k)))[0]


def _twins(spec: CohortSpec) -> npt.NDArray[np.intp]:
    """Return for each person whose genes they carry: their own, or those of the one before."""
    place = np.arange(spec.n_people)
    n_pairs = int(spec.twins * spec.n_people / 2)
    for first in np.linspace(0, spec.n_people - 2, n_pairs).astype(int) if n_pairs else ():
        if place[first] == first:
            place[first + 1] = first
    return place


def _as_genotype(w: Float64, n_classes: int) -> Float64:
    """Return w with each row replaced by the mean of its class along the first number."""
    order = np.argsort(np.argsort(w[:, 0], kind="stable"), kind="stable")
    classes = order * n_classes // len(w)
    means = np.stack([w[classes == c].mean(0) for c in range(n_classes)])
    return means[classes]


def blocks(n: int, size: int = _BLOCK) -> Iterator[slice]:
    """Yield slices that cover n rows."""
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))
