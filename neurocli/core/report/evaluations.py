"""The judgements of a run: `metrics.json` of each part with the table of subjects beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neurocli.core.report.records import (
    RecordReader,
    Table,
    as_mapping,
    as_number,
    as_numbers,
    as_texts,
)

ALIGN_SCHEMA = "neuro/align-genes/1"


@dataclass(frozen=True)
class Evaluation:
    """Hold one `metrics.json` with the table beside it.

    Args:
        part: "test", "val", "train" or "all".
        source: Name of its `metrics.json` within the run folder.
        n: How many units were judged; None when not recorded.
        unit: Plural of what a unit is.
        metrics: Name -> value; None where it is undefined.
        ci95: Name -> (low, high).
        baselines: Baseline -> its metrics on the same participants.
        baseline_ci95: Baseline -> its intervals; absent where it has none.
        in_sample: Whether participants of the training part were judged.
        built_in_data: Whether the data was synthetic.
        notes: Sentences of `evaluate`.
        subjects: `per_subject.csv`.
        subjects_source: Its name within the run folder.
    """

    part: str
    source: str
    n: int | None
    unit: str
    metrics: Mapping[str, float | None]
    ci95: Mapping[str, tuple[float, float]]
    baselines: Mapping[str, Mapping[str, float | None]]
    baseline_ci95: Mapping[str, Mapping[str, tuple[float, float]]]
    in_sample: bool
    built_in_data: bool
    notes: tuple[str, ...]
    subjects: Table
    subjects_source: str


def read_evaluations(reader: RecordReader) -> Iterator[Evaluation]:
    """Yield every judgement below a run folder, "test" first."""
    root = reader.folder / "evaluations"
    names = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    if (reader.folder / "metrics.json").is_file() and not _repeats(reader, names):
        yield _evaluation(reader, "")
    for name in sorted(names, key=lambda part: (part != "test", part)):
        if (root / name / "metrics.json").is_file():
            yield _evaluation(reader, f"evaluations/{name}/")


def _repeats(reader: RecordReader, names: list[str]) -> bool:
    """Return whether a run's own record says again what a judgement of it says."""
    record = reader.mapping("metrics.json")
    inside = reader.folder / "evaluations" / str(record.get("part")) / "metrics.json"
    is_whole = record.get("schema") == ALIGN_SCHEMA and record.get("part") in names
    return is_whole and inside.is_file()


def _evaluation(reader: RecordReader, prefix: str) -> Evaluation:
    record = reader.mapping(f"{prefix}metrics.json")
    subjects = f"{prefix}per_subject.csv"
    n = as_number(record.get("n"))
    table = reader.table(subjects)
    _tell_repeats(reader, subjects, table)
    return Evaluation(
        # The file's own word wins over the name of its folder, which may have been renamed.
        part=str(record.get("part") or prefix.removeprefix("evaluations/").rstrip("/") or "?"),
        source=f"{prefix}metrics.json",
        n=None if n is None else int(n),
        unit=str(record.get("unit") or "participants"),
        metrics=as_numbers(record.get("metrics")),
        ci95=dict(_intervals(record.get("ci95"))),
        baselines={
            str(name): as_numbers(row) for name, row in as_mapping(record.get("baselines")).items()
        },
        baseline_ci95={
            str(name): dict(_intervals(row))
            for name, row in as_mapping(record.get("baseline_ci95")).items()
        },
        in_sample=record.get("in_sample") is True,
        built_in_data=record.get("built_in_data") is True,
        notes=as_texts(record.get("notes")),
        subjects=table,
        subjects_source=subjects,
    )


def _tell_repeats(reader: RecordReader, source: str, table: Table) -> None:
    # Labelled windows are judged one by one and have their own name.
    key = "unit" if "unit" in table.header else "participant"
    counts = Counter(table.column(key) or ())
    repeated = sorted(name for name, n in counts.items() if n > 1)
    if repeated:
        reader.problems.append(
            f"{source}: {len(repeated)} {key}s have more than one row, such as {repeated[0]}"
        )


def _intervals(value: Any) -> Iterator[tuple[str, tuple[float, float]]]:
    for name, pair in as_mapping(value).items():
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            low, high = as_number(pair[0]), as_number(pair[1])
            if low is not None and high is not None:
                yield str(name), (low, high)
