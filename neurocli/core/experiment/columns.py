"""The tables of an experiment: their names, columns, rows and writers; nothing here needs torch.

An experiment writes them while it runs, a report from run folders that lie anywhere. What a room
calls its columns stands on its card; a room that says nothing has `test_<metric>` and
`val_<metric>`. Memory is in bytes, latency in milliseconds, both of one sample; an empty cell was
not measured.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Protocol

from neurocli.core.catalog import RoomCard
from neurocli.core.data.tables import safe_cell
from neurocli.core.engine.judgement import table_text as text_of_rows

RUNS_TABLE = "integrated_experiment_results.csv"
EPOCHS_TABLE = "all_epochs_results.csv"
MODELS_TABLE = "model_comparison.csv"
MODELS_TIDY = "model_comparison_tidy.csv"
STAGES_TABLE = "stage_wise_pam_results.csv"
CASES_TABLE = "per_case.csv"

KEYS = ("dataset", "seed", "fold", "model_name")
COSTS = ("total_params", "flops", "pam_train", "pam_inference", "inference_latency_ms")
STAGE_COLUMNS = (*KEYS, "mode", "stage_name", "pam_mean", "pam_std", "num_runs")
TIDY_COLUMNS = ("model_name", "measure", "n", "mean", "std")
_MEASURED = ("pam_train", "pam_inference", "inference_latency_ms")
_PARTS = ("test", "val")
_DIGITS = 4
Row = Mapping[str, Any]
Epochs = Mapping[int, Mapping[str, Mapping[str, float]]]


class Scored(Protocol):
    """Tell how well a run does, wherever its records were read."""

    @property
    def best_epoch(self) -> int | None:
        """Return the epoch of the best checkpoint; None before the run has ended."""

    @property
    def epochs(self) -> Epochs:
        """Return epoch -> part -> metric -> value."""

    def names(self, part: str) -> Iterable[str]:
        """Return the metrics of the test part, or of another part at the best epoch."""

    def value(self, part: str, metric: str) -> float | int | None:
        """Return one of them; part `run` holds `best_epoch`."""


def run_row(keys: Row, costs: Row, run: Scored, room: RoomCard | None) -> Row:
    """Return a row of the table of runs.

    Args:
        keys: `KEYS` of the run.
        costs: `COSTS` of its model.
        run: How well it does.
        room: Names the columns; None where the model is of no known room.
    """
    head = {**keys, **{name: costs.get(name) for name in COSTS}}
    if room is not None and room.results:
        return head | {name: run.value(*of) for name, of in room.results.items()}
    own = {f"{part}_{name}": run.value(part, name) for part in _PARTS for name in run.names(part)}
    return {**head, "best_epoch": run.best_epoch, **own}


def run_columns(rows: Iterable[Row], rooms: Iterable[RoomCard]) -> list[str]:
    """Return the columns of the table of runs.

    Args:
        rows: From `run_row`; what no room names follows in order of appearance.
        rooms: Of their models.
    """
    named = [name for room in rooms for name in room.results]
    return columns_of(rows, (*KEYS, *COSTS, *(named or ("best_epoch",))))


def epoch_rows(keys: Row, run: Scored, room: RoomCard | None) -> Iterator[Row]:
    """Yield a row of the table of epochs for each; the test part stands on the best one alone.

    Args:
        keys: `KEYS` of the run.
        run: How well it does.
        room: Names the columns; None where the model is of no known room.
    """
    named = {} if room is None else room.epochs
    for epoch, parts in sorted(run.epochs.items()):
        row = {**keys, "epoch": epoch}
        if not named:
            row |= {f"{part}_{name}": v for part in parts for name, v in parts[part].items()}
        for column, (part, metric) in named.items():
            if part == "test":
                row[column] = run.value(part, metric) if epoch == run.best_epoch else None
            else:
                row[column] = parts.get(part, {}).get(metric)
        yield row


def epoch_columns(rows: Iterable[Row], rooms: Iterable[RoomCard]) -> list[str]:
    """Return the columns of the table of epochs, chosen as in `run_columns`."""
    return columns_of(rows, (*KEYS, "epoch", *(name for room in rooms for name in room.epochs)))


def stage_rows(runs: Iterable[tuple[Row, Sequence[Row]]]) -> Iterator[Row]:
    """Yield one row per stage and mode of each model.

    Args:
        runs: `KEYS` of each run, and the stages of its model as `profile` measured them. Memory
            does not depend on seed or fold: stages that a model has again are not told again.
    """
    done: set[str] = set()
    for keys, stages in runs:
        measured = repr((keys["model_name"], stages))
        if measured not in done:
            done.add(measured)
            for stage in stages:
                yield {**keys, **{name: stage.get(name) for name in STAGE_COLUMNS[len(KEYS) :]}}


def columns_of(rows: Iterable[Row], head: Iterable[str]) -> list[str]:
    """Return the columns that come first, and what else rows have in order of appearance."""
    return list(dict.fromkeys([*head, *(name for row in rows for name in row)]))


def table_text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return rows as CSV: numbers in full, what is missing empty, no cell that starts a formula."""
    whole = [{column: row.get(column) for column in columns} for row in rows]
    return text_of_rows(whole) if whole else ",".join(columns) + "\n"


def mean_columns(rows: Sequence[Row], rooms: Sequence[RoomCard]) -> tuple[str, ...]:
    """Return the columns of the table of models: what rooms compare, or all metrics; and costs.

    Args:
        rows: Of the table of runs.
        rooms: Of their models.
    """
    compared = dict.fromkeys(name for room in rooms for name in room.compared)
    own = [name for name in run_columns(rows, rooms) if name.partition("_")[0] in _PARTS]
    return (*(compared or own), *_MEASURED)


def model_rows(rows: Sequence[Row], measures: Sequence[str]) -> list[Row]:
    """Return mean and spread of each model's runs, one row per model and measure.

    Args:
        rows: One per run.
        measures: Columns of them.

    Returns:
        `model_name`, `measure`, `n`, `mean`, and `std` (ddof 1; None for a single run).

    >>> rows = [{"model_name": "a", "dice": 0.5}, {"model_name": "a", "dice": 0.7}]
    >>> model_rows(rows, ["dice"])[0]["mean"]
    0.6
    """
    found: list[Row] = []
    for model in dict.fromkeys(row["model_name"] for row in rows):
        for measure in measures:
            own = [row.get(measure) for row in rows if row["model_name"] == model]
            values = [float(value) for value in own if value is not None]
            mean = fmean(values) if values else None
            spread = stdev(values) if len(values) > 1 else None
            cells = (model, measure, len(values), mean, spread)
            found.append(dict(zip(TIDY_COLUMNS, cells, strict=True)))
    return found


def two_headed(rows: Sequence[Row], measures: Sequence[str]) -> str:
    """Return rows of `model_rows` as a table of one line per model under two header lines.

    Args:
        rows: From `model_rows`.
        measures: Columns, each with mean and std.

    Returns:
        CSV that `pandas.read_csv(..., header=[0, 1], index_col=0)` reads, 4 decimals.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model_name", *(name for name in measures for _ in range(2))])
    writer.writerow(["", *("mean", "std") * len(measures)])
    cells: dict[str, list[str]] = {}
    for row in rows:
        own = cells.setdefault(str(row["model_name"]), [])
        own += ["" if row[key] is None else f"{row[key]:.{_DIGITS}f}" for key in ("mean", "std")]
    writer.writerows([safe_cell(model), *own] for model, own in cells.items())
    return text.getvalue()
