"""Who goes when values are missing: each policy on one small table."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocli.core.cohort.missing import without_missing
from neurocli.core.data.tables import Table
from neurocli.core.errors import ExitCode, UsageError

COLUMNS: dict[str, list[str | None]] = {
    "age": ["50", None, "-9999", "70", "60"],
    "sex": ["F", None, "M", None, "F"],
}
PEOPLE = Table(["a", "b", "c", "d", "e"], "id", COLUMNS, Path("t.csv"))


def test_category_keeps_everyone() -> None:
    assert without_missing(PEOPLE, [("age", None), ("sex", None)], "category") == (PEOPLE, [])


def test_drop_leaves_out_who_lacks_any_value_and_says_which() -> None:
    kept, notes = without_missing(PEOPLE, [("age", None), ("sex", None)], "drop")
    assert kept.ids == ["a", "e"]
    assert kept.columns == {"age": ["50", "60"], "sex": ["F", "F"]}
    # b lacks both and is told once, by the first column; -9999 is a code of missing numbers.
    assert notes == ["3 people lack a value and are left out: b (age), c (age), d (sex)"]


def test_only_the_columns_asked_for_count() -> None:
    kept, notes = without_missing(PEOPLE, [("sex", "categorical")], "drop")
    assert kept.ids == ["a", "c", "e"]
    assert notes[0].startswith("2 people")
    assert without_missing(PEOPLE, [], "error") == (PEOPLE, [])


def test_a_code_is_a_text_where_the_column_is_one() -> None:
    people = Table(["a", "b"], "id", {"code": ["-9999", "x"]}, Path("t.csv"))
    assert without_missing(people, [("code", "categorical")], "error") == (people, [])


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_refusals_name_people_and_the_way_out(policy: str) -> None:
    people = Table(["a", "b"], "id", {"age": [None, None]}, Path("t.csv"))
    with pytest.raises(UsageError, match=r"2 of 2 people lack a value: a \(age\)") as caught:
        without_missing(people, [("age", None)], policy)
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.where == "t.csv"
    assert "missing=category" in str(caught.value.hint)
