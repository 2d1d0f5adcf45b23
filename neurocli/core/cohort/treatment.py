"""Read who is treated and who is not, and turn covariates into a table of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from neurocli.core.cohort.balance import MAX_LEVELS
from neurocli.core.cohort.strata import MISSING_LEVEL, Column, parse_request, read_column
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text

Floats = npt.NDArray[np.float64]
# Pairs of texts, told in lower case, of which the first is plainly the treated or the ill one.
_PLAIN = (("1", "0"), ("true", "false"), ("yes", "no"), ("y", "n"), ("case", "control"),
          ("treated", "control"), ("patient", "control"))  # fmt: skip


@dataclass(frozen=True)
class Classes:
    """Hold the class of each person.

    Args:
        name: The column.
        labels: Class of each person, none missing.
        names: The classes; of two the treated one comes first.
        why: How the treated class was told.
    """

    name: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    why: str

    @property
    def treated_S(self) -> npt.NDArray[np.bool_]:
        """Return who is in the first class."""
        return np.array([label == self.names[0] for label in self.labels], dtype=np.bool_)


def treatment_column(people: Table, request: str) -> tuple[Column, str | None]:
    """Return the column of the classes, and the class named as treated by `COLUMN=VALUE`.

    Args:
        people: The table.
        request: A column, or `COLUMN=VALUE`.

    Raises:
        UsageError: There is no such column.
    """
    name, value = request, None
    if request not in people.columns and "=" in request:
        name, _, value = request.partition("=")
    return read_column(people, name, "categorical"), value


def read_classes(people: Table, request: str, *, are_two: bool) -> Classes:
    """Return the class of each person; nobody's may be missing.

    Args:
        people: The table, without people who lack the value.
        request: A column, or `COLUMN=VALUE` to say which value means treated.
        are_two: Whether just two classes are wanted; with a value named all others are one.

    Raises:
        UsageError: There is no such column or value, one class only, or too many.
    """
    column, value = treatment_column(people, request)
    where = f"{people.path}, column {column.name}"
    labels = [label for label in column.labels if label is not None]
    counts = Counter(labels)
    told = ", ".join(f"'{name}' ({counts[name]})" for name in sorted(counts)[:6])
    if len(counts) < 2:
        raise UsageError(
            f"holds one class only: {told or 'no value at all'}",
            where=where,
            hint="choose a --treatment column with two classes",
        )
    if value is not None:
        if value not in counts:
            raise UsageError(f"no one has '{value}'", where=where, hint=f"the values are {told}")
        rest = sorted(set(counts) - {value})
        other = rest[0] if len(rest) == 1 else f"not {value}"
        merged = tuple(label if label == value else other for label in labels)
        return Classes(column.name, merged, (value, other), "as named")
    if not are_two:
        _check_few(counts, where)
        return Classes(column.name, tuple(labels), tuple(sorted(counts)), "")
    if len(counts) > 2:
        raise UsageError(
            f"holds {len(counts)} classes, two are needed: {told}",
            where=where,
            hint=f"name the treated one, as in --treatment {column.name}={sorted(counts)[0]}",
        )
    first, second = _treated_first(counts)
    is_plain = (first.lower(), second.lower()) in _PLAIN
    why = "by its name" if is_plain else "the smaller class"
    return Classes(column.name, tuple(labels), (first, second), why)


def _treated_first(counts: Counter[str]) -> tuple[str, str]:
    one, other = sorted(counts, key=lambda name: (counts[name], name))
    for pair in ((one, other), (other, one)):
        if (pair[0].lower(), pair[1].lower()) in _PLAIN:
            return pair
    return one, other


def _check_few(counts: Counter[str], where: str) -> None:
    if len(counts) > MAX_LEVELS:
        raise UsageError(
            f"holds {len(counts)} classes, at most {MAX_LEVELS} can be made equal",
            where=where,
            hint="choose a column of classes",
        )


def read_covariates(people: Table, names: Sequence[str], *, skip: str) -> list[Column]:
    """Return the columns to match on.

    Args:
        people: The table.
        names: Requests such as "age" or "site:cat".
        skip: The treatment column, which cannot be its own covariate.

    Raises:
        UsageError: A column is unknown, holds no value, is the treatment, or has too many texts.
    """
    found = []
    for text in names:
        name, kind = parse_request(text, list(people.columns))
        where = f"{people.path}, column {name}"
        if name == skip:
            raise UsageError("is the treatment itself", where=where, hint="drop it here")
        column = read_column(people, name, kind)
        if not column.n_levels:
            raise UsageError("holds no value at all", where=where, hint="choose another column")
        if column.kind == "categorical" and column.n_levels > 2 * MAX_LEVELS:
            raise UsageError(
                f"holds {column.n_levels} different texts: too many to compare",
                where=where,
                hint=f"choose a column with fewer levels, or {name}:cont if it holds numbers",
            )
        found.append(column)
    if not found:
        raise UsageError(
            "there is no covariate", hint="name the columns, as in --covariates age,sex"
        )
    return found


def design(columns: Sequence[Column]) -> tuple[Floats, list[str]]:
    """Return covariates as numbers, without an intercept.

    A continuous column is itself, missing values at its mean beside a column that marks them;
    a categorical one has a column per level but the first, missing being a level.

    Args:
        columns: The covariates.

    Returns:
        (people, columns) float64, and the name of each column.

    Raises:
        UsageError: Everyone has the same value in every column.
    """
    named = [made for column in columns for made in _design_of(column)]
    if not named:
        raise UsageError(
            f"no covariate varies: {choices_text(column.name for column in columns)}",
            hint="name other --covariates",
        )
    # Filled column by column, so that there is one table of a large cohort and not two.
    table = np.empty((len(columns[0].labels), len(named)))
    for index, (_, values) in enumerate(named):
        table[:, index] = values()
    return table, [name for name, _ in named]


def _design_of(column: Column) -> Iterator[tuple[str, Callable[[], Floats]]]:
    """Yield the name of each number that a column becomes, and what makes it."""
    if column.kind == "continuous" and column.numbers is not None:
        values = numbers_of(column)
        lacking = np.isnan(values)
        yield column.name, lambda: np.where(lacking, values[~lacking].mean(), values)
        if lacking.any():
            yield f"{column.name} {MISSING_LEVEL}", lambda: lacking.astype(np.float64)
        return
    levels, places = column.coded()
    codes = places.astype(np.int32)
    for index, level in enumerate(levels[1:], start=1):
        yield f"{column.name}={level}", partial(_is_level, codes, index)


def _is_level(codes: npt.NDArray[np.int32], index: int) -> Floats:
    return np.asarray(codes == index, dtype=np.float64)


def numbers_of(column: Column) -> Floats:
    """Return the numbers of a column, NaN where missing."""
    return column.values
