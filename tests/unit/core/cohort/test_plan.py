"""Choosing first or dividing first, and equal cells, counted by hand on one small table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.plan import plan_split
from neurocli.core.cohort.sampling import sample_people
from neurocli.core.data.tables import Table
from neurocli.core.errors import ExitCode, UsageError

# Twelve of site a (4 cases), twelve of site b (8 cases), six of site c (no case).
SITES = ["a"] * 12 + ["b"] * 12 + ["c"] * 6
CASES = ["1"] * 4 + ["0"] * 8 + ["1"] * 8 + ["0"] * 4 + ["0"] * 6
IDS = [f"p{i:02}" for i in range(30)]


def people() -> Table:
    return Table(IDS, "id", {"case": list(CASES), "site": list(SITES)}, Path("t.csv"))


def options(**named: Any) -> SplitOptions:
    values: dict[str, Any] = {"treatment": "case", "sample": "stratified", "covariates": "site"}
    return SplitOptions(**(values | named))


def counts(ids: list[str]) -> Counter[tuple[str, str]]:
    place = {name: i for i, name in enumerate(IDS)}
    return Counter((SITES[place[name]], CASES[place[name]]) for name in ids)


def test_every_cell_keeps_as_many_as_its_smallest_class() -> None:
    sample = sample_people(people(), options())
    assert counts(sample.people.ids) == {("a", "1"): 4, ("a", "0"): 4, ("b", "1"): 4, ("b", "0"): 4}
    assert "1 cells lack a class, so their 6 people are left out: c" in sample.notes
    assert sample.audit["per_class"] == 8
    assert (sample.audit["cells"], sample.audit["cells_without_a_class"]) == (3, 1)


@pytest.mark.parametrize(("limit", "per_cell"), [(8, 2), (4, 1), (16, 4), (100, 4)])
def test_a_limit_is_shared_out_in_proportion(limit: int, per_cell: int) -> None:
    # Both cells hold as many, so each gets half of what is allowed of each class.
    found = counts(sample_people(people(), options(limit=limit)).people.ids)
    assert set(found.values()) == {per_cell}
    assert len(found) == 4


def test_balanced_looks_at_classes_alone() -> None:
    sample = sample_people(people(), options(sample="balanced", covariates=()))
    found = Counter(case for _, case in counts(sample.people.ids).elements())
    assert found == {"1": 12, "0": 12}


def test_a_limit_below_one_of_each_and_cells_without_partners_are_refused() -> None:
    with pytest.raises(UsageError, match="less than one of each of 2 classes") as caught:
        sample_people(people(), options(limit=1))
    assert caught.value.code == ExitCode.USAGE
    table = people()
    table.columns["site"][:] = list(CASES)  # a site tells the class
    with pytest.raises(UsageError, match="no cell of the covariates holds every class") as caught:
        sample_people(table, options(covariates="site:cat"))
    assert caught.value.where == "t.csv, column case"


def test_who_is_kept_follows_the_seed_and_not_the_rows() -> None:
    table = people()
    plain = sample_people(table, options()).people.ids
    backwards = Table(
        IDS[::-1], "id", {name: c[::-1] for name, c in table.columns.items()}, table.path
    )
    assert sorted(sample_people(backwards, options()).people.ids) == plain
    assert sample_people(table, options(seed=1)).people.ids != plain


def test_choosing_first_divides_only_who_was_chosen() -> None:
    division, sample = plan_split(people(), options())
    parts = division.split.parts
    assert sorted(name for names in parts.values() for name in names) == sample.people.ids
    assert division.split.sampling == sample.summary()
    assert division.split.sampling["n_after"] == 16


def test_dividing_first_leaves_validation_and_test_as_they_are() -> None:
    whole = plan_split(people(), SplitOptions())[0].split.parts
    division, sample = plan_split(people(), options(sample="balanced", sample_parts="train"))
    parts = division.split.parts
    assert (parts["val"], parts["test"]) == (whole["val"], whole["test"])
    assert set(parts["train"]) <= set(whole["train"])
    assert parts["train"] == sample.people.ids
    by_case = Counter(case for _, case in counts(parts["train"]).elements())
    assert by_case["1"] == by_case["0"] > 0
    assert division.notes[-1].startswith("only train was sampled")
    # Without any sampling the order of both steps means nothing.
    assert plan_split(people(), SplitOptions(sample_parts="train"))[0].split.parts == whole
