"""Groups are placed whole, parts keep their sizes, columns are evened where that is possible."""

from __future__ import annotations

from collections import Counter

import pytest

from neurocli.core.cohort import placing
from neurocli.core.cohort.placing import place_groups

IDS = [f"p{i:03}" for i in range(60)]
COUNTS = {"train": 42, "val": 9, "test": 9}


def grouped(size: int) -> dict[str, str]:
    return {name: f"g{i // size}" for i, name in enumerate(IDS)}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_nobody_is_lost_and_no_group_divided(size: int, seed: int) -> None:
    groups = grouped(size)
    parts = place_groups(IDS, COUNTS, seed=seed, groups=groups, columns={})
    assert sorted(name for names in parts.values() for name in names) == IDS
    for names in parts.values():
        assert names == sorted(names)
    where = {groups[name]: part for part, names in parts.items() for name in names}
    assert all(where[groups[name]] == part for part, names in parts.items() for name in names)
    # The promise of the function: no part ends as much as the largest group away from its count.
    for part, count in COUNTS.items():
        assert abs(len(parts[part]) - count) < max(size, 1)


def test_people_without_a_group_are_their_own() -> None:
    parts = place_groups(IDS, COUNTS, seed=0, groups={IDS[0]: "f", IDS[1]: "f"}, columns={})
    assert {part: len(names) for part, names in parts.items()} == COUNTS


def test_a_group_larger_than_every_part_goes_where_most_is_free() -> None:
    ids = ["a", "b", "c", "d"]
    whole = dict.fromkeys(ids, "one")
    parts = place_groups(ids, {"train": 2, "val": 1, "test": 1}, seed=9, groups=whole, columns={})
    assert parts == {"train": ids, "val": [], "test": []}


def test_the_order_of_people_means_nothing_and_the_seed_does() -> None:
    groups = grouped(2)
    found = [
        place_groups(ids, COUNTS, seed=seed, groups=groups, columns={})
        for ids, seed in ((IDS, 0), (IDS[::-1], 0), (IDS, 1))
    ]
    assert found[0] == found[1] != found[2]


def test_columns_are_evened_as_far_as_groups_allow() -> None:
    # Pairs of one sex each; 30 of 60 people are F, so 4.5 of 9 in a small part, 21 of 42 in train.
    sexes = ["F" if i // 2 % 2 else "M" for i in range(60)]
    sex = dict(zip(IDS, sexes, strict=True))
    for seed in range(6):
        parts = place_groups(IDS, COUNTS, seed=seed, groups=grouped(2), columns={"sex": sexes})
        for part, names in parts.items():
            n_female = Counter(sex[name] for name in names)["F"]
            # One pair is two people: no part need be further off than that.
            assert abs(n_female - len(names) / 2) <= 2, (seed, part)


@pytest.mark.parametrize("n_tries", [1, 16])
def test_one_try_is_more_even_than_chance_and_many_are_no_worse(
    monkeypatch: pytest.MonkeyPatch, n_tries: int
) -> None:
    sexes = ["F" if i // 2 % 2 else "M" for i in range(60)]
    female = {name for name, sex in zip(IDS, sexes, strict=True) if sex == "F"}

    def unevenness(columns: dict[str, list[str]]) -> float:
        """Return the mean distance of the number of F from half of each small part."""
        found = []
        for seed in range(30):
            parts = place_groups(IDS, COUNTS, seed=seed, groups=grouped(2), columns=columns)
            for part in ("val", "test"):
                found.append(abs(len(female & set(parts[part])) - len(parts[part]) / 2))
        return sum(found) / len(found)

    blind = unevenness({})
    monkeypatch.setattr(placing, "_MOST_TRIES", n_tries)
    # Measured against the same groups without columns, where only chance decides.
    assert unevenness({"sex": sexes}) < (0.75 if n_tries == 1 else 0.6) * blind
