"""Take out of brains and genes what covariates explain; fitted on training people alone.

A design has a column for the mean, one per number (z-scored, blanks at the mean, and a column that
says blank), and one per further level of a text. What people of the test part show never enters.

Letters: S people, c columns of the design, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocli.core.data.tables import Table, numeric_column, read_table
from neurocli.core.errors import InputError, UsageError
from neurocli.core.names import choices_text, lookup
from neurocli.systems.genes.ids import match_ids, shown

Float64 = npt.NDArray[np.float64]
_BLOCK = 1024
_MAX_LEVELS = 50
_MAX_KINDS = 10  # numbers of more values than that are continuous
_RIDGE = 1e-8


def columns_of(
    path: Path, people: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, list[str | None]], list[str]]:
    """Return columns of a table for people in their order, None where a cell is blank.

    Args:
        path: Table of people.
        people: Their ids.
        names: Columns.

    Returns:
        Column -> cells, and notes.

    Raises:
        InputError: The table cannot be read or names nobody of them.
        UsageError: There is no such column.
    """
    if not path.is_file():
        raise InputError(path, "no table of people", "name it with data.table")
    table = read_table(path)
    for name in names:
        lookup("column", name, table.columns, hint=f"in {path.name}")
    matched = match_ids(people, table.ids)
    if not matched.pairs:
        raise InputError(
            path, f"names nobody of these people, such as {shown(people)}", "check its ids"
        )
    place = dict(matched.pairs)
    rows = [place.get(i) for i in range(len(people))]
    notes = []
    if len(matched.pairs) < len(people):
        notes.append(
            f"{len(matched.left)} people have no row in {path.name}: {shown(matched.left)}"
        )
    return {n: [None if r is None else table.columns[n][r] for r in rows] for n in names}, notes


def design_matrix(columns: dict[str, list[str | None]], train: npt.NDArray[np.intp]) -> Float64:
    """Return the design (S, c) of columns.

    Args:
        columns: Name -> cells.
        train: Rows of the training people; means, deviations and levels are theirs.

    Raises:
        UsageError: A text column has too many levels.
    """
    n = len(next(iter(columns.values())))
    found = [np.ones(n)]
    for name, cells in columns.items():
        table = Table([str(i) for i in range(n)], "row", {name: cells}, Path(name))
        values, texts = numeric_column(table, name)
        if texts or not np.isfinite(values[train]).any():
            found += _levels(name, cells, train)
            continue
        mean, deviation = np.nanmean(values[train]), np.nanstd(values[train]) or 1.0
        found.append(np.nan_to_num((values - mean) / deviation))
        if np.isnan(values).any():
            found.append(np.isnan(values).astype(np.float64))
    return np.column_stack(found)


def _levels(name: str, cells: list[str | None], train: npt.NDArray[np.intp]) -> list[Float64]:
    levels = sorted({cells[i] or "" for i in train})
    if len(levels) > _MAX_LEVELS:
        raise UsageError(
            f"column {name} has {len(levels)} levels: {choices_text(levels[:3])}, ...",
            where="data.covariates",
            hint=f"at most {_MAX_LEVELS}; it looks like an id or free text",
        )
    return [np.array([float((cell or "") == level) for cell in cells]) for level in levels[1:]]


@dataclass(frozen=True)
class Explained:
    """Hold what a design explains of rows: `design @ weights`."""

    design: Float64
    weights: Float64

    def take_out(
        self, values: npt.NDArray[np.float32], rows: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Return values (n, F) of people without what the design explains."""
        return (values - self.design[rows] @ self.weights).astype(np.float32)


def explain(
    design: Float64,
    train: npt.NDArray[np.intp],
    read: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float32]],
) -> Explained:
    """Fit a design to rows of training people by least squares.

    Args:
        design: (S, c).
        train: Rows of training people that have values.
        read: Returns values (n, F) of rows.
    """
    normal = design[train].T @ design[train]
    normal += _RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    cross: Float64 | None = None
    for first in range(0, len(train), _BLOCK):
        rows = train[first : first + _BLOCK]
        part = design[rows].T @ read(rows)
        cross = part if cross is None else cross + part
    assert cross is not None
    weights: Float64 = np.linalg.solve(normal, cross).astype(np.float64)
    return Explained(design, weights)


def strata_of(columns: dict[str, list[str | None]]) -> npt.NDArray[np.int64]:
    """Return (S,) numbers that are equal for people who agree in all columns.

    Columns of more than ten different numbers are cut into fifths.

    Args:
        columns: Name -> cells.
    """
    keys = []
    for name, cells in columns.items():
        table = Table([str(i) for i in range(len(cells))], "row", {name: cells}, Path(name))
        values, texts = numeric_column(table, name)
        if texts or len(set(cells)) <= _MAX_KINDS:
            keys.append([cell or "" for cell in cells])
            continue
        edges = np.nanquantile(values, [0.2, 0.4, 0.6, 0.8])
        fifths = np.searchsorted(edges, values)
        # A blank is a stratum of its own; a search would put it among the largest.
        keys.append(
            ["" if blank else str(n) for n, blank in zip(fifths, np.isnan(values), strict=True)]
        )
    _, found = np.unique(["\t".join(row) for row in zip(*keys, strict=True)], return_inverse=True)
    return np.asarray(found.reshape(-1), dtype=np.int64)
