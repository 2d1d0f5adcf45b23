"""A split on a page: counts, hashes, Love plot; whatever is in its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from neurocli.core.cohort.command import make_split
from neurocli.core.report.cohort import split_section
from neurocli.core.report.page import page_text
from neurocli.core.report.sources import Sources, SplitReport, collect_sources

ROW = {"column": "age", "level": None, "before": {"smd": 0.8}, "after": {"smd": -0.05}}
REPORT: dict[str, Any] = {
    "split": "s.json",
    "n": 10,
    "counts": {"train": 7, "test": 3},
    "groups": {"n": 5, "split": 0, "columns": ["family"]},
    "balance": [{"column": "<b>iq", "smd": 0.2}, {"column": "sex", "smd": None}],
    "sampling": {"method": "psm", "n_before": 20, "n_after": 10, "n_pairs": 5, "balance": [ROW]},
}


def _section(report: dict[str, Any]) -> Any:
    return split_section(SplitReport("s.json", "s.json.report.json", report))


def test_the_love_plot_shows_both_sides_of_a_covariate() -> None:
    love, parts = _section(REPORT).figures
    assert love.caption == (
        "n = 20 people before, 10 after, 5 pairs; dotted: 0.1; s.json.report.json"
    )
    assert love.alt.endswith("after: none above 0.1.")
    nodes = ElementTree.fromstring(love.image).iter("{http://www.w3.org/2000/svg}text")
    texts = {"".join(node.itertext()) for node in nodes}
    assert {"age", "before", "after", "absolute standardised mean difference [SD]"} <= texts
    assert parts.alt == "1 of 1 columns differ by more than 0.1."


def test_parts_and_judgements_are_counted() -> None:
    section = _section(REPORT)
    assert section.parts == [("train", "7", "70.0 %"), ("test", "3", "30.0 %")]
    assert section.balance == [("<b>iq", "0.2", "off balance"), ("sex", "–", "not defined")]
    assert ("groups divided", "0 of 5 (by family)") in section.facts


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"balance": 3, "sampling": []},
        {"counts": [1], "groups": "x", "sampling": {"balance": [{}]}},
        {"sampling": {"balance": [{"column": "a", "before": "x", "after": {"smd": "y"}}]}},
    ],
)
def test_a_damaged_report_is_shown_as_far_as_it_goes(report: dict[str, Any]) -> None:
    assert _section(report).figures == []
    page = page_text(Sources(splits=(SplitReport("s", "s.report.json", report),)))
    assert "<h2>Split s</h2>" in page


def test_names_from_a_table_are_text() -> None:
    page = page_text(Sources(splits=(SplitReport("s", "s.report.json", REPORT),)))
    assert "&lt;b&gt;iq" in page
    assert "<b>iq" not in page


def test_a_split_of_this_program_is_shown_whole(tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    lines = [f"s{i},{20 + i % 30},{'FM'[i % 2]},{int(i % 3 == 0)}" for i in range(60)]
    table.write_text("id,age,sex,dx\n" + "\n".join(lines) + "\n")
    options = {"sample": "psm", "treatment": "dx", "covariates": ["age", "sex"]}
    make_split(table, tmp_path / "s.json", **options)
    found = collect_sources([tmp_path / "s.json"])
    section = split_section(found.splits[0])
    assert section.figures[0].title == "Love plot: balance before and after"
    assert sum(int(n) for _, n, _ in section.parts) > 10
