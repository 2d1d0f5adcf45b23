"""Whom a cohort keeps: by chance, equal classes, equal cells, matched pairs; and every refusal."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.cohort.options import SplitOptions, parse_caliper, parse_limit, seed_list
from neurocli.core.cohort.plan import plan_split
from neurocli.core.cohort.sample import Sample
from neurocli.core.cohort.sampling import sample_people
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError

N = 300
IDS = [f"p{i:03}" for i in range(N)]


def cohort(seed: int = 0) -> Table:
    chance = random.Random(seed)
    case = [str(int(chance.random() < 0.3)) for _ in IDS]
    columns: dict[str, list[str | None]] = {
        "case": [*case],
        "age": [f"{chance.gauss(40 + 4 * int(c), 9):.1f}" for c in case],
        "sex": [chance.choice("FM") for _ in IDS],
        "site": [chance.choice("abc") for _ in IDS],
        "three": [chance.choice("xyz") for _ in IDS],
        "same": ["1"] * N,
        "name": [f"n{i}" for i in range(N)],
        "apart": [f"{100 * int(c) + chance.random():.3f}" for c in case],
    }
    return Table(IDS, "id", columns, Path("t.csv"))


def sampled(table: Table | None = None, **named: object) -> Sample:
    return sample_people(table or cohort(), SplitOptions(**named))  # type: ignore[arg-type]


def classes(sample: Sample, name: str = "case") -> Counter[str | None]:
    return Counter(sample.people.columns[name])


PSM = {"sample": "psm", "treatment": "case", "covariates": "age,sex"}


def test_everyone_is_kept_where_nothing_is_asked() -> None:
    sample = sampled()
    assert sample.people.ids == IDS
    assert sample.audit == {}


@pytest.mark.parametrize(("limit", "n"), [("60", 60), (0.5, 150), ("0.1", 30), (1000, 300)])
def test_random_keeps_as_many_as_asked(limit: object, n: int) -> None:
    sample = sampled(sample="random", limit=limit)
    assert len(sample.people.ids) == n
    assert sampled(limit=limit).people.ids == sample.people.ids
    other = sampled(sample="random", limit=limit, seed=1).people.ids
    assert (other != sample.people.ids) == (n < N)


def test_an_added_person_changes_a_random_choice_by_one_at_most() -> None:
    table = cohort()
    few = sample_people(
        Table(IDS[:-1], "id", {k: v[:-1] for k, v in table.columns.items()}, table.path),
        SplitOptions(limit=60),
    )
    assert len(set(few.people.ids) ^ set(sampled(limit=60).people.ids)) <= 2


def test_balanced_makes_classes_equal_to_the_smallest() -> None:
    n_cases = cohort().columns["case"].count("1")
    sample = sampled(sample="balanced", treatment="case")
    assert classes(sample) == {"1": n_cases, "0": n_cases}
    assert sample.audit["per_class"] == n_cases
    three = sampled(sample="balanced", treatment="three", limit=90)
    assert classes(three, "three") == {"x": 30, "y": 30, "z": 30}


def test_stratified_makes_them_equal_in_every_cell() -> None:
    sample = sampled(sample="stratified", treatment="case", covariates="age,sex", limit=60)
    assert classes(sample) == {"1": 30, "0": 30}
    sexes = Counter(zip(sample.people.columns["case"], sample.people.columns["sex"], strict=True))
    assert sexes["1", "F"] == sexes["0", "F"]
    rows = {row["column"]: row for row in sample.audit["balance"]}
    assert abs(rows["age"]["after"]["smd"]) < abs(rows["age"]["before"]["smd"])


def test_cells_without_a_class_are_told() -> None:
    table = cohort()
    table.columns["site"][:] = ["only" if c == "1" and i < 60 else "a" for i, c in
                                enumerate(table.columns["case"])]  # fmt: skip
    sample = sampled(table, sample="stratified", treatment="case", covariates="site")
    n = sum(c == "1" for c in table.columns["case"][:60])
    assert sample.notes == [f"1 cells lack a class, so their {n} people are left out: only"]


def test_pairs_are_of_both_classes_and_balanced() -> None:
    sample = sampled(**PSM)
    case = dict(zip(IDS, cohort().columns["case"], strict=True))
    assert len(sample.pairs) > 70
    assert {(case[one], case[other]) for one, other in sample.pairs} == {("1", "0")}
    assert sample.people.ids == sorted(name for pair in sample.pairs for name in pair)
    assert sample.imbalanced == []
    audit = sample.audit
    assert audit["n_pairs"] == audit["n_treated"] == len(sample.pairs)
    assert audit["largest_smd"]["after"]["smd"] < 0.1 < audit["largest_smd"]["before"]["smd"]
    assert audit["treatment"]["treated"] == "1"
    assert sum(audit["overlap"]["treated_after"]) == pytest.approx(len(sample.pairs))


def test_matching_options_alone_mean_matching() -> None:
    plain = {name: value for name, value in PSM.items() if name != "sample"}
    assert sampled(**plain, caliper=0.2).pairs == sampled(**PSM).pairs
    # Without any only the classes are compared, and that is said.
    sample = sampled(**plain)
    assert sample.people.ids == IDS
    assert "compares the classes" in sample.notes[-1]
    assert [row["column"] for row in sample.audit["balance"]] == ["age", "sex"]
    effects = sample.audit["balance"][0]["effects"]
    assert effects["g_ci95"][0] < effects["g"] < effects["g_ci95"][1]
    assert effects["q"] >= effects["p"]


def test_the_limit_counts_people_of_whole_pairs() -> None:
    everyone = sampled(**PSM)
    some = sampled(**PSM, limit=40)
    assert len(some.pairs) == 20
    assert set(some.pairs) < set(everyone.pairs)
    assert len(sampled(**PSM, limit=40, ratio=3).pairs) == 30
    with pytest.raises(UsageError, match="less than one pair"):
        sampled(**PSM, limit=1)


def test_controls_that_serve_several_are_weighted() -> None:
    table = cohort()
    sample = sampled(table, **PSM, replace=True, match="nearest", ratio=2, caliper="none")
    age = dict(zip(IDS, map(float, map(str, table.columns["age"])), strict=True))
    row = sample.audit["balance"][1]
    assert row["column"] == "age"
    treated = {one for one, _ in sample.pairs}
    # By hand: mean over treated people of the mean of their controls.
    means = [
        np.mean([age[other] for one, other in sample.pairs if one == name]) for name in treated
    ]
    assert row["after"]["mean_control"] == pytest.approx(np.mean(means))
    assert row["after"]["mean_treated"] == pytest.approx(np.mean([age[name] for name in treated]))
    assert sample.audit["effective_controls"] < 2 * len(treated)


def test_the_treated_class_is_named_or_told() -> None:
    named = sampled(sample="psm", treatment="three=y", covariates="age")
    assert named.audit["treatment"]["control"] == "not y"
    assert named.audit["treatment"]["why"] == "as named"
    table = cohort()
    table.columns["site"][:] = ["b" if i < 200 else "a" for i in range(N)]
    smaller = sampled(table, sample="psm", treatment="site", covariates="age")
    assert (smaller.audit["treatment"]["treated"], smaller.audit["treatment"]["why"]) == (
        "a",
        "the smaller class",
    )


def test_people_without_a_class_or_a_value_are_told() -> None:
    table = cohort()
    table.columns["case"][3] = None
    table.columns["age"][5] = "-9999"
    sample = sampled(table, **PSM)
    assert "left out, 1 people have no case: p003" in sample.notes
    assert "age: 1 missing codes (-9999) count as missing" in sample.notes
    assert any(row["level"] == "(missing)" for row in sample.audit["balance"])
    dropped = sampled(table, **PSM, missing="drop")
    assert "1 people lack a value and are left out: p005 (age)" in dropped.notes
    for name, told in (("age", "p005"), ("case", "p003")):
        clean = cohort()
        clean.columns[name][int(told[1:])] = None
        with pytest.raises(UsageError, match=told):
            sampled(clean, **PSM, missing="error")


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({**PSM, "treatment": "same"}, "holds one class only: '1'"),
        ({**PSM, "treatment": "three"}, "holds 3 classes, two are needed"),
        ({**PSM, "treatment": "case=7"}, "no one has '7'"),
        ({**PSM, "treatment": "caes"}, "unknown column 'caes'; did you mean case"),
        ({**PSM, "covariates": "aeg"}, "unknown column 'aeg'; did you mean age"),
        ({**PSM, "covariates": "case"}, "is the treatment itself"),
        ({**PSM, "covariates": "name"}, "holds 300 different texts"),
        ({**PSM, "covariates": "same"}, "no covariate varies"),
        ({**PSM, "covariates": "apart"}, "do not overlap"),
        ({**PSM, "exact": "name"}, "nobody finds a partner"),
        ({**PSM, "exact": "sit"}, "unknown column 'sit'"),
        ({**PSM, "caliper": "0.2,sex=1"}, "values are no numbers"),
        ({"sample": "psm", "covariates": "age"}, "needs the column of the classes"),
        ({"sample": "psm", "treatment": "case"}, "needs columns to compare"),
        ({"sample": "random"}, "needs to know how many"),
        ({"sample": "random", "limit": 9, "ratio": 2}, "--ratio belongs to matching"),
        ({"sample": "balanced", "treatment": "case", "limit": 1}, "less than one of each"),
        ({"sample": "stratified", "treatment": "case", "covariates": "name:cat"}, "."),
        ({"sample": "psmm"}, "did you mean psm"),
        ({**PSM, "match": "optimum"}, "did you mean optimal"),
        ({**PSM, "order": "biggest"}, "unknown order"),
        ({**PSM, "ratio": 0}, "below 1"),
        ({**PSM, "match": "psmpy", "ratio": 2}, "psmpy knows no --ratio"),
    ],
)
def test_what_cannot_be_is_refused_by_name(named: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        sampled(**named)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["x", "-1", "0", "age=", "nan", "0.2,,"])
def test_calipers_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is no distance"):
        parse_caliper(text)


@pytest.mark.parametrize("text", ["x", "-1", "0", "1.5", "nan"])
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is no number of people"):
        parse_limit(text)


@pytest.mark.parametrize("text", ["", "a", "1-", "1,1", "1-3,2", "-1"])
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        seed_list(SplitOptions(seeds=text))


def test_pairs_stay_together_and_parts_keep_the_classes_even() -> None:
    division, sample = plan_split(cohort(), SplitOptions(**PSM))  # type: ignore[arg-type]
    home = {name: part for part, names in division.split.parts.items() for name in names}
    assert all(home[one] == home[other] for one, other in sample.pairs)
    assert division.split.pairs == [list(pair) for pair in sample.pairs]
    assert division.split.groups["split"] == 0
    assert "psm sample" in division.split.method


def test_balanced_parts_are_balanced() -> None:
    options = SplitOptions(sample="balanced", treatment="case")
    split = plan_split(cohort(), options)[0].split
    row = next(row for row in split.balance if row["column"] == "case")
    for part, names in split.parts.items():
        assert abs(row["parts"][part]["shares"]["1"] * len(names) - len(names) / 2) <= 0.5


def test_train_alone_can_be_sampled() -> None:
    plain = plan_split(cohort(), SplitOptions())[0].split
    options = SplitOptions(sample="balanced", treatment="case", sample_parts="train")
    division, _ = plan_split(cohort(), options)
    assert division.split.parts["test"] == plain.parts["test"]
    assert set(division.split.parts["train"]) < set(plain.parts["train"])
    case = dict(zip(IDS, cohort().columns["case"], strict=True))
    counts = Counter(case[name] for name in division.split.parts["train"])
    assert counts["1"] == counts["0"]
    with pytest.raises(UsageError, match="not with folds"):
        SplitOptions(sample="balanced", treatment="case", sample_parts="train", folds=3)
