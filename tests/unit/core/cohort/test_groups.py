"""Connected groups against a slow closure, and the leakage audit."""

from __future__ import annotations

import random

import pytest

from neurocli.core.cohort.groups import connected_groups, divided_groups, members_by_group


def slow_groups(ids: list[str], columns: dict[str, list[str | None]]) -> set[frozenset[str]]:
    """Merge sets that share a value until nothing changes: the definition, in cubic time."""
    sets = [{name} for name in ids]
    for values in columns.values():
        for value in {v for v in values if v is not None}:
            sets.append({name for name, v in zip(ids, values, strict=True) if v == value})
    merged = True
    while merged:
        merged = False
        for one in range(len(sets)):
            for other in range(len(sets) - 1, one, -1):
                if sets[one] & sets[other]:
                    sets[one] |= sets.pop(other)
                    merged = True
    return {frozenset(found) for found in sets}


@pytest.mark.parametrize("seed", range(40))
def test_components_equal_the_slow_closure(seed: int) -> None:
    chance = random.Random(seed)
    ids = [f"p{i}" for i in range(chance.randint(1, 30))]
    columns = {
        name: [chance.choice([None, *map(str, range(12))]) for _ in ids]
        for name in "abc"[: chance.randint(1, 3)]
    }
    found = connected_groups(ids, columns)
    assert {frozenset(names) for names in members_by_group(found).values()} == slow_groups(
        ids, columns
    )
    assert all(group == min(names) for group, names in members_by_group(found).items())


def test_groups_are_called_the_same_for_any_order_of_rows() -> None:
    chance = random.Random(1)
    ids = [f"p{i}" for i in range(50)]
    family = [str(chance.randint(0, 20)) for _ in ids]
    order = chance.sample(range(50), 50)
    shuffled = connected_groups([ids[i] for i in order], {"f": [family[i] for i in order]})
    assert shuffled == connected_groups(ids, {"f": family})


def test_equal_values_of_different_columns_tie_nobody() -> None:
    groups = connected_groups(["a", "b"], {"mother": ["1", None], "father": [None, "1"]})
    assert groups == {"a": "a", "b": "b"}


def test_a_missing_value_ties_nobody_and_no_columns_leave_all_alone() -> None:
    assert connected_groups(["a", "b"], {"f": [None, None]}) == {"a": "a", "b": "b"}
    assert connected_groups(["a"], {}) == {"a": "a"}


def test_a_chain_of_a_hundred_thousand_is_one_group() -> None:
    # Deep trees must neither recurse nor take quadratic time.
    n = 100_000
    ids = [f"{i:06}" for i in range(n)]
    columns = {
        "even": [str(i // 2) for i in range(n)],
        "odd": [str((i + 1) // 2) for i in range(n)],
    }
    assert set(connected_groups(ids, columns).values()) == {"000000"}


def test_the_audit_names_divided_groups() -> None:
    groups = {"a": "f1", "b": "f1", "c": "c"}
    assert divided_groups({"train": ["a", "b"], "val": [], "test": ["c"]}, groups) == {}
    leak = divided_groups({"train": ["a"], "val": ["c"], "test": ["b"]}, groups)
    assert leak == {"f1": ["train", "test"]}
    assert divided_groups({"train": ["x"], "test": ["x"]}, {}) == {"x": ["train", "test"]}
