"""From a phenotype column to what a head learns: classes by name, or a number.

A class keeps its name from the table; nothing is recoded behind the user's back. The order of
classes is the sorted order of their names, and it is written into the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from neurocli.core.data.output import PEOPLE_FILE, read_meanings
from neurocli.core.data.tables import Table, numeric_column, read_table
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.names import choices_text, nearest

TargetType = Literal["classification", "regression"]
# More distinct numbers than this are a quantity, fewer are codes of groups.
_MAX_CODES = 10


@dataclass(frozen=True)
class Targets:
    """Hold one phenotype of a cohort.

    Args:
        column: Name of the column.
        kind: How it is learned.
        classes: Names of the classes in label order; empty for a number.
        values: Unit (a participant, or a labelled window) -> label (class index) or number; absent
            where missing.
        missing: Units of the table without a usable value.
    """

    column: str
    kind: TargetType
    classes: tuple[str, ...]
    values: Mapping[str, float]
    missing: tuple[str, ...]

    def as_trained(self, classes: tuple[str, ...]) -> Targets:
        """Return these targets with the labels of a trained head.

        Args:
            classes: The head's classes in label order; empty for a number.

        Raises:
            NeuroError: The column holds a class that the head never saw.
        """
        unknown = [name for name in self.classes if name not in classes]
        if unknown or bool(classes) != bool(self.classes):
            raise NeuroError(
                f"{self.column} holds {choices_text(unknown or ['numbers'])}",
                hint=f"the checkpoint was trained on {choices_text(classes) or 'numbers'}",
            )
        values = {
            name: float(classes.index(self.classes[int(value)])) if classes else value
            for name, value in self.values.items()
        }
        return replace(self, classes=classes, values=values)


def read_targets(path: Path, column: str, kind: TargetType | None) -> Targets:
    """Read one column of a phenotype table.

    Args:
        path: CSV, TSV or Parquet; ids as in the dataset.
        column: Name of the column.
        kind: None takes what `participants.json` beside the table says, else decides: numbers with
            more than ten distinct values are regressed.

    Raises:
        UsageError: No such column.
        NeuroError: One class only, or words where numbers are meant.
        InputError: The table cannot be read.
    """
    return targets_of(read_phenotypes(path, column), column, kind or told_kind(path, column))


def read_phenotypes(path: Path, column: str) -> Table:
    """Read a phenotype table that holds a column.

    Raises:
        UsageError: There is no such table or no such column.
        InputError: The table cannot be read.
    """
    if not path.is_file():
        raise UsageError(
            f"no phenotypes for --task {column}: there is no such table",
            where=str(path),
            hint="give --set data.table=FILE with a column of participant ids",
        )
    table = read_table(path)
    _check_column(table, column)
    return table


def told_kind(path: Path, column: str) -> TargetType | None:
    """Return the kind of a column that `participants.json` beside a table says, if it does.

    Raises:
        InputError: The file cannot be read.
    """
    entry = read_meanings(path.parent).get(column) if path.name == PEOPLE_FILE else None
    kind = entry.get("Kind") if isinstance(entry, Mapping) else None
    return next((known for known in get_args(TargetType) if known == kind), None)


def targets_of(table: Table, column: str, kind: TargetType | None) -> Targets:
    """Turn one column of a table into targets.

    Args:
        table: One row per unit.
        column: Name of the column.
        kind: None decides: numbers with more than ten distinct values are regressed.

    Raises:
        UsageError: No such column.
        NeuroError: One class only, or words where numbers are meant.
    """
    path = table.path
    _check_column(table, column)
    numbers, words = numeric_column(table, column)
    distinct = {value for value in table.columns[column] if value is not None}
    if kind is None:
        kind = "regression" if not words and len(distinct) > _MAX_CODES else "classification"
    if kind == "classification":
        return _classes(table, column, path)
    if words:
        raise NeuroError(
            f"{column} holds {choices_text(words)}, which are no numbers",
            where=str(path),
            hint="use --task-type classification",
        )
    pairs = zip(table.ids, numbers.tolist(), strict=True)
    values = {name: number for name, number in pairs if number == number}
    missing = tuple(name for name in table.ids if name not in values)
    return Targets(column, "regression", (), values, missing)


def _check_column(table: Table, column: str) -> None:
    if column in table.columns:
        return
    near = nearest(column, table.columns)
    guess = f"; did you mean {near}?" if near else ""
    raise UsageError(
        f"no column '{column}'{guess}",
        where=str(table.path),
        hint=f"--task takes a column: {choices_text(table.columns)}",
    )


def read_sites(path: Path, column: str | None) -> dict[str, str]:
    """Return where each participant was measured; "n/a" where a row does not say.

    Args:
        path: A phenotype table; nothing is known when there is none.
        column: Its column of sites; None or an absent one tells nothing.

    Raises:
        InputError: The table cannot be read.
    """
    if column is None or not path.is_file():
        return {}
    table = read_table(path)
    cells = table.columns.get(column, [])
    return {name: cell or "n/a" for name, cell in zip(table.ids, cells, strict=False)}


def _classes(table: Table, column: str, path: Path) -> Targets:
    pairs = list(zip(table.ids, table.columns[column], strict=True))
    classes = tuple(sorted({value for _, value in pairs if value is not None}, key=_class_order))
    if len(classes) < 2:
        raise NeuroError(
            f"{column} has {len(classes)} class ({choices_text(classes)})",
            where=str(path),
            hint="a classifier needs at least two",
        )
    label = {name: float(index) for index, name in enumerate(classes)}
    values = {name: label[value] for name, value in pairs if value is not None}
    missing = tuple(name for name, value in pairs if value is None)
    return Targets(column, "classification", classes, values, missing)


def _class_order(name: str) -> tuple[float, str]:
    # Codes sort as numbers ("2" before "10"), words after them.
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name
