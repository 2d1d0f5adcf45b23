"""Options that go together, those that do not, and what of them stands in the split file."""

from __future__ import annotations

import pytest

from neurocli.core.cohort.options import (
    SplitOptions,
    parse_caliper,
    parse_limit,
    seed_list,
    split_options,
)
from neurocli.core.errors import UsageError

PSM = {"treatment": "case", "covariates": "age"}


@pytest.mark.parametrize(
    ("named", "sampling"),
    [
        ({}, "none"),
        ({"limit": 5}, "random"),
        ({"treatment": "case"}, "none"),
        ({**PSM, "caliper": "none"}, "psm"),
        ({**PSM, "match": "nearest"}, "psm"),
        ({**PSM, "ratio": 2}, "psm"),
        ({**PSM, "exact": "site"}, "psm"),
        ({**PSM, "replace": True}, "psm"),
        ({**PSM, "discard": "both"}, "psm"),
        ({"treatment": "case", "sample": "balanced"}, "balanced"),
        ({"sample": "none", "covariates": "age"}, "none"),
    ],
)
def test_the_way_of_sampling_is_told_from_the_options(
    named: dict[str, object], sampling: str
) -> None:
    assert split_options(None, named).sampling == sampling


def test_columns_to_balance_serve_as_covariates_where_none_are_named() -> None:
    options = split_options(None, {"stratify": "age,sex", "treatment": "case", "sample": "psm"})
    assert options.covariate_names == ("age", "sex")
    named = split_options(options, {"covariates": ["iq"]})
    assert named.covariate_names == ("iq",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (0.2, {})),
        (0.1, (0.1, {})),
        ("0.25", (0.25, {})),
        ("none", (None, {})),
        ("None", (None, {})),
        ("age=1", (0.2, {"age": 1.0})),
        ("none,age=1,fd mean=0.05", (None, {"age": 1.0, "fd mean": 0.05})),
        ("a=b=2", (0.2, {"a=b": 2.0})),
    ],
)
def test_calipers_of_the_score_and_of_columns(value: object, expected: tuple) -> None:
    assert parse_caliper(value) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("200", 200), (200, 200), ("0.5", 0.5), (0.25, 0.25), ("1", 1), ("2e2", 200)],
)
def test_limits_are_people_or_shares(value: object, expected: object) -> None:
    assert parse_limit(value) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ()), ("1-3", (1, 2, 3)), ("7", (7,)), ("1-2,9", (1, 2, 9)), ([4, 5], (4, 5))],
)
def test_seeds_as_ranges_and_lists(value: object, expected: tuple[int, ...]) -> None:
    assert seed_list(SplitOptions(seeds=value)) == expected  # type: ignore[arg-type]


def test_the_file_names_what_decided_who_is_where() -> None:
    plain = SplitOptions().as_dict()
    assert set(plain) == {"train", "val", "folds", "stratify", "group", "bins", "missing"}
    options = split_options(
        None, {**PSM, "caliper": "0.1,age=2", "site_policy": "hold-out", "kinship": "/home/me/kin"}
    )
    shown = options.as_dict()
    assert shown["site_policy"] == "hold-out"
    # That there was a list of relatives, not where it lay.
    assert shown["kinship"] is True
    assert shown["sampling"] == {
        "sample": "psm",
        "limit": None,
        "treatment": "case",
        "covariates": ["age"],
        "parts": "all",
        "match": "optimal",
        "order": "largest",
        "caliper": 0.1,
        "calipers": {"age": 2.0},
        "exact": [],
        "ratio": 1,
        "replace": False,
        "discard": "none",
    }


@pytest.mark.parametrize("name", ["exact", "caliper", "ratio", "match", "order", "discard"])
def test_matching_options_without_matching_are_refused(name: str) -> None:
    value = {"exact": "site", "caliper": 0.2, "ratio": 2, "match": "nearest", "order": "closest",
             "discard": "both"}[name]  # fmt: skip
    with pytest.raises(UsageError, match=f"--{name} belongs to matching"):
        split_options(None, {"sample": "balanced", "treatment": "case", name: value})


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"site_policy": "holdout"}, "did you mean hold-out"),
        ({"optimize": -1}, "optimize=-1 is below 0"),
        ({"ratio": 1.5}, "is no whole number"),
        ({"discard": "all"}, "unknown class to trim 'all'"),
        ({"sample_parts": "test"}, "unknown part to sample 'test'"),
        ({"sample": "balanced"}, "needs the column of the classes"),
    ],
)
def test_values_that_are_none_of_the_choices(named: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        split_options(None, named)
