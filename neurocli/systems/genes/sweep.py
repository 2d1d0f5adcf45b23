"""All genes in one run: each solved and judged by itself, with one test for all of them.

Genes are screened on validation people first, and the false discovery rate is controlled on test
people among those that pass; both samples are independent, so screening costs nothing but genes
whose signal is too weak to show twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocli.core.engine.task import Rows, Summary
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted, ignore
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.retrieval import (
    benjamini_hochberg,
    null_test,
    rank_own_keys,
    retrieval_metrics,
)
from neurocli.systems.genes.config import GenesTaskBlock
from neurocli.systems.genes.judging import Pairs, judge, pairs_of
from neurocli.systems.genes.pair_set import PairSet
from neurocli.systems.genes.solution import GeneMaps, Solution
from neurocli.systems.genes.solved_rows import gene_pairs

FOUND_Q = 0.05
_MIN_PEOPLE = 10
_MEANS = ("r_at_1", "r_at_5", "r_at_10", "mrr", "percentile")


@dataclass(frozen=True)
class Sweep:
    """Hold the judgement of all genes.

    Args:
        genes: One row per gene, the smallest p first.
        joint: The judgement of all genes at once.
        notes: Sentences the user should read.
    """

    genes: list[dict[str, Any]]
    joint: Summary
    notes: list[str]

    @property
    def found(self) -> list[str]:
        """Return the genes with q below the level."""
        return [row["gene"] for row in self.genes if row["found"]]


def judge_genes(
    solution: Solution,
    rows: Rows,
    screened: Mapping[str, float] | None,
    task: GenesTaskBlock,
    listener: Listener = ignore,
) -> Sweep:
    """Judge every gene on test people, and all genes at once.

    Args:
        solution: Scored the people.
        rows: Of the judged people, with what each gene needs.
        screened: Gene -> p on validation people; None screens nothing.
        task: Permutations and the level of the screen.
        listener: Hears about the work.
    """
    listener(WorkStarted("judge genes", len(solution.names), "genes"))
    found: list[dict[str, Any]] = []
    pairs = gene_pairs(solution, rows)
    for name, maps, own in zip(solution.names, solution.genes, pairs, strict=True):
        row = judge_gene(name, own, permutations=task.permutations)
        row["p_val"] = None if screened is None else screened[name]
        found.append({**row, **_about(maps)})
        listener(ItemDone(name, "done"))
    listener(WorkFinished("judge genes"))
    notes = _discover(found, task.screen_p)
    joint = judge(pairs_of(rows), permutations=task.permutations)
    ordered = sorted(found, key=lambda row: (row["q"], row["p"], row["gene"]))
    return Sweep(ordered, joint, notes)


def screen(solution: Solution, rows: Rows) -> dict[str, float]:
    """Return gene -> p among validation people.

    Args:
        solution: Scored the people.
        rows: Of these people, with what each gene needs.
    """
    pairs = zip(solution.names, gene_pairs(solution, rows), strict=True)
    return {name: float(judge_gene(name, own, permutations=None)["p"]) for name, own in pairs}


def _about(maps: GeneMaps) -> dict[str, Any]:
    if not maps.scale:
        first = {"scored_by": "rcca", "r_first": float(maps.r.max(initial=0.0))}
        warm = {"scored_by": "rcca+contrastive", "best_epoch": maps.epoch}
        return {**first, **warm} if maps.epoch else first
    return {"scored_by": "contrastive", "best_epoch": maps.epoch, "scale": maps.scale}


def judge_gene(name: str, pairs: Pairs, *, permutations: int | None) -> dict[str, Any]:
    """Return the row of one gene; without `permutations` only its p, for the screen.

    Args:
        name: The gene.
        pairs: The people who have it.
        permutations: Random pairings for p_permutation.
    """
    n = len(pairs.people)
    if n < _MIN_PEOPLE:
        return {"gene": name, "n": n, "p": 1.0, "z": 0.0, "percentile": 0.5}
    forward, backward = pairs.scorers()
    test = null_test(forward, backward, n_permutations=permutations or 0)
    if permutations is None:
        return {"gene": name, "p": test.p_value}
    ranks = [rank_own_keys(scorer) for scorer in (forward, backward)]
    both = [found.columns() for found in ranks]
    columns = {key: (both[0][key] + both[1][key]) / 2 for key in _MEANS}
    metrics = [retrieval_metrics(each) for each in both]
    interval = bootstrap_ci(
        {"percentile": columns["percentile"]},
        {"percentile": lambda c: float(c["percentile"].mean())},
        participants=pairs.families,
        n=400,
    ).get("percentile", (float("nan"), float("nan")))
    return {
        "gene": name,
        "n": n,
        "n_distinct": ranks[0].n_classes,
        "ceiling_r_at_1": ranks[0].ceiling_r_at_1,
        **{key: float(values.mean()) for key, values in columns.items()},
        "median_rank": float(np.mean([each["median_rank"] for each in metrics])),
        "chance_r_at_1": 1 / n,
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


def add_truth(genes: Sequence[dict[str, Any]], part: PairSet) -> None:
    """Add to rows how strongly each gene of a built-in cohort shows in the brain."""
    for row in genes:
        if part.truth is not None:
            row["rho"] = part.truth.rhos.get(row["gene"], 0.0)


def add_optimum(genes: Sequence[dict[str, Any]], optimum: Mapping[str, float]) -> None:
    """Add to rows what the optimum reaches and the share of it, above chance."""
    for row in genes:
        best = optimum.get(row["gene"])
        row["oracle_percentile"] = best
        row["share_of_oracle"] = None if best is None else (row["percentile"] - 0.5) / (best - 0.5)
