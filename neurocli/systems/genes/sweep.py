"""All genes in one run: each solved and judged by itself, with one test for all of them.

Genes are screened on validation people first, and the false discovery rate is controlled on test
people among those that pass; both samples are independent, so screening costs nothing but genes
whose signal is too weak to show twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from neurocli.core.engine.task import Rows, Summary
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.retrieval import (
    Scorer,
    benjamini_hochberg,
    equal_rows,
    null_test,
    rank_own_keys,
    retrieval_metrics,
)
from neurocli.systems.genes.closed_form import gene_vectors
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.floor import ClosedForm, part_rows
from neurocli.systems.genes.judging import judge, pairs_of
from neurocli.systems.genes.pair_set import PairSet

Float64 = npt.NDArray[np.float64]
FOUND_Q = 0.05
_MIN_PEOPLE = 10
_MEANS = ("r_at_1", "r_at_5", "r_at_10", "mrr", "percentile")


class Solved(Protocol):
    """Give the vectors of people by one gene, or by all."""

    def vectors(
        self, index: int, part: PairSet, at: npt.NDArray[np.intp]
    ) -> tuple[Float64, Float64]:
        """Return vectors (n, F) of the people at places `at` of a part, by one gene."""
        ...

    def joint(self, part: PairSet) -> tuple[Float64, Float64, int]:
        """Return vectors (n, F) of a part's people by all genes, and how many pairs count."""
        ...

    def about(self, index: int) -> dict[str, Any]:
        """Return what is known of a gene's fit, as further cells of its row."""
        ...


class ClosedSweep:
    """Give vectors by the closed form; the brain's scores of a part are computed once."""

    def __init__(self, form: ClosedForm) -> None:
        self.form = form
        self._scores: dict[int, Float64] = {}

    def scores(self, part: PairSet) -> Float64:
        """Return the brain's scores (n, q) of a part."""
        if id(part) not in self._scores:
            self._scores[id(part)] = self.form.scores(part.rows)
        return self._scores[id(part)]

    def vectors(
        self, index: int, part: PairSet, at: npt.NDArray[np.intp]
    ) -> tuple[Float64, Float64]:
        """Return vectors by pointwise mutual information of one gene."""
        own = part.cohort.gene(index, part.rows[at])
        return gene_vectors(self.form.fits[index], self.scores(part)[at], own)

    def joint(self, part: PairSet) -> tuple[Float64, Float64, int]:
        """Return vectors by all pairs that stand out."""
        return self.form.joint_vectors(part.rows, self.scores(part))

    def about(self, index: int) -> dict[str, Any]:
        """Return how strongly the gene's first pair correlates in people left out of its fit."""
        return {"r_first": float(self.form.fits[index].r.max(initial=0.0))}

    def stacked(self) -> dict[str, Any]:
        """Return each gene's maps from raw rows to variates, as plain tensors by gene."""
        axes = self.form.components.axes.astype(np.float64)
        names = [self.form.cohort.genes[index] for index in self.form.genes]
        found: dict[str, Any] = {
            "gene_names": names,
            "brain_mean": _plain(self.form.components.mean),
        }
        found["brain"] = {
            name: _plain((axes @ fit.brain).astype(np.float32))
            for name, fit in zip(names, self.form.fits, strict=True)
            if fit.counted.any()
        }
        found["gene"] = {
            name: _plain((fit.components.axes.astype(np.float64) @ fit.gene).astype(np.float32))
            for name, fit in zip(names, self.form.fits, strict=True)
        }
        found["r"] = {name: _plain(f.r) for name, f in zip(names, self.form.fits, strict=True)}
        return found


def _plain(values: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


@dataclass(frozen=True)
class Sweep:
    """Hold the judgement of all genes.

    Args:
        genes: One row per gene, the smallest p first.
        joint: The judgement of all genes at once.
        n_joint: Pairs of variates in it.
        notes: Sentences the user should read.
        joint_rows: Its rows, for the files.
    """

    genes: list[dict[str, Any]]
    joint: Summary
    n_joint: int
    notes: list[str]
    joint_rows: Rows

    @property
    def found(self) -> list[str]:
        """Return the genes with q below the level."""
        return [row["gene"] for row in self.genes if row["found"]]


def judge_genes(
    solved: Solved,
    test: PairSet,
    val: PairSet | None,
    task: GenesTaskBlock,
    listener: Listener,
) -> Sweep:
    """Judge every gene on test people, and all genes at once.

    Args:
        solved: Gives vectors.
        test: The judged part.
        val: Screens genes; None screens nothing.
        task: Permutations and the level of the screen.
        listener: Hears about the work.
    """
    names = test.cohort.genes
    listener(WorkStarted("judge genes", len(names), "genes"))
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        row = _judge_gene(solved, index, test, permutations=task.permutations)
        screened = None if val is None else _judge_gene(solved, index, val, permutations=None)
        row["p_val"] = None if screened is None else screened["p"]
        rows.append({**row, **solved.about(index), **_truth(test, name)})
        listener(ItemDone(name, "done"))
    listener(WorkFinished("judge genes"))
    notes = _discover(rows, task.screen_p)
    brain, gene, n_joint = solved.joint(test)
    joint_rows = part_rows(test, (brain, gene))
    joint = judge(pairs_of(joint_rows), permutations=task.permutations)
    if not n_joint:
        notes.append("no gene stands out in training; the joint score adds up what there is")
    ordered = sorted(rows, key=lambda row: (row["q"], row["p"], row["gene"]))
    return Sweep(ordered, joint, n_joint, notes, joint_rows)


def _judge_gene(
    solved: Solved, index: int, part: PairSet, *, permutations: int | None
) -> dict[str, Any]:
    """Return the row of one gene; without `permutations` only its p, for the screen."""
    cohort = part.cohort
    at = np.flatnonzero(cohort.present[index, part.rows])
    name = cohort.genes[index]
    if len(at) < _MIN_PEOPLE:
        return {"gene": name, "n": len(at), "p": 1.0, "z": 0.0, "percentile": 0.5}
    brain, gene = solved.vectors(index, part, at)
    labels = equal_rows(cohort.raw_gene(index, part.rows[at]))
    forward, backward = Scorer(brain, gene, labels), Scorer(gene, brain)
    test = null_test(forward, backward, n_permutations=permutations or 0)
    if permutations is None:
        return {"gene": name, "p": test.p_value}
    ranks = [rank_own_keys(scorer) for scorer in (forward, backward)]
    both = [found.columns() for found in ranks]
    columns = {key: (both[0][key] + both[1][key]) / 2 for key in _MEANS}
    metrics = [retrieval_metrics(each) for each in both]
    families = [cohort.families[row] for row in part.rows[at]]
    interval = bootstrap_ci(
        {"percentile": columns["percentile"]},
        {"percentile": lambda c: float(c["percentile"].mean())},
        participants=families,
        n=400,
    ).get("percentile", (float("nan"), float("nan")))
    return {
        "gene": name,
        "n": len(at),
        "n_distinct": ranks[0].n_classes,
        "ceiling_r_at_1": ranks[0].ceiling_r_at_1,
        **{key: float(values.mean()) for key, values in columns.items()},
        "median_rank": float(np.mean([each["median_rank"] for each in metrics])),
        "chance_r_at_1": 1 / len(at),
        "percentile_low": interval[0],
        "percentile_high": interval[1],
        "z": test.z,
        "p": test.p_value,
        "p_permutation": test.p_permutation,
    }


def _discover(rows: list[dict[str, Any]], level: float) -> list[str]:
    """Add q and whether a gene counts as found; return what to tell."""
    passed = [row for row in rows if row["p_val"] is None or row["p_val"] <= level]
    q_values: Any = benjamini_hochberg([row["p"] for row in passed]) if passed else []
    for row in rows:
        row["q"], row["screened_out"] = 1.0, row not in passed
    for row, q in zip(passed, q_values, strict=True):
        row["q"] = float(q)
    for row in rows:
        row["found"] = row["q"] < FOUND_Q
    if len(passed) == len(rows):
        return [f"q is over all {len(rows)} genes"]
    return [
        f"{len(passed)} of {len(rows)} genes have p <= {level:g} on validation people; q is over "
        "these, on test people, and 1 for the others"
    ]


def _truth(part: PairSet, name: str) -> dict[str, Any]:
    if part.truth is None:
        return {}
    return {"rho": part.truth.rhos.get(name, 0.0)}


def add_optimum(genes: Sequence[dict[str, Any]], optimum: Mapping[str, float]) -> None:
    """Add to rows what the optimum reaches and the share of it, above chance."""
    for row in genes:
        best = optimum.get(row["gene"])
        row["oracle_percentile"] = best
        row["share_of_oracle"] = None if best is None else (row["percentile"] - 0.5) / (best - 0.5)
