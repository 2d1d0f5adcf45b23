"""What a page shows of a split: who is in which part, whether groups were divided, and a Love plot.

Values come from a file that may be of any version; what does not fit is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurocli.core.cohort.balance import SMD_LIMIT
from neurocli.core.cohort.comparison import row_name, size_of
from neurocli.core.report.figures import Figure, Palette, draw
from neurocli.core.report.records import as_mapping, as_number, as_texts
from neurocli.core.report.sources import SplitReport
from neurocli.core.report.text import number_text, shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_ROWS = 40


@dataclass(frozen=True)
class SplitSection:
    """Hold one split as the page shows it.

    Args:
        split: Its report.
        facts: (name, value) of the division.
        parts: (part, people, share) of each part.
        balance: (column, SMD, judgement) of train against test.
        figures: The Love plots.
        notes: Sentences of `split`.
    """

    split: SplitReport
    facts: Sequence[tuple[str, str]]
    parts: Sequence[tuple[str, str, str]]
    balance: Sequence[tuple[str, str, str]]
    figures: Sequence[Figure]
    notes: Sequence[str]


def split_section(split: SplitReport) -> SplitSection:
    """Return what the page says about one split.

    Args:
        split: Its report.
    """
    report = split.report
    balance = _rows(report.get("balance"))
    matching = _rows(as_mapping(report.get("sampling")).get("balance"))
    figures = []
    if any(_size(row, "before") is not None for row in matching):
        figures.append(_love_plot(split, matching))
    if any(as_number(row.get("smd")) is not None for row in balance):
        figures.append(_part_plot(split, balance))
    return SplitSection(
        split,
        list(_facts(report)),
        _parts(report),
        [_balance_cells(row) for row in balance],
        figures,
        as_texts(report.get("notes")),
    )


def _rows(value: Any) -> list[dict[str, Any]]:
    rows = value if isinstance(value, list) else []
    return [dict(row) for row in rows if isinstance(row, Mapping)]


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    groups, sampling = as_mapping(report.get("groups")), as_mapping(report.get("sampling"))
    facts = [
        ("method", str(report.get("method", "not recorded"))),
        ("people", number_text(as_number(report.get("n")))),
        ("seed", number_text(as_number(report.get("seed")))),
        ("folds", number_text(as_number(report.get("folds")))),
        (
            "groups divided",
            f"{number_text(as_number(groups.get('split')))} of "
            f"{number_text(as_number(groups.get('n')))} "
            f"(by {', '.join(as_texts(groups.get('columns'))) or 'no column'})",
        ),
    ]
    if sampling.get("method"):
        before, after = (as_number(sampling.get(f"n_{side}")) for side in ("before", "after"))
        facts.append(
            (
                "sampling",
                f"{sampling['method']}: {number_text(after)} of {number_text(before)} people kept",
            )
        )
    inputs = as_mapping(report.get("inputs"))
    facts.append(("SHA-256 of the parts", str(report.get("split_sha256", "not recorded"))))
    facts.append(("SHA-256 of the inputs", str(inputs.get("sha256", "not recorded"))))
    return facts


def _parts(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    counts = {str(k): as_number(v) or 0.0 for k, v in as_mapping(report.get("counts")).items()}
    total = sum(counts.values()) or 1.0
    return [(k, number_text(n), f"{100 * n / total:.1f} %") for k, n in counts.items()]


def _balance_cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    smd = as_number(row.get("smd"))
    said = "not defined" if smd is None else "balanced" if abs(smd) <= SMD_LIMIT else "off balance"
    return str(row.get("column")), number_text(smd), said


def _size(row: dict[str, Any], side: str) -> float | None:
    if not row.get(side):
        return None
    try:
        return as_number(size_of(row, side))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _name(row: dict[str, Any]) -> str:
    try:
        return str(row_name(row))
    except (KeyError, TypeError):
        return str(row.get("column"))


def _love_plot(split: SplitReport, rows: Sequence[dict[str, Any]]) -> Figure:
    sized = [(_name(row), _size(row, "before"), _size(row, "after")) for row in rows]
    points = sorted(
        ((name, before, after) for name, before, after in sized if before is not None),
        key=lambda point: -point[1],
    )[:_MAX_ROWS]
    sampling = as_mapping(split.report.get("sampling"))
    n_pairs = number_text(as_number(sampling.get("n_pairs")))
    bad = [name for name, _, after in points if after is not None and after > SMD_LIMIT]
    said = f"above {SMD_LIMIT}: {', '.join(bad)}" if bad else f"none above {SMD_LIMIT}"
    return _dots(
        points,
        title="Love plot: balance before and after",
        caption=f"n = {number_text(as_number(sampling.get('n_before')))} people before, "
        f"{number_text(as_number(sampling.get('n_after')))} after, {n_pairs} pairs; "
        f"dotted: {SMD_LIMIT}; {split.source}",
        alt=f"Absolute standardised mean differences of {len(points)} covariates; after: {said}.",
        labels=("before", "after"),
    )


def _part_plot(split: SplitReport, rows: Sequence[dict[str, Any]]) -> Figure:
    sized = [(str(row.get("column")), as_number(row.get("smd"))) for row in rows]
    known = ((name, abs(smd)) for name, smd in sized if smd is not None)
    ranked = sorted(known, key=lambda point: -point[1])[:_MAX_ROWS]
    points: list[tuple[str, float, float | None]] = [(name, smd, None) for name, smd in ranked]
    n_bad = sum(size > SMD_LIMIT for _, size, _ in points)
    counts = ", ".join(f"{part} n = {n}" for part, n, _ in _parts(split.report))
    return _dots(
        points,
        title="Balance of train against test",
        caption=f"{counts}; dotted: {SMD_LIMIT}; {split.source}",
        alt=f"{n_bad} of {len(points)} columns differ by more than {SMD_LIMIT}.",
        labels=("train against test", ""),
    )


def _dots(
    points: Sequence[tuple[str, float, float | None]],
    *,
    title: str,
    caption: str,
    alt: str,
    labels: tuple[str, str],
) -> Figure:
    def paint(axes: Axes, palette: Palette) -> None:
        places = range(len(points))
        for place, (_, before, after) in enumerate(points):
            if after is not None:
                axes.plot([before, after], [place, place], color=palette.grid, zorder=1)
        befores = [before for _, before, _ in points]
        axes.plot(
            befores, places, "o", markerfacecolor="none", color=palette.series[1], label=labels[0]
        )
        afters = [(after, p) for p, (_, _, after) in enumerate(points) if after is not None]
        if afters:
            axes.plot(*zip(*afters, strict=True), "o", color=palette.series[0], label=labels[1])
            axes.legend(loc="lower right")
        axes.axvline(SMD_LIMIT, color=palette.text, linestyle=":", linewidth=1.2)
        axes.set_yticks(places, [shortened(visible(name), 30) for name, _, _ in points])
        axes.set_ylim(len(points) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("absolute standardised mean difference [SD]")

    height = max(2.0, 0.9 + 0.26 * len(points))
    return draw(paint, title=title, caption=caption, alt=alt, inches=(4.8, height))
