"""Turn phenotype columns into levels that a split can balance.

A level is a text. Categorical values are their own level; continuous values fall into quantile
bins by rank, and equal values always share a bin. A missing value is a level of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from neurocli.core.data.tables import Table, numeric_column
from neurocli.core.errors import UsageError
from neurocli.core.names import choices_text

Kind = Literal["continuous", "categorical"]

MISSING_LEVEL = "(missing)"
MISSING_CODES = frozenset({-9999.0, -99999.0})  # codes no measurement has; larger ones may be real
MAX_CATEGORIES = 10  # a numeric column with more distinct values is continuous
_KINDS: Mapping[str, Kind] = {"cont": "continuous", "cat": "categorical"}


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
    numbers: tuple[float | None, ...] | None
    labels: tuple[str | None, ...]
    n_coded: int = 0

    @property
    def n_missing(self) -> int:
        """Return how many values are missing."""
        return sum(label is None for label in self.labels)

    def levels(self, n_bins: int) -> list[str]:
        """Return the level of each row.

        Args:
            n_bins: Number of quantile bins of a continuous column.
        """
        if self.kind == "categorical" or self.numbers is None:
            return [MISSING_LEVEL if label is None else label for label in self.labels]
        bins = quantile_bins(self.numbers, n_bins)
        return [MISSING_LEVEL if index is None else f"bin{index}" for index in bins]


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
    present = [None if number != number else number for number in values.tolist()]
    numbers = tuple(None if number in MISSING_CODES else number for number in present)
    n_coded = numbers.count(None) - present.count(None)
    n_distinct = len(set(numbers) - {None})
    decided: Kind = kind or ("continuous" if n_distinct > MAX_CATEGORIES else "categorical")
    spelt = {number: None if number is None else _spelling(number) for number in set(numbers)}
    labels = tuple(spelt[number] for number in numbers)
    return Column(name, decided, numbers, labels, n_coded)


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
    if n_bins < 1:
        raise UsageError(f"bins={n_bins} is too few", hint="give 1 or more")
    counts = Counter(value for value in values if value is not None)
    n, start = counts.total(), 0
    bin_of: dict[float, int] = {}
    for value in sorted(counts):
        end = start + counts[value]
        bin_of[value] = (start + end) * n_bins // (2 * n)
        start = end
    return [None if value is None else bin_of[value] for value in values]


def _spelling(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
