"""Parameters, operations and score of every model in a picture that can be turned.

The points stand in a table, and the page's one script draws them from there: no data is ever part
of the script, so that its hash in the content policy is fixed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from neurocli.core.experiment.columns import Row
from neurocli.core.report.overview import COST_LABELS, Score
from neurocli.core.report.tables import model_means
from neurocli.core.report.text import number_text

if TYPE_CHECKING:
    from markupsafe import Markup

_COLUMNS = ("total_params", "flops")


@dataclass(frozen=True)
class Point:
    """Hold one model: its numbers in full for the script, and as the table shows them."""

    name: str
    values: tuple[str, str, str]
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Scatter:
    """Hold one picture: parameters, operations, score.

    Args:
        title: Heading.
        axes: Names with units.
        points: One per model.
        source: File that holds the numbers.
    """

    title: str
    axes: tuple[str, str, str]
    points: tuple[Point, ...]
    source: str


def scatter_of(rows: Sequence[Row], score: Score, *, learned: str, source: str) -> Scatter | None:
    """Return the picture of models that have all three numbers, or None where none has.

    Args:
        rows: Of the table of runs, of one objective.
        score: What is good.
        learned: The objective, for the heading.
        source: File that holds the numbers.
    """
    points = []
    for model, means in model_means(rows, (*_COLUMNS, score.column)).items():
        if all(name in means for name in (*_COLUMNS, score.column)):
            numbers = [means[name][0] for name in (*_COLUMNS, score.column)]
            x, y, z = map(repr, numbers)
            cells = (*map(number_text, numbers), str(means[score.column][2]))
            points.append(Point(model, (x, y, z), cells))
    if not points:
        return None
    axes = (COST_LABELS["total_params"], COST_LABELS["flops"], score.label)
    title = f"Cost and score, {learned}, n = {len(points)} models"
    return Scatter(title, axes, tuple(points), source)


@cache
def script() -> Markup:
    """Return the script that turns the picture; it is our own text, none of it from data."""
    from markupsafe import Markup

    text = files("neurocli.core.report").joinpath("templates/scatter.js").read_text("utf-8")
    return Markup(text)


def policy(*, with_script: bool) -> str:
    """Return the content policy of a page: nothing from elsewhere, no script but the one known.

    Args:
        with_script: Whether the page turns pictures.
    """
    rules = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    if not with_script:
        return rules
    digest = hashlib.sha256(str(script()).encode("utf-8")).digest()
    return f"{rules}; script-src 'sha256-{base64.b64encode(digest).decode('ascii')}'"
