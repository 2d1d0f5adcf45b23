"""Turn phenotype columns into levels that a split can balance.

A level is a text. Categorical values are their own level; continuous values fall into quantile
bins by rank, and equal values always share a bin. A missing value is a level of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from neurocli.core.data.tables import Table, numeric_column
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["continuous", "categorical"]

MISSING_LEVEL = "(missing)"
MISSING_CODES = frozenset({-9999.0, -99999.0})  # codes no measurement has; larger ones may be real
MAX_CATEGORIES = 10  # a numeric column with more distinct values is continuous
_KINDS: Mapping[str, Kind] = {"cont": "continuous", "cat": "categorical"}


class _Numbers(Sequence[float | None]):
    """Show an array as numbers, None where it is NaN; half a million floats stay an array."""

    def __init__(self, values: Floats) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[float | None]:
        return (None if value != value else value for value in self.values.tolist())

    @overload
    def __getitem__(self, index: int) -> float | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[float | None]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(_Numbers(self.values[index]))
        value = float(self.values[index])
        return None if value != value else value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]


class _Spelt(Sequence[str | None]):
    """Show an array of numbers as texts, spelt when they are asked for and once per number."""

    def __init__(self, values: Floats) -> None:
        self.values = values

    @cached_property
    def _texts(self) -> list[str | None]:
        known, places = np.unique(self.values, return_inverse=True, equal_nan=True)
        spelt = [None if number != number else _spelling(number) for number in known.tolist()]
        return list(map(spelt.__getitem__, places.reshape(-1).tolist()))

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[str | None]:
        return iter(self._texts)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str | None]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._texts[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Column:
    """Hold one phenotype column with its missing values told apart.

    Args:
        name: The column's name.
        kind: How its values are to be compared.
        numbers: Values by row when every value is a number; None for text columns, and per row
            where missing.
        labels: Text of each value, spelt one way ("1" for 1.0); None where missing.
        n_coded: How many values were missing codes such as -9999.
    """

    name: str
    kind: Kind
    numbers: Sequence[float | None] | None
    labels: Sequence[str | None]
    n_coded: int = 0

    @cached_property
    def values(self) -> Floats:
        """Return the numbers as an array, NaN where missing; empty for a text column."""
        if isinstance(self.numbers, _Numbers):
            return self.numbers.values
        numbers = self.numbers or ()
        return np.array([np.nan if v is None else v for v in numbers], dtype=np.float64)

    @property
    def n_missing(self) -> int:
        """Return how many values are missing."""
        if isinstance(self.numbers, _Numbers):
            return int(np.isnan(self.values).sum())
        return sum(label is None for label in self.labels)

    @cached_property
    def n_levels(self) -> int:
        """Return how many different values there are, missing ones left out."""
        if isinstance(self.numbers, _Numbers):
            return len(np.unique(self.values[~np.isnan(self.values)]))
        return len(set(self.labels) - {None})

    def levels(self, n_bins: int) -> list[str]:
        """Return the level of each row.

        Args:
            n_bins: Number of quantile bins of a continuous column.
        """
        if self.kind == "categorical" or self.numbers is None:
            return [MISSING_LEVEL if label is None else label for label in self.labels]
        names = [*(f"bin{index}" for index in range(n_bins)), MISSING_LEVEL]
        return list(map(names.__getitem__, _bins(self.values, n_bins).tolist()))

    def coded(self) -> tuple[list[str], Ints]:
        """Return the levels of a categorical column, sorted, and the number of each row's."""
        labels = self.levels(1)
        known = sorted(set(labels))
        place = {level: index for index, level in enumerate(known)}
        return known, np.fromiter(map(place.__getitem__, labels), np.int64, len(labels))


def parse_request(text: str, known: Sequence[str]) -> tuple[str, Kind | None]:
    """Split "age:cont" into name and kind; a plain name leaves the kind open.

    Args:
        text: A column name, or a name with `:cont` or `:cat`.
        known: Names of the table's columns; a name that itself ends so is taken whole.

    >>> parse_request("sex:cat", ["sex"])
    ('sex', 'categorical')
    """
    name, _, suffix = text.rpartition(":")
    if text not in known and suffix in _KINDS:
        return name, _KINDS[suffix]
    return text, None


def read_column(table: Table, name: str, kind: Kind | None = None) -> Column:
    """Return a column with its kind decided and its missing codes recognised.

    A column whose values are all numbers is continuous when more than ten differ. Codes such as
    -9999 are missing values in a column of numbers; they are counted so that it can be said.

    Args:
        table: The table.
        name: One of its columns.
        kind: What the user said it is; None decides by the values.

    Raises:
        UsageError: There is no such column; or it was called continuous, or nine in ten of its
            values are numbers, and some are not.
    """
    cells = table.columns.get(name)
    known = table.read.get((name, kind))
    if known is None or known[0] is not cells:
        known = table.read[name, kind] = cells, _read_column(table, name, kind)
    found: Column = known[1]
    return found


def _read_column(table: Table, name: str, kind: Kind | None) -> Column:
    values, bad = numeric_column(table, name)
    texts = table.columns[name]
    n_present = sum(text is not None for text in texts)
    if bad and kind != "categorical" and (kind == "continuous" or 10 * len(bad) <= n_present):
        raise UsageError(
            f"{len(bad)} of {n_present} values are no numbers: {choices_text(bad[:3])}",
            where=f"{table.path}, column {name}",
            hint=f"correct them, leave them empty, or treat the column as text: {name}:cat",
        )
    if bad or not n_present:
        return Column(name, "categorical", None, tuple(texts))
    is_coded = np.isin(values, list(MISSING_CODES))
    values = np.where(is_coded, np.nan, values)
    found = Column(name, "categorical", _Numbers(values), _Spelt(values), int(is_coded.sum()))
    decided: Kind = kind or ("continuous" if found.n_levels > MAX_CATEGORIES else "categorical")
    return found if decided == "categorical" else replace(found, kind=decided)


def quantile_bins(values: Sequence[float | None], n_bins: int) -> list[int | None]:
    """Return the quantile bin of each value, by rank.

    A block of equal values goes whole into the bin of its middle rank, so heavy ties may leave
    bins empty; edges never fall between equal values, and nothing is interpolated.

    Args:
        values: Numbers; None where missing.
        n_bins: Number of bins, at least 1.

    Returns:
        Bin 0..n_bins-1 of each value; None where missing.

    Raises:
        UsageError: `n_bins` is below 1.

    >>> quantile_bins([5.0, 1.0, 1.0, None, 9.0], 2)
    [1, 0, 0, None, 1]
    """
    array = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return [None if index == n_bins else index for index in _bins(array, n_bins).tolist()]


def _bins(values: Floats, n_bins: int) -> Ints:
    """Return the bin of each value, `n_bins` where it is NaN."""
    if n_bins < 1:
        raise UsageError(f"bins={n_bins} is too few", hint="give 1 or more")
    found = np.full(len(values), n_bins, dtype=np.int64)
    is_known = ~np.isnan(values)
    _, places, counts = np.unique(values[is_known], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    by_value = (2 * ends - counts) * n_bins // (2 * max(int(is_known.sum()), 1))
    found[is_known] = by_value[places.reshape(-1)]
    return found


def _spelling(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
