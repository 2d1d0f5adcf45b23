"""What every trained model is compared with: closed form, covariates alone, and the optimum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neurocli.core.engine.task import BaselineRows, Rows
from neurocli.core.errors import NeuroError
from neurocli.systems.genes.closed_form import (
    Components,
    GeneFit,
    fit_components,
    fit_gene,
    fold_numbers,
    gene_vectors,
    pmi_vectors,
)
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.covariates import design_matrix
from neurocli.systems.genes.joint import Joint, join, join_plainly
from neurocli.systems.genes.judging import rows_of
from neurocli.systems.genes.oracle import pmi_terms
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.solution import Solution, closed_solution, unit

Ints = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
RCCA, ORACLE, ORACLE_COSINE, COVARIATES = "rcca", "oracle", "oracle_cosine", "covariates"
FLOORS = (RCCA, COVARIATES)  # what a trained model has to beat
_MIN_FIT = 20


class ClosedForm:
    """Fit all genes of a training part once.

    Args:
        train: The training part.
        task: Components and ridge.
        genes: Indices of the genes; None for all.

    Raises:
        NeuroError: Too few people are in the part.
    """

    def __init__(
        self, train: PairSet, task: GenesTaskBlock, genes: Sequence[int] | None = None
    ) -> None:
        cohort, rows = train.cohort, train.rows
        self._train, self._task = train, task
        if len(rows) < _MIN_FIT:
            raise NeuroError(f"{len(rows)} training people are too few for rcca", where="rcca")
        self.cohort = cohort
        self.genes = list(range(len(cohort.genes))) if genes is None else list(genes)
        brain = cohort.brain(rows)
        self.components: Components = fit_components(brain, task.pca)
        scores = self.components.scores(brain)
        del brain
        folds = fold_numbers(len(rows))
        self.fits: list[GeneFit] = []
        for index in self.genes:
            at = np.flatnonzero(cohort.present[index, rows])
            if len(at) < _MIN_FIT:
                raise NeuroError(
                    f"{len(at)} training people have a vector: too few",
                    where=cohort.genes[index],
                    hint="leave the gene out with data.gene_subset",
                )
            own = cohort.gene(index, rows[at])
            self.fits.append(
                fit_gene(scores[at], self.components, own, ridge=task.ridge, folds=folds[at])
            )
        self.joint = self._joint(rows, folds, scores)

    def _joint(self, rows: npt.NDArray[np.intp], folds: Ints, scores: Float64) -> Joint:
        own = {
            place: fit.components.scores(self.cohort.gene(index, rows))
            for place, (index, fit) in enumerate(zip(self.genes, self.fits, strict=True))
            if fit.counted.any()
        }
        present = self.cohort.present[self.genes][:, rows].T
        return join(self.fits, self.components, folds, scores, own, present)

    @cached_property
    def solution(self) -> Solution:
        """Return the fit as maps that can be kept."""
        names = [self.cohort.genes[index] for index in self.genes]
        return closed_solution(names, self.components, self.fits, self.joint)

    def with_people(self, others: PairSet) -> ClosedForm:
        """Return the closed form of the same genes, fitted to more people.

        Args:
            others: People of another part, who must not be judged afterwards.
        """
        return ClosedForm(self._train.with_people(others), self._task, self.genes)

    def scores(self, rows: npt.NDArray[np.intp]) -> Float64:
        """Return the brain's scores (n, q) of people."""
        return self.solution.scores(self.cohort.brain(rows))

    @property
    def n_counted(self) -> int:
        """Return how many pairs of variates stand out."""
        return sum(int(fit.counted.sum()) for fit in self.fits)


def joint_vectors(
    solution: Solution, part: PairSet, genes: Sequence[int] | None = None
) -> tuple[Float64, Float64]:
    """Return vectors (n, F) that score the people of a part by all genes of a solution.

    Args:
        solution: How.
        part: Who.
        genes: Indices of its genes among the part's; None where they are the same.
    """
    cohort, rows = part.cohort, part.rows
    own_genes = list(range(len(cohort.genes))) if genes is None else list(genes)
    wanted = [0] if len(own_genes) == 1 else solution.joined
    vectors = {i: cohort.gene(own_genes[i], rows) for i in wanted}
    present = cohort.present[own_genes][:, rows].T
    return solution.vectors(solution.scores(cohort.brain(rows)), vectors, present)


def part_rows(part: PairSet, vectors: tuple[Float64, Float64]) -> Rows:
    """Return rows of a part's people, as the task's evaluation gives them."""
    families = [part.cohort.families[row] for row in part.rows]
    strata = None if part.strata is None else part.strata[part.rows]
    return rows_of(part.participants, families, vectors, part.classes[part.rows], strata)


def floor_rows(
    train: PairSet, judged: Sequence[PairSet], task: GenesTaskBlock, *, with_rcca: bool = True
) -> BaselineRows:
    """Return rows of the plain methods on what is judged.

    Args:
        train: The training part.
        judged: The parts that are judged.
        task: Settings of the closed form.
        with_rcca: Whether to fit the closed form.
    """
    rows: dict[str, Rows] = {}
    notes: list[str] = []
    if with_rcca:
        try:
            form = ClosedForm(train, task)
        except NeuroError as error:
            notes.append(f"no closed form: {error}")
        else:
            rows[RCCA] = [
                row
                for part in judged
                for row in part_rows(part, joint_vectors(form.solution, part))
            ]
    if train.covariates:
        rows[COVARIATES] = _covariate_rows(train, judged, task)
    rows |= oracle_rows(judged)
    return BaselineRows(rows, notes)


def oracle_rows(judged: Sequence[PairSet]) -> dict[str, Rows]:
    """Return rows of the best possible scores, where the truth is known."""
    truth = judged[0].truth
    if truth is None or not truth.arrays or judged[0].cohort.brain_explained is not None:
        return {}
    genes = judged[0].cohort.genes
    gene = genes[0] if len(genes) == 1 else None
    if gene is None and not set(truth.rhos) <= set(genes):
        return {}  # the joint optimum is of all true genes
    found: dict[str, Rows] = {ORACLE: [], ORACLE_COSINE: []}
    for part in judged:
        u, v, r = truth.variates(part.participants, gene)
        found[ORACLE] += part_rows(part, pmi_vectors(u, v, r))
        weights = np.sqrt(pmi_terms(r)[0])
        found[ORACLE_COSINE] += part_rows(part, (unit(u * weights), unit(v * weights)))
    return found


def _covariate_rows(train: PairSet, judged: Sequence[PairSet], task: GenesTaskBlock) -> Rows:
    """Return rows of canonical correlation between covariates alone and the raw gene vectors."""
    cohort = train.cohort
    design = design_matrix(dict(train.covariates), train.rows)[:, 1:].astype(np.float32)
    components = fit_components(design[train.rows], design.shape[1])
    fits = []
    for index in range(len(cohort.genes)):
        own = train.rows[cohort.present[index, train.rows]]
        raw = cohort.raw_gene(index, own)
        scores = components.scores(design[own])
        fits.append(fit_gene(scores, components, raw, ridge=task.ridge))
    found: Rows = []
    for part in judged:
        scores = components.scores(design[part.rows])
        raws = [cohort.raw_gene(index, part.rows) for index in range(len(cohort.genes))]
        if len(fits) == 1:
            vectors = gene_vectors(fits[0], scores, raws[0])
        else:
            joint = join_plainly(fits)
            v = joint.variates(dict(enumerate(raws)))
            present = cohort.present[joint.genes][:, part.rows].T
            vectors = (joint.brain_vectors(scores), joint.gene_vectors(v, present))
        found += part_rows(part, vectors)
    return found
