"""What an alignment hands back, and how it is put beside the optimum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocli.core.engine.judgement import EvalResult

_ABOVE_CHANCE = ("percentile",)
_PLAIN = ("r_at_1", "r_at_5", "r_at_10", "mrr")


@dataclass(frozen=True)
class AlignResult:
    """Hold the outcome of one alignment.

    Args:
        run: Run folder.
        mode: single, sequence or sweep.
        method: contrastive, rcca or rcca+contrastive.
        model: What gave the figures.
        checkpoint: `best_model.pt`; None after a dry run.
        part: The people judged.
        n: How many they are.
        metrics: Name -> value; of a sweep those of all genes at once.
        ci95: Name -> (low, high).
        baselines: Baseline -> its metrics on the same people.
        verdicts: Baseline -> metric -> what the intervals carry.
        details: Directions, galleries and what else there is.
        share_of_optimum: Metric -> share of what Bayes' rule reaches; empty on real data.
        genes: Rows of a sweep, the surest first.
        gene_names: Genes that were used.
        files: What was written, by name.
        built_in_data: Whether the built-in cohort stood in for the user's data.
        left_out: (name, reason) of what was found and could not be used.
        notes: Sentences the user should read.
        seconds: CPU seconds of this process.
        plan: What would be done, when nothing was done.
    """

    run: Path
    mode: str
    method: str
    model: str
    checkpoint: Path | None
    part: str = "test"
    n: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    ci95: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    share_of_optimum: Mapping[str, float] = field(default_factory=dict)
    genes: list[dict[str, Any]] = field(default_factory=list)
    gene_names: list[str] = field(default_factory=list)
    files: Mapping[str, Path] = field(default_factory=dict)
    built_in_data: bool = False
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    plan: Mapping[str, Any] | None = None

    @property
    def found(self) -> list[str]:
        """Return the genes of a sweep with q below 0.05."""
        return [str(row["gene"]) for row in self.genes if row["found"]]


def judged_fields(result: EvalResult) -> dict[str, Any]:
    """Return the fields of a result that a judgement fills."""
    details = dict(result.details)
    genes = details.pop("genes", [])
    details.pop("found", None)
    return {
        "genes": genes,
        "part": result.part,
        "n": result.n,
        "metrics": result.metrics,
        "ci95": result.ci95,
        "baselines": result.baselines,
        "verdicts": result.verdicts,
        "details": details,
        "share_of_optimum": share_of_optimum(result.metrics, result.baselines.get("oracle"), 0.5),
    }


def share_of_optimum(
    metrics: Mapping[str, float], best: Mapping[str, float] | None, chance: float
) -> dict[str, float]:
    """Return metrics as shares of the optimum's; the percentile above chance.

    Args:
        metrics: Of the method.
        best: Of the optimum; None where it is not known.
        chance: The percentile of chance.

    >>> share_of_optimum({"r_at_1": 0.4, "percentile": 0.7}, {"r_at_1": 0.5, "percentile": 0.9}, .5)
    {'r_at_1': 0.8, 'percentile': 0.5}
    """
    if best is None:
        return {}
    shares = {name: metrics[name] / best[name] for name in _PLAIN if best.get(name)}
    for name in _ABOVE_CHANCE:
        if best[name] > chance:
            shares[name] = (metrics[name] - chance) / (best[name] - chance)
    return {name: round(share, 6) for name, share in shares.items()}


def result_values(result: AlignResult) -> dict[str, Any]:
    """Return an alignment as plain values for JSON; undefined numbers become None."""
    values = {
        "run": str(result.run),
        "mode": result.mode,
        "method": result.method,
        "model": result.model,
        "checkpoint": None if result.checkpoint is None else str(result.checkpoint),
        "part": result.part,
        "n": result.n,
        "metrics": dict(result.metrics),
        "ci95": {name: list(pair) for name, pair in result.ci95.items()},
        "baselines": {name: dict(row) for name, row in result.baselines.items()},
        "verdicts": {name: dict(row) for name, row in result.verdicts.items()},
        "share_of_optimum": dict(result.share_of_optimum),
        **result.details,
        "gene_names": result.gene_names,
        "found": result.found,
        "genes": result.genes,
        "files": {name: str(path) for name, path in result.files.items()},
        "built_in_data": result.built_in_data,
        "left_out": [list(row) for row in result.left_out],
        "notes": result.notes,
    }
    plain: dict[str, Any] = _plain(values)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
