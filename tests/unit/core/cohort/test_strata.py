"""Levels from columns: kinds, rank bins without divided ties, missing codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocli.core.cohort.strata import parse_request, quantile_bins, read_column
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError


def table(values: list[str | None]) -> Table:
    return Table([f"p{i}" for i in range(len(values))], "id", {"x": values}, Path("t.csv"))


def test_bins_of_distinct_values_are_equal_in_size() -> None:
    values = list(np.random.default_rng(0).permutation(100).astype(float))
    bins = quantile_bins(values, 5)
    assert [bins.count(index) for index in range(5)] == [20] * 5
    ordered = [index for _, index in sorted(zip(values, bins, strict=True))]
    assert ordered == sorted(ordered)


def test_bins_of_distinct_values_equal_numpy_quantiles() -> None:
    # 103 values: inner edges of numpy's quantiles fall between ranks, so both cut alike.
    values = np.random.default_rng(1).normal(size=103)
    edges = np.quantile(values, [0.25, 0.5, 0.75])
    ours = quantile_bins(values.tolist(), 4)
    theirs = np.searchsorted(edges, values, side="left")
    assert np.mean(np.array(ours) == theirs) > 0.98


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 8).map(float)), max_size=40), st.integers(1, 9))
def test_ties_share_a_bin_and_bins_are_ordered(values: list[float | None], n_bins: int) -> None:
    bins = quantile_bins(values, n_bins)
    of_value: dict[float, set[int]] = {}
    for value, index in zip(values, bins, strict=True):
        assert (value is None) == (index is None)
        if value is not None and index is not None:
            assert 0 <= index < n_bins
            of_value.setdefault(value, set()).add(index)
    assert all(len(found) == 1 for found in of_value.values())
    ordered = [found.pop() for _, found in sorted(of_value.items())]
    assert ordered == sorted(ordered)


def test_a_block_of_ties_goes_where_its_middle_lies() -> None:
    # Ranks by hand: the 9s take up 1/4 to 1, their middle 5/8 is in the upper half.
    assert quantile_bins([1.0, 9.0, 9.0, 9.0], 2) == [0, 1, 1, 1]
    assert quantile_bins([1.0, 1.0, 1.0, 9.0], 2) == [0, 0, 0, 1]


def test_too_few_bins_are_refused() -> None:
    with pytest.raises(UsageError, match="bins=0"):
        quantile_bins([1.0], 0)


def test_kinds_by_values() -> None:
    many = [str(i / 2) for i in range(11)]
    assert read_column(table(many), "x").kind == "continuous"
    assert read_column(table(many[:10]), "x").kind == "categorical"
    assert read_column(table(["M", "F"]), "x").kind == "categorical"
    assert read_column(table(["1", "2"]), "x", "continuous").kind == "continuous"
    assert read_column(table(many), "x", "categorical").kind == "categorical"


def test_numbers_are_spelt_one_way() -> None:
    # A table saved by another program writes 1 as 1.0 and 0.5 as 0.50: the levels are the same.
    one = read_column(table(["1", "2", "0.5"]), "x")
    other = read_column(table(["1.0", "2.00", "0.50"]), "x")
    assert one.labels == other.labels == ("1", "2", "0.5")


def test_missing_values_and_codes_are_one_level() -> None:
    column = read_column(table(["1", None, "-9999", "-9999.0", "2"]), "x")
    assert column.labels == ("1", None, None, None, "2")
    assert (column.n_missing, column.n_coded) == (3, 2)
    assert column.levels(5) == ["1", "(missing)", "(missing)", "(missing)", "2"]


def test_levels_of_a_continuous_column() -> None:
    column = read_column(table([*map(str, range(20)), None]), "x")
    assert column.levels(2) == ["bin0"] * 10 + ["bin1"] * 10 + ["(missing)"]


def test_a_typing_mistake_among_numbers_is_named_with_its_row() -> None:
    values = [str(i) for i in range(30)]
    values[7] = "2O"
    with pytest.raises(UsageError, match="1 of 30 values are no numbers: p7: 2O") as caught:
        read_column(table(values), "x")
    assert "x:cat" in str(caught.value.hint)
    assert read_column(table(values), "x", "categorical").labels[7] == "2O"


def test_text_called_continuous_is_refused() -> None:
    with pytest.raises(UsageError, match="no numbers"):
        read_column(table(["M", "F"]), "x", "continuous")


def test_an_empty_column_has_only_missing_values() -> None:
    column = read_column(table([None, None]), "x")
    assert column.kind == "categorical"
    assert column.levels(3) == ["(missing)"] * 2


def test_an_unknown_column_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown column 'y'"):
        read_column(table(["1"]), "y")


def test_requests() -> None:
    assert parse_request("age", ["age"]) == ("age", None)
    assert parse_request("age:cont", ["age"]) == ("age", "continuous")
    assert parse_request("age:cat", ["age"]) == ("age", "categorical")
    assert parse_request("dose:cat", ["dose:cat"]) == ("dose:cat", None)
    assert parse_request("a:b", ["a:b"]) == ("a:b", None)
