"""Which class counts as treated, what covariates become as numbers, and every refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neurocli.core.cohort.strata import Column
from neurocli.core.cohort.treatment import design, numbers_of, read_classes, read_covariates
from neurocli.core.data.tables import Table
from neurocli.core.errors import ExitCode, UsageError


def table(**columns: list[str | None]) -> Table:
    n = len(next(iter(columns.values())))
    return Table([f"p{i}" for i in range(n)], "id", columns, Path("t.csv"))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0", "0", "1"], (("1", "0"), "by its name")),
        (["1", "1", "0"], (("1", "0"), "by its name")),  # the name wins over the size
        (["Yes", "no", "no"], (("Yes", "no"), "by its name")),
        (["control", "case", "case"], (("case", "control"), "by its name")),
        (["b", "a", "a"], (("b", "a"), "the smaller class")),
        (["b", "a"], (("a", "b"), "the smaller class")),  # as many: the first in the alphabet
        (["1.0", "0", "0"], (("1", "0"), "by its name")),  # spelt one way
    ],
)
def test_the_treated_class(labels: list[str], expected: tuple[tuple[str, str], str]) -> None:
    for order in (labels, labels[::-1]):
        found = read_classes(table(g=list(order)), "g", are_two=True)
        assert (found.names, found.why) == expected
        assert found.treated_S.tolist() == [label == found.names[0] for label in found.labels]


def test_a_named_class_stands_against_all_others() -> None:
    found = read_classes(table(g=["a", "b", "c", "b"]), "g=b", are_two=True)
    assert found.names == ("b", "not b")
    assert found.labels == ("not b", "b", "not b", "b")
    two = read_classes(table(g=["a", "b"]), "g=b", are_two=True)
    assert two.names == ("b", "a")  # with one class left its own name says more


@pytest.mark.parametrize(
    ("labels", "request_", "words"),
    [
        (["a", "a", None], "g", r"one class only: 'a' \(2\)"),
        ([None, None], "g", "one class only: no value at all"),
        (["a", "b", "c"], "g", "holds 3 classes, two are needed"),
        (["a", "b"], "g=x", "no one has 'x'"),
        (["a", "b"], "q", "unknown column 'q'"),
    ],
)
def test_classes_that_make_no_comparison(
    labels: list[str | None], request_: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_classes(table(g=labels), request_, are_two=True)
    assert caught.value.code == ExitCode.USAGE
    assert caught.value.hint


def test_covariates_keep_the_order_asked_for() -> None:
    people = table(g=["1", "0"], age=["50.5", "61"], sex=["F", "M"])
    assert [c.name for c in read_covariates(people, ["sex", "age"], skip="g")] == ["sex", "age"]
    with pytest.raises(UsageError, match="is the treatment itself"):
        read_covariates(people, ["g"], skip="g")
    with pytest.raises(UsageError, match="there is no covariate"):
        read_covariates(people, [], skip="g")


def test_a_design_by_hand() -> None:
    people = table(
        age=["40", None, "60", "80"],
        sex=["F", "M", None, "M"],
        same=["x"] * 4,
    )
    matrix, names = design(read_covariates(people, ["age:cont", "sex", "same"], skip=""))
    # "(missing)" sorts before letters, so it is the level that is left out; one level is none.
    assert names == ["age", "age (missing)", "sex=F", "sex=M"]
    # The blank age stands at the mean of 40, 60 and 80.
    assert matrix.tolist() == [[40, 0, 1, 0], [60, 1, 0, 1], [60, 0, 0, 0], [80, 0, 0, 1]]


def test_nothing_that_varies_is_refused() -> None:
    with pytest.raises(UsageError, match="no covariate varies: same"):
        design(read_covariates(table(same=["x"] * 3), ["same"], skip=""))


def test_blank_numbers_are_nan() -> None:
    column = Column("age", "continuous", (1.0, None), ("1", None))
    np.testing.assert_array_equal(numbers_of(column), [1.0, np.nan])
