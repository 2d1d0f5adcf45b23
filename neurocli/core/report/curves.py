"""What a run logged over its steps: `log.jsonl`, and `metrics.csv` where the log has no metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neurocli.core.report.records import RecordReader, Table, as_number, as_numbers

Points = tuple[tuple[float, float], ...]
_Series = dict[tuple[str, str], dict[float, float]]


@dataclass(frozen=True)
class Curves:
    """Hold what a run logged: (step, value) pairs of losses, and of metrics by (part, name)."""

    loss: Points = ()
    metrics: Mapping[tuple[str, str], Points] = field(default_factory=dict)
    source: str = "log.jsonl"


def read_curves(reader: RecordReader) -> Curves:
    """Return the curves of a run; a step that is logged twice counts once, the later one."""
    # By step: a run that was resumed may have logged a step twice.
    losses: dict[float, float] = {}
    metrics: _Series = {}
    n_repeated = 0
    for line in reader.lines("log.jsonl"):
        step = as_number(line.get("step"))
        if step is None:
            continue
        loss = as_number(line.get("loss"))
        if line.get("event") == "step" and loss is not None:
            n_repeated += step in losses
            losses[step] = loss
        elif line.get("event") == "eval":
            for name, value in as_numbers(line.get("metrics")).items():
                if value is not None:
                    metrics.setdefault((str(line.get("part")), name), {})[step] = value
    if n_repeated:
        reader.problems.append(
            f"log.jsonl: {n_repeated} steps are logged more than once; the later one counts"
        )
    if metrics:
        return Curves(_sorted(losses), {key: _sorted(row) for key, row in metrics.items()})
    rows = _metrics_csv(reader.table("metrics.csv"))
    return Curves(_sorted(losses), rows, "metrics.csv" if rows else "log.jsonl")


def _metrics_csv(table: Table) -> dict[tuple[str, str], Points]:
    found: _Series = {}
    names = ("step", "part", "metric", "value")
    if not set(names) <= set(table.header):
        return {}
    for cells in zip(*(table.column(name) or () for name in names), strict=True):
        step, value = as_number(cells[0]), as_number(cells[3])
        if step is not None and value is not None:
            found.setdefault((cells[1], cells[2]), {})[step] = value
    return {key: _sorted(row) for key, row in found.items()}


def _sorted(points: Mapping[float, float]) -> Points:
    return tuple(sorted(points.items()))
