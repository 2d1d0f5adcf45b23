"""Balance rows against numpy and hand-computed standardised mean differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurocli.core.cohort.balance import balance_rows, largest_smd
from neurocli.core.cohort.strata import read_column
from neurocli.core.data.tables import Table

PARTS = {"train": ["a", "b", "c", "d"], "val": ["e"], "test": ["f", "g", "h"]}
IDS = list("abcdefgh")


def row(values: list[str | None], kind=None, parts=PARTS) -> dict:
    table = Table(IDS, "id", {"x": values}, Path("t.csv"))
    return balance_rows([read_column(table, "x", kind)], IDS, parts)[0]


def test_continuous_rows_equal_numpy() -> None:
    values = [1.0, 2.5, 4.0, 3.5, 9.0, 2.0, 6.0, 7.5]
    found = row([str(v) for v in values], "continuous")
    train, test = np.array(values[:4]), np.array(values[5:])
    assert found["parts"]["train"]["mean"] == pytest.approx(train.mean(), rel=1e-15)
    assert found["parts"]["test"]["sd"] == pytest.approx(test.std(ddof=1), rel=1e-15)
    denominator = np.sqrt((train.var(ddof=1) + test.var(ddof=1)) / 2)
    assert found["smd"] == pytest.approx((train.mean() - test.mean()) / denominator, rel=1e-14)
    assert found["denominator"] == "sqrt((sd_train^2 + sd_test^2) / 2)"
    assert found["parts"]["val"] == {"n": 1, "n_missing": 0, "mean": 9.0, "sd": None}


def test_missing_values_are_counted_and_left_out() -> None:
    found = row(["1", None, "3", None, "2", "5", None, "7"], "continuous")
    assert found["parts"]["train"]["n_missing"] == 2
    assert found["parts"]["train"]["mean"] == 2.0
    assert found["parts"]["test"]["n"] == 2


def test_categorical_rows_name_the_worst_level() -> None:
    # train: 1 of 4 is M; test: 2 of 3. By hand: (1/4 - 2/3) / sqrt((3/16 + 2/9) / 2).
    found = row(["M", "F", "F", "F", "M", "M", "M", "F"])
    assert found["parts"]["train"]["shares"] == {"F": 0.75, "M": 0.25}
    assert abs(found["smd"]) == pytest.approx((2 / 3 - 1 / 4) / np.sqrt((3 / 16 + 2 / 9) / 2))
    assert found["level"] in ("F", "M")


def test_the_worst_level_may_be_rarer_in_train() -> None:
    # By hand: a 1/4 against 2/3 (-0.92), b 1/2 against 1/3 (0.34), c 1/4 against 0 (0.82).
    found = row(["a", "b", "b", "c", "a", "a", "a", "b"])
    assert found["level"] == "a"
    assert found["smd"] == pytest.approx(-(5 / 12) / np.sqrt((3 / 16 + 2 / 9) / 2))


def test_smd_is_free_of_the_unit() -> None:
    values = [1.0, 2.5, 4.0, 3.5, 9.0, 2.0, 6.0, 7.5]
    one = row([str(v) for v in values], "continuous")["smd"]
    other = row([str(1000 * v + 7) for v in values], "continuous")["smd"]
    assert other == pytest.approx(one, rel=1e-12)


def test_undefined_differences_are_none() -> None:
    assert row(["1"] * 4 + ["5"] + ["2"] * 3, "continuous")["smd"] is None
    assert row(["1"] * 8, "continuous")["smd"] == 0.0
    assert row(["a"] * 4 + ["b"] * 4)["smd"] is None
    assert row(["a"] * 8)["smd"] == 0.0
    one_tested = {"train": ["a", "b"], "val": [], "test": ["c"]}
    assert row([str(i) for i in range(8)], "continuous", one_tested)["smd"] is None
    nobody_tested = {"train": IDS, "val": [], "test": []}
    assert row(["a", "b"] * 4, None, nobody_tested)["smd"] is None


def test_sums_do_not_depend_on_the_order_of_ids_in_a_part() -> None:
    values = ["0.1", "1e16", "-1e16", "0.3", "0", "1", "2", "3"]
    shuffled = {part: names[::-1] for part, names in PARTS.items()}
    assert row(values, "continuous") == row(values, "continuous", shuffled)
    assert row(values, "continuous")["parts"]["train"]["mean"] == pytest.approx(0.1)


def test_the_largest_difference() -> None:
    assert largest_smd([{"smd": 0.1}, {"smd": None}, {"smd": -0.4}]) == 0.4
    assert largest_smd([{"smd": None}]) is None
