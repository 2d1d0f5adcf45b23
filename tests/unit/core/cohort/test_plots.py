"""Plots of a cohort read back as XML: well formed, in their frame, escaped, always the same."""

from __future__ import annotations

import copy
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from neurocli.core.cohort.plots import love_plot, overlap_plot
from neurocli.core.cohort.sampling_page import sampling_section

OVERLAP = {
    "edges": [-2.0, 0.0, 2.0],
    "treated_before": [1, 3],
    "treated_after": [0, 3],
    "control_before": [6, 2],
    "control_after": [1.5, 1.5],
}


def side(smd: float | None) -> dict[str, Any]:
    return {"smd": smd, "smd_pooled": None, "mean_treated": 1.25, "mean_control": 0.0,
            "variance_ratio": None, "ks": 0.125}  # fmt: skip


def row(name: str, before: float | None, after: float | None = 0.01) -> dict[str, Any]:
    return {"column": name, "level": None, "before": side(before), "after": side(after)}


def numbers(root: ElementTree.Element, *names: str) -> list[float]:
    return [float(v) for el in root.iter() for name in names if (v := el.get(name))]


def test_plots_are_well_formed_and_inside_their_frame() -> None:
    rows = [row("a & b <c>", 0.2), row("huge", 37.0, -12.0), row("none", None, None)]
    for text in (love_plot(rows), overlap_plot(OVERLAP, "<g>=1", 'g="0"')):
        root = ElementTree.fromstring(text)
        _, _, width, height = map(float, str(root.get("viewBox")).split())
        assert all(0 <= x <= width for x in numbers(root, "x", "cx", "x1", "x2"))
        assert all(0 <= y <= height for y in numbers(root, "y", "cy", "y1", "y2"))


def test_the_axis_of_a_love_plot_is_linear_and_holds_the_largest() -> None:
    # The largest of all sizes is 0.4, so the axis ends 5 % beyond, at 0.42.
    root = ElementTree.fromstring(love_plot([row("a", -0.4), row("b", 0.1, 0.2)]))
    ticks = {
        float(str(el.text)): float(str(el.get("x")))
        for el in root.iter("text")
        if re.fullmatch(r"[\d.]+", str(el.text))
    }
    assert sorted(ticks) == [0, 0.1, 0.2, 0.3, 0.4]
    steps = [ticks[b] - ticks[a] for a, b in zip(sorted(ticks), sorted(ticks)[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.11)
    rings = [float(str(c.get("cx"))) for c in root.iter("circle") if c.get("class") == "ring"]
    assert rings == pytest.approx([ticks[0.4], ticks[0.1]], abs=0.11)


@pytest.mark.parametrize("after", [0.1, 0.1001])
def test_the_limit_itself_is_still_balanced(after: float) -> None:
    root = ElementTree.fromstring(love_plot([row("a", 0.5, after)]))
    kinds = [c.get("class") for c in root.iter("circle")]
    assert kinds == ["good" if after == 0.1 else "bad", "ring"]


def test_equal_sizes_keep_their_order_and_sixty_are_shown() -> None:
    rows = [row(f"c{i:02}", 0.3) for i in range(70)]
    root = ElementTree.fromstring(love_plot(rows))
    labels = [str(el.text) for el in root.iter("text") if el.get("text-anchor") == "end"]
    assert labels == [f"c{i:02}" for i in range(60)]


def test_no_rows_still_make_a_plot() -> None:
    assert ElementTree.fromstring(love_plot([])).tag == "svg"


def test_drawing_changes_nothing_and_repeats_to_the_byte() -> None:
    rows = [row("b", 0.1), row("a", 0.3)]
    before = copy.deepcopy(rows)
    assert love_plot(rows) == love_plot(rows)
    assert rows == before
    assert overlap_plot(OVERLAP, "a", "b") == overlap_plot(copy.deepcopy(OVERLAP), "a", "b")


def test_each_class_has_its_own_scale() -> None:
    root = ElementTree.fromstring(overlap_plot(OVERLAP, "g=1", "g=0"))
    heights = [(r.get("class"), float(str(r.get("height")))) for r in root.iter("rect")]
    # 110 is the full height: 3 of 3 treated, 6 of 6 controls; the rest in proportion.
    assert heights == [
        ("treated before", pytest.approx(110 / 3, abs=0.05)),
        ("treated before", 110.0),
        ("treated after", 110.0),
        ("control before", 110.0),
        ("control before", pytest.approx(110 / 3, abs=0.05)),
        ("control after", pytest.approx(110 / 4, abs=0.05)),
        ("control after", pytest.approx(110 / 4, abs=0.05)),
    ]


def test_classes_without_anybody_have_no_bars() -> None:
    empty = OVERLAP | {f"{c}_{s}": [0, 0] for c in ("treated", "control") for s in ("after",)}
    root = ElementTree.fromstring(overlap_plot(empty, "a", "b"))
    assert {r.get("class") for r in root.iter("rect")} == {"treated before", "control before"}


SAMPLING: dict[str, Any] = {
    "method": "psm", "n_before": 1200, "n_after": 10, "n_treated": 5, "effective_controls": 4.56789,
    "treatment": {"column": "<dx>", "treated": "1", "control": "0", "classes": {"0": 9, "1": 5}},
    "score": {"model": "logistic, unpenalised"}, "overlap": OVERLAP, "denominator": "sd",
    "distance": {"unit": "logit", "total": 0.25, "caliper": 0.123456},
}  # fmt: skip


def test_the_page_escapes_what_people_wrote_in_every_place() -> None:
    evil = "<script>alert(1)</script>"
    text = str(
        sampling_section(
            SAMPLING
            | {"balance": [row(evil, 0.5, 0.4)], "unmatched": {evil: 2}}
            | {"treatment": SAMPLING["treatment"] | {"treated": evil, "classes": {evil: 4}}}
        )
    )
    assert "<script" not in text
    assert "<dx>" not in text
    assert text.count("&lt;script&gt;") >= 5
    assert text.count("<svg") == 2  # balance and overlap


def test_numbers_of_the_page() -> None:
    effects = {"g": 0.5, "g_ci95": [0.25, 0.75], "q": 0.00001}
    rows = [row("age", 0.5, 0.05) | {"effects": effects}, row("sex", 0.2, 0.1)]
    rows[1]["effects"] = {"g": None, "cramers_v": 0.125, "q": 0.04}
    text = re.sub(r"\s+", " ", str(sampling_section(SAMPLING | {"balance": rows})))
    assert "psm: 10 of 1200 people kept. Every covariate is balanced (|SMD| at most 0.1)." in text
    for shown in ("g 0.500 (0.250 to 0.750)", "&lt;0.001", "V 0.125", "0.040", "4.568", "0.1235"):
        assert f">{shown}</td>" in text, shown
    assert "logistic, unpenalised" in text
    assert ">–</td>" in text  # a variance ratio that is none


def test_of_many_covariates_six_are_named() -> None:
    rows = [row(f"c{i}", 0.5, 0.3) for i in range(8)]
    text = str(sampling_section(SAMPLING | {"balance": rows}))
    assert "Not balanced: c0, c1, c2, c3, c4, c5 and 2 more." in text
    # The score is what was matched on, and no covariate.
    text = str(sampling_section(SAMPLING | {"balance": [row("distance", 0.9, 0.9)]}))
    assert "Every covariate is balanced" in text
