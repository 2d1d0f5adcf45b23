"""How far models of an experiment are apart, with intervals, as the experiment itself measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurocli.core.experiment.contest import RECORD
from neurocli.core.metrics.measures import measure
from neurocli.core.report.records import RecordReader, as_mapping, as_number
from neurocli.core.report.text import number_text

_MAX_ROWS = 40


@dataclass(frozen=True)
class Differences:
    """Hold the differences that an experiment recorded.

    Args:
        source: Where they stand.
        intervals: What their intervals are.
        rows: Cells: measure, first, second, n, mean of first minus second, its interval.
        n_rows: How many there are; a page shows the first.
        problems: Sentences about a damaged record.
    """

    source: str
    intervals: str
    rows: Sequence[tuple[str, ...]]
    n_rows: int
    problems: Sequence[str] = ()


def read_differences(folder: Path) -> Differences:
    """Return what `comparison.json` of an experiment holds; what does not fit is left out.

    Args:
        folder: The experiment's folder.
    """
    reader = RecordReader(folder)
    record = reader.mapping(RECORD)
    rows = list(_rows(as_mapping(record.get("metrics"))))
    said = str(record.get("intervals") or "not told")
    source = f"{folder.resolve().name}/{RECORD}"
    return Differences(source, said, rows[:_MAX_ROWS], len(rows), reader.problems)


def _rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for metric, contest in metrics.items():
        pairs = as_mapping(contest).get("pairs")
        for pair in map(as_mapping, pairs if isinstance(pairs, list) else ()):
            low, high = as_number(pair.get("low")), as_number(pair.get("high"))
            known = low is not None and high is not None
            yield (
                measure(str(metric)).axis,
                str(pair.get("first")),
                str(pair.get("second")),
                number_text(as_number(pair.get("n"))),
                number_text(as_number(pair.get("mean_difference"))),
                f"{number_text(low)} to {number_text(high)}" if known else number_text(None),
            )
