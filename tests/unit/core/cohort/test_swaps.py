"""Swaps even out parts, keep sizes, divide no group, and depend on nothing but people and seed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.cohort.balance import balance_rows, largest_smd
from neurocli.core.cohort.divide import divide
from neurocli.core.cohort.groups import connected_groups, divided_groups
from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.splits import random_split
from neurocli.core.cohort.strata import Column, read_column
from neurocli.core.cohort.swaps import even_out
from neurocli.core.data.tables import Table

NAMES = ("age", "sex", "site")


def cohort(n: int = 900, seed: int = 0) -> tuple[Table, dict[str, str]]:
    rng = np.random.default_rng(seed)
    ids = [f"p{i:04}" for i in range(n)]
    family = np.repeat(np.arange(n), rng.choice([1, 2, 3], p=[0.7, 0.25, 0.05], size=n))[:n]
    columns: dict[str, list[str | None]] = {
        "age": [f"{v:.1f}" if v < 60 else None for v in rng.normal(45, 9, n)],
        "sex": rng.choice(["F", "M"], n).tolist(),
        "site": [f"s{v}" for v in rng.choice(8, n, p=np.arange(1, 9) / 36)],
        "family": [str(v) for v in family],
    }
    groups = {name: f"f{number}" for name, number in zip(ids, family, strict=True)}
    return Table(ids, "id", columns, Path("t.csv")), groups


def columns_of(table: Table) -> list[Column]:
    return [read_column(table, name) for name in NAMES]


def test_swaps_even_out_every_column_and_keep_sizes_and_groups() -> None:
    table, groups = cohort()
    columns = columns_of(table)
    before = random_split(table.ids, seed=1, groups={"family": table.columns["family"]})
    after = even_out(before, groups, columns, ids=table.ids, trials=20_000, seed=1)
    assert {part: len(names) for part, names in after.items()} == {
        part: len(names) for part, names in before.items()
    }
    assert sorted(name for names in after.values() for name in names) == table.ids
    assert divided_groups(after, groups) == {}
    worst = [largest_smd(balance_rows(columns, table.ids, parts)) for parts in (before, after)]
    assert worst[0] > 0.1
    # One person of 135 in a site of 25 people weighs 0.04 SD; that is the grain.
    assert worst[1] < 0.05


def test_no_trials_no_change_and_the_seed_decides() -> None:
    table, groups = cohort(300)
    parts = random_split(table.ids, seed=1)
    columns = columns_of(table)

    def run(trials: int, seed: int) -> dict[str, list[str]]:
        return even_out(parts, groups, columns, ids=table.ids, trials=trials, seed=seed)

    assert run(0, 1) == parts
    assert even_out(parts, groups, [], ids=table.ids, trials=99, seed=1) == parts
    free = {name: name for name in table.ids}
    one, same, other = (
        even_out(parts, free, columns, ids=table.ids, trials=5000, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_an_empty_part_stays_empty() -> None:
    table, _ = cohort(60)
    parts = random_split(table.ids, train=0.5, val=0.0, seed=1)
    after = even_out(parts, {}, columns_of(table), ids=table.ids, trials=2000, seed=1)
    assert after["val"] == []
    assert len(after["train"]) == 30


@pytest.mark.parametrize("site_policy", ["mix", "hold-out", "stratify"])
def test_an_abcd_like_cohort_is_even_and_whole(site_policy: str) -> None:
    table, _ = cohort(3000, seed=2)
    options = SplitOptions(stratify="age,sex", group="family", site_policy=site_policy)
    if site_policy == "hold-out":
        # Families over two sites would tie all sites together; these stay at one.
        family = table.columns["family"]
        first = dict(zip(reversed(family), reversed(table.columns["site"]), strict=True))
        table.columns["site"][:] = [first[name] for name in family]
    division = divide(table, options)
    assert division.split.groups["split"] == 0
    rows = {row["column"]: row for row in division.split.balance}
    if site_policy == "hold-out":
        homes: dict[str, set[str]] = {}
        site = dict(zip(table.ids, table.columns["site"], strict=True))
        for part, names in division.split.parts.items():
            for name in names:
                homes.setdefault(str(site[name]), set()).add(part)
        assert {len(parts) for parts in homes.values()} == {1}
        assert "sites held out" in division.split.method
    else:
        assert abs(rows["age"]["smd"]) < 0.01
        assert abs(rows["sex"]["smd"]) < 0.01
    if site_policy == "stratify":
        assert abs(rows["site"]["smd"]) < 0.03


def test_a_thousand_random_family_graphs_never_leak() -> None:
    chance = random.Random(5)
    for trial in range(1000):
        n = chance.randint(6, 22)
        ids = [f"p{i:02}" for i in range(n)]
        columns: dict[str, list[str | None]] = {
            name: [str(chance.randint(0, n)) if chance.random() < 0.6 else None for _ in range(n)]
            for name in ("mother", "father", "household")
        }
        columns["sex"] = [chance.choice("FM") for _ in range(n)]
        table = Table(ids, "id", columns, Path("t.csv"))
        options = SplitOptions(
            group="mother,father,household",
            stratify="sex" if trial % 2 else (),
            seed=trial,
        )
        tied = connected_groups(ids, {name: columns[name] for name in options.group_names})
        if len(set(tied.values())) == 1:
            continue  # one group of all is refused, as tests of divide show
        parts = divide(table, options).split.parts
        home = {name: part for part, names in parts.items() for name in names}
        assert sorted(home) == ids
        # Straight from the definition: no two people who share a value are apart.
        for name in ("mother", "father", "household"):
            for i in range(n):
                for j in range(i):
                    if columns[name][i] is not None and columns[name][i] == columns[name][j]:
                        assert home[ids[i]] == home[ids[j]]
