"""The picture that turns: its numbers stand in the table, its script is one known text."""

from __future__ import annotations

import base64
import hashlib
import re

from neurocli.core.report.overview import Score, frontier
from neurocli.core.report.page_parts import scatter_page
from neurocli.core.report.scatter import policy, scatter_of, script

SCORE = Score("test_dice", "test Dice [share]", is_high_good=True)
ROWS = [
    {"model_name": "a", "total_params": 10, "flops": 100, "test_dice": 0.5},
    {"model_name": "a", "total_params": 10, "flops": 100, "test_dice": 0.7},
    {"model_name": "<script>alert(1)</script>", "total_params": 20, "flops": 90, "test_dice": 0.1},
    {"model_name": "unjudged", "total_params": 20, "flops": 90, "test_dice": None},
]


def test_points_are_means_of_models_that_have_all_three_numbers() -> None:
    found = scatter_of(ROWS, SCORE, learned="segmentation", source="x.csv")
    assert found is not None
    assert [point.name for point in found.points] == ["a", ROWS[2]["model_name"]]
    assert found.points[0].values == ("10.0", "100.0", repr((0.5 + 0.7) / 2))
    assert found.points[0].cells[-1] == "2"
    assert scatter_of(ROWS[3:], SCORE, learned="segmentation", source="x.csv") is None


def test_the_policy_names_the_hash_of_the_very_script_in_the_page() -> None:
    found = scatter_of(ROWS, SCORE, learned="segmentation", source="x.csv")
    assert found is not None
    page = scatter_page([found])
    (inside,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    # The quotes of the policy are escaped inside the attribute.
    assert f"script-src &#39;sha256-{digest}&#39;" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "script-src" not in policy(with_script=False)


def test_the_script_asks_for_nothing_and_writes_no_markup() -> None:
    text = str(script())
    for word in (
        "innerHTML",
        "insertAdjacent",
        "eval",
        "fetch",
        "XMLHttp",
        "import(",
        "document.w",
    ):
        assert word not in text
    # The name space of SVG is the only address, and it is never asked for.
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]


def test_the_frontier_holds_what_nothing_cheaper_beats() -> None:
    points = {"a": (1.0, 0.5), "b": (2.0, 0.4), "c": (3.0, 0.9), "d": (3.0, 0.8)}
    assert frontier(points, is_high_good=True) == ["a", "c"]
    # The lowest is good now: a is cheapest, b is better and dearer, d and c are worse than b.
    assert frontier(points, is_high_good=False) == ["a", "b"]
