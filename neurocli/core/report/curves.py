"""What a run logged over its steps: `log.jsonl`, and `metrics.csv` where the log has no metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neurocli.core.experiment.columns import Epochs
from neurocli.core.report.records import RecordReader, Table, as_number, as_numbers

Points = tuple[tuple[float, float], ...]
_ByEpoch = dict[int, dict[str, dict[str, float]]]
_Series = dict[tuple[str, str], dict[float, float]]
_NO_SCALARS = ("event", "step", "epoch", "lr", "grad_norm", "skipped", "spike")


@dataclass(frozen=True)
class Curves:
    """Hold what a run logged.

    Args:
        loss: (step, value) of the training loss.
        metrics: (part, name) -> (step, value).
        source: File of the metrics.
        epochs: Epoch -> part -> its numbers; scalars of training that the log does not give for
            the whole epoch are means over its logged steps.
    """

    loss: Points = ()
    metrics: Mapping[tuple[str, str], Points] = field(default_factory=dict)
    source: str = "log.jsonl"
    epochs: Epochs = field(default_factory=dict)


def read_curves(reader: RecordReader) -> Curves:
    """Return the curves of a run; a step that is logged twice counts once, the later one."""
    # By step: a run that was resumed may have logged a step twice.
    losses: dict[float, float] = {}
    scalars: dict[float, tuple[int, dict[str, float]]] = {}
    metrics: _Series = {}
    epochs: _ByEpoch = {}
    n_repeated = 0
    for line in reader.lines("log.jsonl"):
        step = as_number(line.get("step"))
        if step is None:
            continue
        loss, epoch = as_number(line.get("loss")), int(as_number(line.get("epoch")) or 0)
        if line.get("event") == "step" and loss is not None:
            n_repeated += step in losses
            losses[step] = loss
            scalars[step] = epoch, _scalars(line)
        elif line.get("event") == "eval":
            part = str(line.get("part"))
            for name, value in as_numbers(line.get("metrics")).items():
                if value is not None:
                    metrics.setdefault((part, name), {})[step] = value
                    epochs.setdefault(epoch, {}).setdefault(part, {})[name] = value
    _add_means(scalars, epochs)
    if n_repeated:
        reader.problems.append(
            f"log.jsonl: {n_repeated} steps are logged more than once; the later one counts"
        )
    if metrics:
        series = {key: _sorted(row) for key, row in metrics.items()}
        return Curves(_sorted(losses), series, epochs=dict(sorted(epochs.items())))
    rows = _metrics_csv(reader.table("metrics.csv"))
    source = "metrics.csv" if rows else "log.jsonl"
    return Curves(_sorted(losses), rows, source, dict(sorted(epochs.items())))


def _scalars(line: Mapping[str, Any]) -> dict[str, float]:
    found = as_numbers({key: value for key, value in line.items() if key not in _NO_SCALARS})
    return {name: value for name, value in found.items() if value is not None}


def _add_means(scalars: Mapping[float, tuple[int, Mapping[str, float]]], epochs: _ByEpoch) -> None:
    grouped: dict[tuple[int, str], list[float]] = {}
    for epoch, values in scalars.values():
        for name, value in values.items():
            grouped.setdefault((epoch, name), []).append(value)
    for (epoch, name), own in grouped.items():
        # What was told of the whole epoch says more than the steps that happened to be logged.
        epochs.setdefault(epoch, {}).setdefault("train", {}).setdefault(name, sum(own) / len(own))


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
