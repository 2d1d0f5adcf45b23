"""The tables of a page: those of an experiment, with the columns that rooms of its runs name."""

from __future__ import annotations

from collections.abc import Sequence

from neurocli.core.catalog import RoomCard, find_model
from neurocli.core.errors import NeuroError
from neurocli.core.experiment import columns
from neurocli.core.experiment.columns import CASES_TABLE, TIDY_COLUMNS, Row, table_text
from neurocli.core.experiment.contest import TABLE as COMPARISON_TABLE

# Tables that only an experiment writes, and what they hold.
FOREIGN = {
    COMPARISON_TABLE: "differences between models with intervals",
    CASES_TABLE: "one row per case and run",
}


def room_of(model: str) -> RoomCard | None:
    """Return the room of a model; None for one that this version does not know."""
    try:
        return find_model(model)[0]
    except NeuroError:
        return None


def rooms_of(rows: Sequence[Row]) -> list[RoomCard]:
    """Return the rooms of the models of a table, each once."""
    models = dict.fromkeys(str(row.get("model_name")) for row in rows)
    found = {room.name: room for room in map(room_of, models) if room is not None}
    return list(found.values())


def runs_text(rows: Sequence[Row]) -> str:
    """Return the table of runs."""
    return table_text(columns.run_columns(rows, rooms_of(rows)), rows)


def epochs_text(rows: Sequence[Row]) -> str:
    """Return the table of epochs."""
    return table_text(columns.epoch_columns(rows, rooms_of(rows)), rows)


def mean_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns of the table of models.

    Args:
        rows: Of the table of runs.
    """
    return columns.mean_columns(rows, rooms_of(rows))


def model_means(
    rows: Sequence[Row], measures: Sequence[str]
) -> dict[str, dict[str, tuple[float, float | None, int]]]:
    """Return model -> column -> (mean, standard deviation, number of runs).

    The deviation is that of a sample (n - 1), None for one run; runs without a value do not count.

    Args:
        rows: Of the table of runs.
        measures: What to average.
    """
    found: dict[str, dict[str, tuple[float, float | None, int]]] = {}
    for row in columns.model_rows(rows, measures):
        own = found.setdefault(row["model_name"], {})
        if row["n"]:
            own[row["measure"]] = (row["mean"], row["std"], row["n"])
    return found


def models_text(rows: Sequence[Row]) -> str:
    """Return the table of models under two header lines, as pandas reads it (`header=[0, 1]`).

    Args:
        rows: Of the table of runs.
    """
    measures = mean_columns(rows)
    return columns.two_headed(columns.model_rows(rows, measures), measures)


def models_tidy_text(rows: Sequence[Row]) -> str:
    """Return the table of models with one row per model and metric."""
    return table_text(TIDY_COLUMNS, columns.model_rows(rows, mean_columns(rows)))
