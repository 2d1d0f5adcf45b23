"""Pictures over all runs of a page: curves laid over each other, bars by model, cost against score.

Each is a list of panels, so that the page and the PNG files show the same thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neurocli.core.experiment.columns import Row
from neurocli.core.metrics.measures import measure
from neurocli.core.report.charts import name_steps, thin
from neurocli.core.report.collect import Run
from neurocli.core.report.experiment import judged_by_part
from neurocli.core.report.figures import LINE_STYLES, Palette, Panel, plain_ticks
from neurocli.core.report.records import as_mapping
from neurocli.core.report.tables import model_means
from neurocli.core.report.text import number_text, shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_LINES = 12
_MAX_BARS = 24
_MAX_LABELS = 10
COST_LABELS: Mapping[str, str] = {
    "total_params": "parameters [count]",
    "flops": "operations of a forward pass [FLOPs]",
    "pam_train": "peak activation memory, training [bytes]",
    "pam_inference": "peak activation memory, inference [bytes]",
    "inference_latency_ms": "latency of a forward pass [ms]",
}
_FIRST_BARS = (
    "test_dice", "val_dice", "precision", "recall", "total_params", "flops", "pam_train",
    "pam_inference", "inference_latency_ms", "test_wt", "test_tc", "test_et",
)  # fmt: skip
_MAX_PANELS = 12


@dataclass(frozen=True)
class Score:
    """Name the column that says how good a run is, and how it reads."""

    column: str
    label: str
    is_high_good: bool


def primary_score(runs: Sequence[Run], rows: Sequence[Row]) -> Score | None:
    """Return the score on new people: the metric that chose the checkpoints, on the test part.

    Args:
        runs: Runs of one objective.
        rows: Their rows of the table of runs.
    """
    if any(isinstance(row.get("test_dice"), float) for row in rows):
        return Score("test_dice", "test Dice, mean of WT, TC and ET [share]", is_high_good=True)
    chosen = [as_mapping(run.result.get("best")).get("metric") for run in runs]
    judged = [judged_by_part(run)["test"] for run in runs if "test" in judged_by_part(run)]
    names = [str(name) for name in chosen if name] + [n for each in judged for n in each.metrics]
    for name in names:
        known = measure(name)
        if known.better and any(row.get(f"test_{name}") is not None for row in rows):
            return Score(f"test_{name}", f"test {known.axis}", known.better == "higher")
    return None


def curve_panels(runs: Sequence[Run]) -> list[Panel]:
    """Return the training loss of all runs, and the metric that chose their checkpoints.

    Args:
        runs: Runs of one objective; of many only the first twelve are drawn.
    """
    shown = [run for run in runs if run.curves.loss or run.curves.metrics][:_MAX_LINES]
    more = f", first {len(shown)} of {len(runs)} runs" if len(shown) < len(runs) else ""
    panels = []
    if any(len(run.curves.loss) > 1 for run in shown):
        lines = {run.name: thin(run.curves.loss)[0] for run in shown if run.curves.loss}
        panels.append(Panel(f"Training loss{more}", _lines(lines, "training loss [no unit]")))
    for part, name in _chosen_curves(shown):
        lines = {
            run.name: run.curves.metrics[part, name]
            for run in shown
            if (part, name) in run.curves.metrics
        }
        label = f"{part} {measure(name).axis}"
        panels.append(Panel(f"{measure(name).label}, {part}{more}", _lines(lines, label)))
    return panels


def _chosen_curves(runs: Sequence[Run]) -> list[tuple[str, str]]:
    found = []
    for run in runs:
        best = as_mapping(run.result.get("best"))
        key = (str(best.get("part")), str(best.get("metric")))
        if len(run.curves.metrics.get(key, ())) > 1:
            found.append(key)
    return list(dict.fromkeys(found))[:1]


def _lines(
    lines: Mapping[str, Sequence[tuple[float, float]]], label: str
) -> Callable[[Axes, Palette], None]:
    def paint(axes: Axes, palette: Palette) -> None:
        for index, (name, points) in enumerate(lines.items()):
            axes.plot(
                *zip(*points, strict=True),
                color=palette.series[index % len(palette.series)],
                # Styles change when colours begin again, so that no two lines are alike.
                linestyle=LINE_STYLES[index // len(palette.series) % len(LINE_STYLES)],
                marker="o" if len(points) <= 30 else None,
                markersize=3,
                label=shortened(visible(name)),
            )
        name_steps(axes)
        axes.set_ylabel(visible(label))
        axes.legend(fontsize=7)

    return paint


def bar_panels(rows: Sequence[Row]) -> list[Panel]:
    """Return bars by model for scores and costs: mean, and standard deviation over its runs.

    Args:
        rows: Of the table of runs; of many models the first 24 are drawn.
    """
    columns = [c for c in _FIRST_BARS if any(row.get(c) is not None for row in rows)]
    names = dict.fromkeys(key for row in rows for key in row)
    columns += [
        c
        for c in names
        if c.startswith(("test_", "val_")) and c not in columns and measure(_bare(c)).better
        if any(isinstance(row.get(c), float) for row in rows)
    ]
    means = model_means(rows, columns)
    models = list(means)[:_MAX_BARS]
    more = f", first {len(models)} of {len(means)}" if len(models) < len(means) else ""
    return [_bars(column, models, means, more) for column in columns[:_MAX_PANELS]]


def _bare(column: str) -> str:
    return column.removeprefix("test_").removeprefix("val_")


def column_label(column: str) -> str:
    """Return what a column of the table of runs holds, with its unit.

    >>> column_label("test_accuracy"), column_label("flops")
    ('test accuracy [share]', 'operations of a forward pass [FLOPs]')
    """
    if column in COST_LABELS:
        return COST_LABELS[column]
    part = column.partition("_")[0] if column.startswith(("test_", "val_")) else "test"
    name = _bare(column)
    if name in ("dice", "wt", "tc", "et"):
        return f"{part} Dice{'' if name == 'dice' else f' {name.upper()}'} [share]"
    return f"{part} {measure(name).axis}"


def _bars(
    column: str,
    models: Sequence[str],
    means: Mapping[str, Mapping[str, tuple[float, float | None, int]]],
    more: str,
) -> Panel:
    own = [(model, means[model][column]) for model in models if column in means[model]]
    counts = sorted({n for _, (_, _, n) in own})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    def paint(axes: Axes, palette: Palette) -> None:
        places = range(len(own))
        axes.barh(
            places,
            [mean for _, (mean, _, _) in own],
            xerr=[spread or 0.0 for _, (_, spread, _) in own],
            color=palette.series[0],
            ecolor=palette.text,
            height=0.7,
        )
        size = 8 if len(own) <= 10 else 5
        axes.set_yticks(places, [shortened(visible(model)) for model, _ in own], fontsize=size)
        axes.set_ylim(max(len(own), 2) - 0.5, -0.5)
        axes.set_xlabel(visible(column_label(column)))
        axes.grid(visible=False, axis="y")

    runs = "run" if counts == [1] else "runs"
    return Panel(f"{column_label(column).partition(' [')[0]}, n = {n} {runs} each{more}", paint)


def efficiency_panels(rows: Sequence[Row], score: Score) -> list[Panel]:
    """Return one panel per known cost: each model's mean score against it, the frontier joined.

    Args:
        rows: Of the table of runs, of one objective.
        score: What is good.
    """
    means = model_means(rows, (*COST_LABELS, score.column))
    panels = []
    for column, label in COST_LABELS.items():
        points = {
            model: (found[column][0], found[score.column][0])
            for model, found in means.items()
            if column in found and score.column in found
        }
        if points:
            title = f"{label.partition(' [')[0]}, n = {len(points)} models"
            panels.append(Panel(title, _scatter(points, label, score)))
    return panels


def _scatter(
    points: Mapping[str, tuple[float, float]], label: str, score: Score
) -> Callable[[Axes, Palette], None]:
    best = frontier(points, is_high_good=score.is_high_good)
    named = list(points) if len(points) <= _MAX_LABELS else best

    def paint(axes: Axes, palette: Palette) -> None:
        if len(best) > 1:
            line = [points[name] for name in best]
            axes.plot(*zip(*line, strict=True), color=palette.series[1], linestyle="--", zorder=1)
        axes.plot(*zip(*points.values(), strict=True), "o", color=palette.series[0], markersize=5)
        costs = [cost for cost, _ in points.values()]
        if min(costs) > 0 and max(costs) / min(costs) > 20:
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
        middle = (min(costs) + max(costs)) / 2
        for name in named:
            cost, value = points[name]
            # Towards the middle, so that no name leaves the picture.
            side = "left" if cost <= middle else "right"
            axes.annotate(
                shortened(visible(name), 24),
                (cost, value),
                xytext=(5 if side == "left" else -5, 4),
                textcoords="offset points",
                fontsize=7,
                ha=side,
            )
        axes.margins(x=0.12, y=0.18)
        axes.set_xlabel(visible(label))
        axes.set_ylabel(visible(score.label.replace(" [", "\n[")))

    return paint


def frontier(points: Mapping[str, tuple[float, float]], *, is_high_good: bool) -> list[str]:
    """Return the names that nothing beats at their cost or less, from cheap to dear.

    >>> frontier({"a": (1, 0.5), "b": (2, 0.4), "c": (3, 0.9)}, is_high_good=True)
    ['a', 'c']
    """
    sign = 1 if is_high_good else -1
    found: list[str] = []
    top = float("-inf")
    for name, (_, value) in sorted(points.items(), key=lambda it: (it[1][0], -sign * it[1][1])):
        if sign * value > top:
            found.append(name)
            top = sign * value
    return found


def panel_alt(rows: Sequence[Row], column: str) -> str:
    """Return the values of a column by model in words."""
    means = model_means(rows, (column,))
    said = [f"{m} {number_text(found[column][0])}" for m, found in means.items() if column in found]
    return f"{column_label(column)} by model: {'; '.join(said[:_MAX_BARS])}."
