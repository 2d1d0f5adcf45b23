"""Rows of people as a solution scores them: by all genes at once and, for a sweep, by each gene.

Rows are what judging reads, whether they come from a run that has just solved the genes or from
its file, batch by batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurocli.core.engine.task import Batch, Rows
from neurocli.core.metrics.retrieval import equal_rows
from neurocli.systems.genes.judging import Pairs, rows_of
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.solution import Solution

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class People:
    """Hold what is known of some people.

    Args:
        ids: Ids.
        families: Family of each.
        latents: (S, P).
        genes: Gene of the solution -> (S, d).
        present: (S, G) who has which gene.
        classes: (S,) equal numbers for equal gene vectors.
        strata: (S,) candidates of the hard gallery agree in these; None for none.
        keys: (S, G) equal numbers for equal vectors of a gene; None compares what is in `genes`.
    """

    ids: Sequence[str]
    families: Sequence[str]
    latents: Float32
    genes: Mapping[int, Float32]
    present: npt.NDArray[np.bool_]
    classes: npt.NDArray[np.int64]
    strata: npt.NDArray[np.int64] | None = None
    keys: npt.NDArray[np.uint64] | None = None


def people_of(part: PairSet, genes: Sequence[int]) -> People:
    """Return the people of a part.

    Args:
        part: The part.
        genes: Which of its genes are wanted, by place.
    """
    cohort, rows = part.cohort, part.rows
    return People(
        part.participants,
        [cohort.families[row] for row in rows],
        cohort.brain(rows),
        {index: cohort.gene(index, rows) for index in genes},
        cohort.present[:, rows].T,
        part.classes[rows],
        None if part.strata is None else part.strata[rows],
        None if cohort.genes_explained is None else part.gene_keys(rows),
    )


def people_of_batch(batch: Batch) -> People:
    """Return the people of a batch, as `PairSet.collate` gives it.

    Args:
        batch: Tensors and lists by name.
    """
    genes = batch["gene_sequence"].cpu().numpy()
    owned, strata, keys = (batch.get(name) for name in ("owned", "stratum", "gene_keys"))
    return People(
        batch["participant"],
        batch["family"],
        batch["neuro_embedding"].cpu().numpy(),
        {index: genes[:, index] for index in range(genes.shape[1])},
        np.ones(genes.shape[:2], dtype=bool) if owned is None else owned.cpu().numpy(),
        batch["gene_class"].cpu().numpy(),
        None if strata is None else strata.cpu().numpy(),
        None if keys is None else keys.cpu().numpy().view(np.uint64),
    )


def solved_rows(solution: Solution, people: People, *, by_gene: bool) -> Rows:
    """Return rows as `AlignTask.eval_step` gives them.

    Args:
        solution: How people are scored.
        people: Who.
        by_gene: Whether rows also tell what each gene by itself needs: `brain_variates` and
            `gene_variates` (K of all genes,), `present` (G,) and `gene_keys` (G,).
    """
    scores = solution.scores(people.latents)
    vectors = solution.vectors(scores, people.genes, people.present)
    rows = rows_of(people.ids, people.families, vectors, people.classes, people.strata)
    if not by_gene:
        return rows
    u = np.concatenate([scores @ maps.brain for maps in solution.genes], axis=1)
    v = np.concatenate(
        [maps.variates(people.genes[index]) for index, maps in enumerate(solution.genes)], axis=1
    )
    keys = people.keys
    if keys is None:
        keys = np.stack([equal_rows(people.genes[i]) for i in range(len(solution.genes))], axis=1)
    for place, row in enumerate(rows):
        row |= {
            "brain_variates": u[place],
            "gene_variates": v[place],
            "present": people.present[place],
            "gene_keys": keys[place],
        }
    return rows


def gene_pairs(solution: Solution, rows: Rows) -> list[Pairs]:
    """Return each gene's pairs: those of the rows who have it, sorted by id.

    Args:
        solution: That gave the rows.
        rows: With `by_gene`.
    """
    ordered = sorted(rows, key=lambda row: row["participant"])
    u, v, present, keys = (
        np.stack([row[name] for row in ordered])
        for name in ("brain_variates", "gene_variates", "present", "gene_keys")
    )
    found, first = [], 0
    for index, maps in enumerate(solution.genes):
        at, width = np.flatnonzero(present[:, index]), len(maps.r)
        columns = slice(first, first + width)
        first += width
        brain, gene = maps.vectors(u[at, columns], v[at, columns])
        people = [str(ordered[row]["participant"]) for row in at]
        families = [str(ordered[row]["family"]) for row in at]
        _, classes = np.unique(keys[at, index], return_inverse=True)
        found.append(Pairs(people, families, brain, gene, classes.reshape(-1).astype(np.int64)))
    return found
