"""From two vectors per person to the judgement: whole-cohort retrieval, both ways, with its null.

Every candidate of the part is compared, never those of a batch: R@1 in batches of 32 can read
0.94 where that among 500 people is 0.75. Figures without a direction are means of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.engine.task import Rows, Summary
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.retrieval import (
    TOP,
    Ranks,
    Scorer,
    null_test,
    random_order_metrics,
    rank_own_keys,
    retrieval_metrics,
)

Float64 = npt.NDArray[np.float64]
TO_GENE, TO_BRAIN = "neuro_to_gene", "gene_to_neuro"
_MAX_NULL = 4096  # people whose full table of ranks the null test holds
_GALLERIES = (100, 500, 1000)
_MEANS = (*(f"r_at_{k}" for k in TOP), "mrr", "percentile")


@dataclass(frozen=True)
class Pairs:
    """Hold the vectors of people.

    Args:
        people: Ids.
        families: Who is resampled together.
        brain: (N, F).
        gene: (N, F).
        classes: (N,) equal numbers for equal gene vectors.
        strata: (N,) candidates of the hard gallery agree in these; None for none.
    """

    people: list[str]
    families: list[str]
    brain: Float64
    gene: Float64
    classes: npt.NDArray[np.int64]
    strata: npt.NDArray[np.int64] | None = None

    def scorers(self) -> tuple[Scorer, Scorer]:
        """Return how genes are found from brains, and brains from genes."""
        return Scorer(self.brain, self.gene, self.classes), Scorer(self.gene, self.brain)


def pairs_of(rows: Rows) -> Pairs:
    """Return the pairs of rows, sorted by person, so that the order of batches means nothing."""
    ordered = sorted(rows, key=lambda row: row["participant"])
    strata = [row.get("stratum") for row in ordered]
    return Pairs(
        [str(row["participant"]) for row in ordered],
        [str(row.get("family", row["participant"])) for row in ordered],
        np.array([row["neuro"] for row in ordered], dtype=np.float64),
        np.array([row["gene"] for row in ordered], dtype=np.float64),
        np.array([row["gene_class"] for row in ordered], dtype=np.int64),
        None if None in strata else np.array(strata, dtype=np.int64),
    )


def rows_of(
    people: Sequence[str],
    families: Sequence[str],
    vectors: tuple[Float64, Float64],
    classes: npt.NDArray[np.int64],
    strata: npt.NDArray[np.int64] | None = None,
) -> Rows:
    """Return rows as `AlignTask.eval_step` gives them."""
    brain, gene = vectors
    further = [
        {} if strata is None else {"stratum": int(value)}
        for value in (classes if strata is None else strata)
    ]
    return [
        {
            "participant": person,
            "subject": person,
            "start": 0,
            "family": families[i],
            "neuro": brain[i],
            "gene": gene[i],
            "gene_class": int(classes[i]),
            **further[i],
        }
        for i, person in enumerate(people)
    ]


def judge(pairs: Pairs, *, permutations: int, loss: float | None = None) -> Summary:
    """Return the judgement of pairs.

    Args:
        pairs: Vectors whose inner products score.
        permutations: Random pairings for p_permutation; 0 leaves it out.
        loss: Contrastive loss over all pairs; None leaves it out.
    """
    forward, backward = pairs.scorers()
    ranks = {TO_GENE: rank_own_keys(forward), TO_BRAIN: rank_own_keys(backward)}
    columns = _columns(ranks)
    n = len(pairs.people)
    metrics = {name: measure(columns) for name, measure in MEASURES.items()}
    metrics["chance_r_at_1"] = 1 / n
    metrics["ceiling_r_at_1"] = ranks[TO_GENE].ceiling_r_at_1
    test, notes = _null(pairs, permutations)
    metrics |= {"p_value": test.p_value, "z": test.z}
    if permutations:
        metrics["p_permutation"] = test.p_permutation
    if loss is not None:
        metrics["loss"] = loss
    details: dict[str, Any] = {
        "directions": {name: retrieval_metrics(found.columns()) for name, found in ranks.items()},
        "n_distinct": ranks[TO_GENE].n_classes,
        "galleries": _galleries(pairs),
    }
    if pairs.strata is not None:
        details["hard_gallery"] = _hard(pairs)
    return Summary(
        metrics=metrics,
        ci95=bootstrap_ci(columns, MEASURES, participants=pairs.families),
        baselines={"chance": random_order_metrics(n)},
        per_subject=[
            {
                "participant": person,
                "rank_to_gene": float(ranks[TO_GENE].mid[i]),
                "rank_to_neuro": float(ranks[TO_BRAIN].mid[i]),
                "n_candidates": n,
                "percentile": float(columns["percentile"][i]),
            }
            for i, person in enumerate(pairs.people)
        ],
        n=n,
        unit="people",
        details=details,
        notes=notes,
    )


def _columns(ranks: Mapping[str, Ranks]) -> dict[str, Float64]:
    """Return one value per person: means of both directions, and the rank in each."""
    both = {name: found.columns() for name, found in ranks.items()}
    first, second = both[TO_GENE], both[TO_BRAIN]
    columns = {name: (first[name] + second[name]) / 2 for name in _MEANS}
    return {**columns, TO_GENE: first["rank"], TO_BRAIN: second["rank"]}


def _mean_of(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda columns: float(columns[name].mean())


def _median_rank(columns: Mapping[str, Any]) -> float:
    return float((np.median(columns[TO_GENE]) + np.median(columns[TO_BRAIN])) / 2)


def _mean_rank(columns: Mapping[str, Any]) -> float:
    return float((columns[TO_GENE].mean() + columns[TO_BRAIN].mean()) / 2)


MEASURES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    **{f"r_at_{k}": _mean_of(f"r_at_{k}") for k in TOP},
    "median_rank": _median_rank,
    "mean_rank": _mean_rank,
    "mrr": _mean_of("mrr"),
    "percentile": _mean_of("percentile"),
}


def _null(pairs: Pairs, permutations: int) -> tuple[Any, list[str]]:
    n, notes = len(pairs.people), []
    if n > _MAX_NULL:
        chosen = np.linspace(0, n - 1, _MAX_NULL).astype(int)
        pairs = _subset(pairs, chosen)
        notes.append(f"p values are of {_MAX_NULL} of the {n} people, evenly taken")
    forward, backward = pairs.scorers()
    return null_test(forward, backward, n_permutations=permutations), notes


def _subset(pairs: Pairs, at: npt.NDArray[np.intp]) -> Pairs:
    return Pairs(
        [pairs.people[i] for i in at],
        [pairs.families[i] for i in at],
        pairs.brain[at],
        pairs.gene[at],
        pairs.classes[at],
    )


def _galleries(pairs: Pairs) -> dict[str, float]:
    """Return R@1 among galleries of fixed sizes, so that cohorts of other sizes compare.

    It is the expected value over random galleries: with a keys above and t ties among N - 1
    others, the own key of a gallery of m wins when all m - 1 others come from the rest.
    """
    n = len(pairs.people)
    forward, backward = pairs.scorers()
    found = {}
    for size in (m for m in _GALLERIES if m <= n):
        values = []
        for ranks in (rank_own_keys(forward), rank_own_keys(backward)):
            # Ties count half of what they cost, as the middle of best and worst case.
            chances = [
                _all_below(n - 1, worse, size - 1)
                for worse in (ranks.above, ranks.above + ranks.ties)
            ]
            values.append((chances[0] + chances[1]) / 2)
        found[str(size)] = float(np.mean(values))
    return found


def _all_below(n_others: int, n_above: npt.NDArray[np.int64], n_drawn: int) -> float:
    """Return the mean chance that none of n_drawn others is one of those above."""
    from scipy.special import gammaln

    left = n_others - n_above
    possible = left >= n_drawn
    logs = np.where(
        possible,
        gammaln(left + 1.0)
        - gammaln(np.maximum(left - n_drawn, 0) + 1.0)
        + gammaln(n_others - n_drawn + 1.0)
        - gammaln(n_others + 1.0),
        -np.inf,
    )
    return float(np.exp(logs).mean())


def _hard(pairs: Pairs) -> dict[str, float]:
    """Return percentile and R@1 among candidates of the own stratum, and their mean number."""
    assert pairs.strata is not None
    _, place, counts = np.unique(pairs.strata, return_inverse=True, return_counts=True)
    own = counts[place.reshape(-1)]
    usable = own > 1
    values: dict[str, list[float]] = {"percentile": [], "r_at_1": []}
    for scorer in pairs.scorers():
        ranks = rank_own_keys(scorer, allowed=pairs.strata)
        share = 1 - (ranks.mid[usable] - 1) / (own[usable] - 1)
        values["percentile"].append(float(share.mean()) if usable.any() else float("nan"))
        values["r_at_1"].append(float(ranks.columns()["r_at_1"].mean()))
    return {
        **{name: float(np.mean(both)) for name, both in values.items()},
        "mean_candidates": float(own.mean()),
        "chance_r_at_1": float((1 / own).mean()),
    }
