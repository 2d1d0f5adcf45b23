"""Balance before and after against plain numpy, and the tables and pictures made of it."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.cohort.comparison import (
    comparison_rows,
    covariate_rows,
    effective_size,
    matching_weights,
    row_name,
    size_of,
    worst_row,
)
from neurocli.core.cohort.plots import love_plot, overlap_plot
from neurocli.core.cohort.sample import rounded
from neurocli.core.cohort.sampling_page import sampling_section
from neurocli.core.cohort.strata import Column, read_column
from neurocli.core.cohort.treatment import (
    design,
    numbers_of,
    read_classes,
    read_covariates,
    treatment_column,
)
from neurocli.core.data.tables import Table
from neurocli.core.errors import UsageError

N = 60


@pytest.fixture
def table() -> Table:
    rng = np.random.default_rng(0)
    columns: dict[str, list[str | None]] = {
        "case": [str(int(i % 3 == 0)) for i in range(N)],
        "age": [None if i == 7 else f"{v:.1f}" for i, v in enumerate(rng.normal(40, 9, N))],
        "sex": rng.choice(["F", "M"], N).tolist(),
        "site": rng.choice(["a", "b", "c"], N).tolist(),
        "grade": [str(i % 4) for i in range(N)],
    }
    return Table([f"p{i:02}" for i in range(N)], "id", columns, Path("t.csv"))


def parts(table: Table) -> tuple[list[Column], np.ndarray]:
    classes = read_classes(table, "case", are_two=True)
    return read_covariates(table, ["age", "sex", "site"], skip="case"), classes.treated_S


def test_before_equals_numpy(table: Table) -> None:
    columns, treated = parts(table)
    rows = {row_name(row): row for row in comparison_rows(columns, treated, None, None)}
    assert list(rows) == ["age", "age=(missing)", "sex=M", "site=a", "site=b", "site=c"]
    age = np.array([np.nan if v is None else float(v) for v in table.columns["age"]])
    one, other = (group[~np.isnan(group)] for group in (age[treated], age[~treated]))
    shown = rows["age"]["before"]
    assert rows["age"]["after"] is None
    assert shown["mean_treated"] == pytest.approx(one.mean())
    assert shown["sd_control"] == pytest.approx(other.std(ddof=1))
    assert shown["smd"] == pytest.approx((one.mean() - other.mean()) / one.std(ddof=1))
    pooled = math.sqrt((one.var(ddof=1) + other.var(ddof=1)) / 2)
    assert shown["smd_pooled"] == pytest.approx((one.mean() - other.mean()) / pooled)
    assert shown["variance_ratio"] == pytest.approx(one.var(ddof=1) / other.var(ddof=1))
    male = np.array([v == "M" for v in table.columns["sex"]])
    p, q = male[treated].mean(), male[~treated].mean()
    shown = rows["sex=M"]["before"]
    assert shown["smd"] == pytest.approx((p - q) / math.sqrt(p * (1 - p)))
    assert shown["smd_pooled"] == pytest.approx(
        (p - q) / math.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    )
    assert shown["variance_ratio"] is None
    # For a share the distance of the distribution functions is the difference of shares.
    assert shown["ks"] == pytest.approx(abs(p - q))


def test_after_keeps_the_denominator_of_before(table: Table) -> None:
    columns, treated = parts(table)
    weight = np.ones(N)
    weight[treated.nonzero()[0][10:]] = 0
    weight[(~treated).nonzero()[0][10:]] = 0
    row = comparison_rows(columns, treated, weight, None)[0]
    age = numbers_of(columns[0])
    kept = (weight > 0) & ~np.isnan(age)
    one, other = age[kept & treated], age[kept & ~treated]
    before = age[treated & ~np.isnan(age)].std(ddof=1)
    assert row["after"]["smd"] == pytest.approx((one.mean() - other.mean()) / before)
    assert row["after"]["sd_treated"] == pytest.approx(one.std(ddof=1))


def test_weights_of_shared_and_several_controls() -> None:
    # Person 0 has controls 2 and 3, person 1 has control 3 alone.
    weight = matching_weights(np.array([0, 0, 1]), np.array([2, 3, 3]), 5)
    assert weight.tolist() == [1.0, 1.0, 0.5, 1.5, 0.0]
    assert effective_size(weight[2:]) == pytest.approx(2.0**2 / (0.5**2 + 1.5**2))
    assert effective_size(np.zeros(3)) == 0.0


def test_the_score_stands_first_and_is_no_covariate(table: Table) -> None:
    columns, treated = parts(table)
    score = np.linspace(0, 1, N)
    rows = comparison_rows(columns, treated, np.ones(N), score)
    assert rows[0]["column"] == "distance"
    assert [row["column"] for row in covariate_rows(rows)] == [row["column"] for row in rows[1:]]
    name, size = worst_row(rows, "before") or ("", 0.0)
    assert size == max(size_of(row, "before") for row in rows[1:])
    assert name in {row_name(row) for row in rows[1:]}
    assert worst_row([], "before") is None
    # A covariate of that name stays a covariate.
    named = Column("distance", "continuous", tuple(score.tolist()), ("1",) * N)
    rows = comparison_rows([named], treated, None, None)
    assert covariate_rows(rows) == rows


def test_everyone_alike_has_no_difference_and_all_treated_alike_still_one(table: Table) -> None:
    _, treated = parts(table)
    flat = Column("flat", "continuous", (3.0,) * N, ("3",) * N)
    assert comparison_rows([flat], treated, None, None)[0]["before"]["smd"] == 0.0
    numbers = tuple(1.0 if t else float(i) for i, t in enumerate(treated.tolist()))
    alike = Column("alike", "continuous", numbers, tuple(map(str, numbers)))
    shown = comparison_rows([alike], treated, None, None)[0]["before"]
    assert shown["smd"] == shown["smd_pooled"] != 0


def test_the_design_has_numbers_levels_and_marks_of_gaps(table: Table) -> None:
    columns, _ = parts(table)
    matrix, names = design(columns)
    assert names == ["age", "age (missing)", "sex=M", "site=b", "site=c"]
    assert matrix.shape == (N, 5)
    assert np.isfinite(matrix).all()
    age = numbers_of(columns[0])
    assert matrix[7, 0] == pytest.approx(np.nanmean(age))
    assert matrix[:, 1].sum() == 1
    grade = read_covariates(table, ["grade:cont"], skip="case")
    assert design(grade)[1] == ["grade"]


def test_classes_by_name_size_and_request(table: Table) -> None:
    assert read_classes(table, "case", are_two=True).names == ("1", "0")
    assert read_classes(table, "case=0", are_two=True).names == ("0", "1")
    for one, other in (("Yes", "No"), ("TRUE", "FALSE"), ("patient", "control")):
        table.columns["case"][:] = [one if i % 3 else other for i in range(N)]
        table.read.clear()
        classes = read_classes(table, "case", are_two=True)
        assert (classes.names, classes.why) == ((one, other), "by its name")
        assert classes.treated_S.sum() == 40
    table.columns["a=b"] = table.columns["sex"]
    assert treatment_column(table, "a=b")[1] is None
    assert len(read_classes(table, "site", are_two=False).names) == 3
    table.columns["many"] = [str(i) for i in range(N)]
    with pytest.raises(UsageError, match="holds 60 classes"):
        read_classes(table, "many", are_two=False)
    table.columns["empty"] = [None] * N
    with pytest.raises(UsageError, match="holds no value at all"):
        read_covariates(table, ["empty"], skip="case")


def test_floats_keep_twelve_digits_and_no_nan() -> None:
    value = {"a": (0.1 + 0.2, math.nan), "b": [1, "x", None, True]}
    assert rounded(value) == {"a": [0.3, None], "b": [1, "x", None, True]}


class Shapes(HTMLParser):
    """Collect shapes with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str, kind: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.found if t == tag and kind in (a.get("class") or "").split()]


def row_of(name: str, before: float, after: float | None) -> dict[str, object]:
    sides = [
        None if v is None else {"smd": v, "smd_pooled": v / 2, "mean_treated": 1.0,
                                "mean_control": 1.0, "variance_ratio": None, "ks": None}
        for v in (before, after)
    ]  # fmt: skip
    return {"column": name, "level": None, "before": sides[0], "after": sides[1]}


def test_a_love_plot_is_sorted_to_scale_and_marks_what_is_off() -> None:
    rows = [row_of("small", 0.05, 0.02), row_of("<big>", -0.8, 0.3), row_of("mid", 0.4, -0.04)]
    text = love_plot(rows)
    shapes = Shapes(text)
    rings, good, bad = (shapes.of("circle", kind) for kind in ("ring", "good", "bad"))
    assert [len(marks) for marks in (rings, good, bad)] == [3, 2, 1]
    x = [float(str(ring["cx"])) for ring in rings]
    assert x == sorted(x, reverse=True)
    # To scale: the distances from zero are as the sizes are, to a tenth of a pixel.
    assert (x[0] - x[2]) / (x[1] - x[2]) == pytest.approx(0.75 / 0.35, abs=0.01)
    assert bad[0]["cy"] == rings[0]["cy"]
    limit = float(str(shapes.of("line", "limit")[0]["x1"]))
    assert float(str(good[0]["cx"])) < limit < float(str(bad[0]["cx"]))
    assert "&lt;big&gt;" in text
    assert "<big>" not in text


def test_a_love_plot_without_matching_has_rings_only() -> None:
    shapes = Shapes(love_plot([row_of("age", 0.3, None)]))
    assert len(shapes.of("circle", "ring")) == 1
    assert not shapes.of("circle", "good") + shapes.of("circle", "bad")


def test_long_names_are_cut_in_the_plot_and_whole_on_hover() -> None:
    name = "a_very_long_name_of_a_questionnaire_item_42"
    text = love_plot([row_of(name, 0.3, 0.1)])
    assert f"<title>{name}: 0.300 before, 0.100 after</title>" in text
    assert len(re.findall(r">([^<]*…)<", text)[0]) <= 34


def test_overlap_bars_are_as_high_as_their_counts() -> None:
    overlap = {
        "edges": [-1.0, 0.0, 1.0],
        "treated_before": [2, 4],
        "treated_after": [0, 2],
        "control_before": [8, 0],
        "control_after": [4.0, 0.0],
    }
    shapes = Shapes(overlap_plot(overlap, "g=1", "g=0"))
    before = shapes.of("rect", "before")
    heights = [float(str(bar["height"])) for bar in before]
    assert heights == [
        55.0,
        110.0,
        110.0,
    ]  # by class: half and full, then full; empty bars are none
    after = shapes.of("rect", "after")
    assert [float(str(bar["height"])) for bar in after] == [55.0, 55.0]
    # Treated stand on the axis, controls hang from it.
    axis = float(str(shapes.of("line", "axis")[0]["y1"]))
    assert float(str(before[0]["y"])) + 55.0 == axis
    assert float(str(before[2]["y"])) == axis


def test_the_section_says_what_is_not_balanced() -> None:
    rows = [row_of("age", 0.4, 0.02), row_of("dose", 0.5, 0.3)]
    sampling = {
        "method": "psm", "match": "optimal", "n_before": 10, "n_after": 6, "n_pairs": 3,
        "treatment": {"column": "g", "treated": "1", "control": "0", "classes": {"0": 6, "1": 4}},
        "unmatched": {"too few controls": 1}, "balance": rows, "denominator": "sd",
        "distance": {"unit": "logit", "total": 1.5, "mean": 0.5, "largest": 0.7, "caliper": None},
    }  # fmt: skip
    text = str(sampling_section(sampling))
    assert "psm: 6 of 10 people kept. Not balanced: dose." in text
    assert "left out: too few controls" in text
    assert "caliper, logits" in text
    assert text.count("<svg") == 1
    rows[1]["after"]["smd"] = 0.05  # type: ignore[index]
    rows[1]["after"]["smd_pooled"] = 0.05  # type: ignore[index]
    assert "Every covariate is balanced" in str(sampling_section(sampling))
    plain = {"method": "random", "n_before": 10, "n_after": 6}
    assert "random: 6 of 10 people kept." in str(sampling_section(plain))
    assert "<svg" not in str(sampling_section(plain))


def test_effects_go_with_the_first_row_of_a_column(table: Table) -> None:
    columns, treated = parts(table)
    rows = comparison_rows(columns, treated, None, None)
    assert [row_name(row) for row in rows if "effects" in row] == ["age", "sex=M", "site=a"]
    site = next(row for row in rows if row_name(row) == "site=a")["effects"]
    counts = [
        [
            sum(
                v == level for v, t in zip(table.columns["site"], treated, strict=True) if t == side
            )
            for level in "abc"
        ]
        for side in (True, False)
    ]
    from scipy.stats import chi2_contingency

    assert site["chi2"] == pytest.approx(chi2_contingency(counts, correction=False).statistic)
    assert read_column(table, "site").kind == "categorical"
