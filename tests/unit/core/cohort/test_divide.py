"""From a table to an audited split: methods, policies for missing values, notes, hashes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from neurocli.core.cohort.divide import divide
from neurocli.core.cohort.options import SplitOptions, split_options
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError

N = 60
IDS = [f"sub-{i:03}" for i in range(N)]


def people(**columns: list[str | None]) -> Table:
    return Table(IDS, "id", columns, Path("t.csv"))


@pytest.fixture
def table() -> Table:
    chance = random.Random(0)
    return people(
        age=[f"{chance.gauss(40, 9):.1f}" for _ in IDS],
        sex=[chance.choice("MF") for _ in IDS],
        family=[str(i // 3) if i < 30 else None for i in range(N)],
        remark=[f"text {i}" for i in range(N)],
    )


@pytest.mark.parametrize(
    ("options", "method"),
    [
        (SplitOptions(), "random"),
        (SplitOptions(stratify="sex"), "stratified"),
        (SplitOptions(group="family"), "random, grouped"),
        (SplitOptions(stratify=["age", "sex"], group=("family",)), "stratified, grouped"),
        (SplitOptions(folds=4, stratify="sex"), "stratified, 4 folds"),
    ],
)
def test_the_method_is_told_and_nothing_leaks(
    table: Table, options: SplitOptions, method: str
) -> None:
    split = divide(table, options).split
    assert split.method == method
    assert split.groups["split"] == 0
    assert sorted(name for names in split.parts.values() for name in names) == IDS
    assert split.groups["n"] == (40 if options.group else 60)
    assert split.groups["largest"] == (3 if options.group else 1)


def test_balance_covers_usable_columns_the_asked_ones_first(table: Table) -> None:
    rows = divide(table, SplitOptions(stratify="sex")).split.balance
    assert [row["column"] for row in rows] == ["sex", "age", "family"]
    grouped = divide(table, SplitOptions(group="family")).split.balance
    assert [row["column"] for row in grouped] == ["age", "sex"]


def test_folds_rotate_and_the_first_gives_the_parts(table: Table) -> None:
    division = divide(table, SplitOptions(folds=5))
    assert len(division.split.folds) == 5
    assert division.split.parts == division.split.folds[0]
    assert "fold 1" in " ".join(division.notes)
    without_val = divide(table, SplitOptions(folds=5, val=0.0)).split
    assert all(not fold["val"] for fold in without_val.folds)


def test_missing_values_by_policy(table: Table) -> None:
    table.columns["age"][3] = None
    table.columns["sex"][5] = None
    kept = divide(table, SplitOptions(stratify="age,sex"))
    assert "age: 1 of 60 values are missing and form a level of their own" in kept.notes
    dropped = divide(table, SplitOptions(stratify="age,sex", missing="drop"))
    named = {name for names in dropped.split.parts.values() for name in names}
    assert set(IDS) - named == {"sub-003", "sub-005"}
    assert "2 people lack a value and are left out: sub-003 (age), sub-005 (sex)" in dropped.notes
    with pytest.raises(UsageError, match=r"2 of 60 people lack a value: sub-003 \(age\)"):
        divide(table, SplitOptions(stratify="age,sex", missing="error"))


def test_missing_codes_are_told_and_dropped() -> None:
    table = people(fiq=["-9999" if i < 7 else str(80 + i) for i in range(N)])
    assert (
        "fiq: 7 missing codes (-9999) count as missing"
        in divide(table, SplitOptions(stratify="fiq")).notes
    )
    left = divide(table, SplitOptions(stratify="fiq", missing="drop")).split.parts
    assert sum(map(len, left.values())) == N - 7


def test_relatives_without_group_are_warned_about(table: Table) -> None:
    notes = " ".join(divide(table, SplitOptions()).notes)
    assert "column family looks like families" in notes
    assert "--group family" in notes
    assert "looks like" not in " ".join(divide(table, SplitOptions(group="family")).notes)


def test_groups_that_are_too_large(table: Table) -> None:
    table.columns["country"] = ["x"] * N
    with pytest.raises(UsageError, match="--group country ties all 60 people"):
        divide(table, SplitOptions(group="country"))
    table.columns["country"] = ["x"] * 30 + [None] * 30
    notes = " ".join(divide(table, SplitOptions(group="country")).notes)
    assert "the group of 'sub-000' holds 30 of 60" in notes


def test_a_change_of_sizes_by_groups_is_told() -> None:
    table = people(site=[str(i // 10) for i in range(N)])
    notes = " ".join(divide(table, SplitOptions(group="site")).notes)
    assert "whole groups change the sizes: train 40 for 42" in notes


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("agee", "unknown column 'agee'; did you mean age"),
        ("remark", "holds 60 different texts for 60 people"),
        ("empty", "holds no value at all"),
        ("sex:cont", "values are no numbers"),
    ],
)
def test_columns_that_cannot_be_balanced(table: Table, request_: str, words: str) -> None:
    table.columns["empty"] = [None] * N
    with pytest.raises(UsageError, match=words):
        divide(table, SplitOptions(stratify=request_))


def test_a_constant_column_is_told(table: Table) -> None:
    table.columns["sex"] = ["F"] * N
    notes = divide(table, SplitOptions(stratify="sex")).notes
    assert "sex: everyone has the same value, nothing to balance" in notes


def test_tiny_cohorts_say_which_part_is_empty() -> None:
    table = Table(["a", "b"], "id", {}, Path("t.csv"))
    assert "2 people leave val and test empty" in divide(table, SplitOptions()).notes
    assert divide(table, SplitOptions(train=1.0, val=0.0)).notes == []
    three = Table(["a", "b", "c"], "id", {}, Path("t.csv"))
    assert "3 people leave val empty" in divide(three, SplitOptions()).notes


def test_the_input_hash_is_of_the_values_that_were_used(table: Table) -> None:
    def digest(changed: Table, **options: str) -> str | None:
        return divide(changed, SplitOptions(**options)).split.inputs_sha256

    first = digest(table, stratify="age", group="family")
    other = people(**{name: list(values) for name, values in table.columns.items()})
    other.columns["remark"][0] = "changed"
    other.columns["age"] = [f"{float(str(age)):.4f}" for age in other.columns["age"]]
    assert digest(other, stratify="age", group="family") == first
    other.columns["family"] = ["99", *other.columns["family"][1:]]
    assert digest(other, stratify="age", group="family") != first
    assert digest(table, stratify="age") != first


def test_imbalance_is_judged_on_the_asked_columns(table: Table) -> None:
    table.columns["odd"] = ["1" if i < 30 else "0" for i in range(N)]
    division = divide(table, SplitOptions(stratify="sex", seed=3))
    odd = next(row for row in division.split.balance if row["column"] == "odd")
    assert abs(odd["smd"]) > 0.1
    assert "odd" not in division.imbalanced
    everything = divide(table, SplitOptions(seed=3))
    rows = {row["column"]: row["smd"] for row in everything.split.balance}
    assert everything.imbalanced == [
        name for name, smd in rows.items() if smd is not None and abs(smd) > 0.1
    ]


def test_options_are_checked() -> None:
    assert (
        split_options(None, {"sample": "none", "covariates": (), "exact": [], "seed": 4}).seed == 4
    )
    assert split_options(SplitOptions(seed=2), {}).seed == 2
    with pytest.raises(UsageError, match="unknown option 'stratfy'; did you mean stratify"):
        split_options(None, {"stratfy": "age"})
    with pytest.raises(UsageError, match="unknown policy for missing values 'skip'"):
        SplitOptions(missing="skip")
    with pytest.raises(UsageError, match="unknown split format 'txt'"):
        SplitOptions(format="txt")
    with pytest.raises(UsageError, match="seed='7' is no whole number"):
        SplitOptions(seed="7")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="bins=0 is below 1"):
        SplitOptions(bins=0)
    with pytest.raises(UsageError, match="folds=True is no whole number"):
        SplitOptions(folds=True)
    with pytest.raises(UsageError, match="folds=1 is below 2"):
        SplitOptions(folds=1)
    assert SplitOptions(seed=-3).seed == -3
    assert SplitOptions(stratify=" age, sex,,age").stratify_names == ("age", "sex")
