"""The pictures that every room has: learning curves, and results of runs with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurocli.core.metrics.measures import measure
from neurocli.core.report.collect import Run
from neurocli.core.report.curves import Points
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import LINE_STYLES, Figure, Palette, draw
from neurocli.core.report.text import number_text, shortened, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_POINTS = 400  # more points than pixels only make the file large
_MAX_CURVES = 5
_MAX_CHARTS = 8
_PARTS = ("train", "val", "test")


def learning_curves(run: Run) -> list[Figure]:
    """Return the training loss and the main metrics of a run over its steps.

    The metric that chose the checkpoint comes first; a metric with one value per part has no
    curve and is left to the tables.
    """
    figures = [_loss_curve(run)] if len(run.curves.loss) > 1 else []
    best = run.result.get("best")
    first = best.get("metric") if isinstance(best, dict) else None
    names = sorted(
        {name for (_, name), points in run.curves.metrics.items() if len(points) > 1},
        key=lambda name: (name != first, name),
    )
    return figures + [_metric_curve(run, name) for name in names[:_MAX_CURVES]]


def _loss_curve(run: Run) -> Figure:
    points, n_mean = thin(run.curves.loss)
    start, end = number_text(points[0][1]), number_text(points[-1][1])
    each = f"mean of every {n_mean} steps" if n_mean > 1 else "every logged step"

    def paint(axes: Axes, palette: Palette) -> None:
        axes.plot(*zip(*points, strict=True), color=palette.series[0])
        name_steps(axes)
        axes.set_ylabel("training loss\n[no unit]")

    return draw(
        paint,
        title="Training loss",
        caption=f"{each}; {_people(run, 'train')}; {run.name}/log.jsonl",
        alt=f"Training loss goes from {start} at step {number_text(points[0][0])} to {end} "
        f"at step {number_text(points[-1][0])}.",
    )


def _metric_curve(run: Run, name: str) -> Figure:
    series = {
        part: points for (part, metric), points in run.curves.metrics.items() if metric == name
    }
    parts = sorted(series, key=lambda part: (part not in _PARTS, part))

    def paint(axes: Axes, palette: Palette) -> None:
        for index, part in enumerate(parts):
            axes.plot(
                *zip(*series[part], strict=True),
                color=palette.series[index % len(palette.series)],
                linestyle=LINE_STYLES[index % len(LINE_STYLES)],
                # Few judgements need marks: a line alone hides where they are.
                marker="o" if len(series[part]) <= 30 else None,
                markersize=3.5,
                label=visible(part),
            )
        draw_reference(axes, palette, name)
        name_steps(axes)
        axes.set_ylabel(visible(measure(name).two_lines))
        if len(parts) > 1 or measure(name).reference is not None:
            axes.legend()

    last = ", ".join(f"{part} {number_text(series[part][-1][1])}" for part in parts)
    people = ", ".join(_people(run, part) for part in parts)
    return draw(
        paint,
        title=f"{measure(name).label} over training",
        caption=f"{people}; {run.name}/{run.curves.source}",
        alt=f"{measure(name).label} by step; the last values are {last}.",
    )


def name_steps(axes: Axes) -> None:
    """Name the horizontal axis of a curve, with ticks at whole steps."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("optimiser step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))


def draw_reference(axes: Axes, palette: Palette, name: str) -> None:
    """Draw the value of doing nothing as a dotted level line, where the measure has one."""
    reference = measure(name).reference
    if reference is not None:
        value, label = reference
        axes.axhline(value, color=palette.text, linestyle=":", linewidth=1.2, label=label)


def _people(run: Run, part: str) -> str:
    n = run.n_participants.get(part)
    return f"{part}, n not recorded" if n is None else f"{part}, n = {n} participants"


def thin(points: Points, limit: int = _MAX_POINTS) -> tuple[Points, int]:
    """Return at most `limit` points, each the mean of equally many, and how many that is.

    >>> thin(((1, 2.0), (2, 4.0), (3, 6.0)), limit=2)
    (((1.5, 3.0), (3.0, 6.0)), 2)
    """
    n_mean = -(-len(points) // limit)
    if n_mean <= 1:
        return points, 1
    groups = [points[start : start + n_mean] for start in range(0, len(points), n_mean)]
    return tuple(
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ), n_mean


def comparison_charts(runs: Sequence[Run]) -> list[Figure]:
    """Return one chart per metric that two or more runs of one objective have on the same part."""
    groups: dict[tuple[str, str, str], list[tuple[Run, Evaluation]]] = {}
    for run in runs:
        for row in run.evaluations:
            known = [
                name
                for name, value in row.metrics.items()
                if value is not None and measure(name).better is not None
            ]
            # A figure of training data beside one of new people invites a wrong conclusion.
            for name in known if not row.in_sample else ():
                groups.setdefault((run.learned, row.part, name), []).append((run, row))
    shown = [(key, rows) for key, rows in groups.items() if len(rows) > 1][:_MAX_CHARTS]
    return [_interval_chart(rows, *key) for key, rows in shown]


def _interval_chart(
    rows: Sequence[tuple[Run, Evaluation]], learned: str, part: str, name: str
) -> Figure:
    values = [row.metrics[name] or 0.0 for _, row in rows]
    labels = [shortened(visible(run.name)) for run, _ in rows]

    def paint(axes: Axes, palette: Palette) -> None:
        for place, ((_, row), value) in enumerate(zip(rows, values, strict=True)):
            color = palette.series[0]
            low, high = row.ci95.get(name, (value, value))
            axes.plot([low, high], [place, place], color=color)
            axes.plot([value], [place], "o", color=color)
            bases = [base.get(name) for base in row.baselines.values()]
            known = [base for base in bases if base is not None]
            axes.plot(known, [place] * len(known), "|", color=palette.series[1], markersize=14)
        axes.set_yticks(range(len(rows)), labels)
        # The first run stands on top, as in the table.
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(visible(measure(name).axis))

    n = ", ".join(dict.fromkeys(f"{number_text(row.n)} {row.unit}" for _, row in rows))
    said = "; ".join(
        f"{label} {number_text(value)}" for label, value in zip(labels, values, strict=True)
    )
    return draw(
        paint,
        title=f"{measure(name).label}, {learned}, {part}",
        caption=f"point and 95 % interval; upright strokes are baselines; n = {n}; "
        "metrics.json of each run",
        alt=f"{measure(name).label} by run: {said}.",
        inches=(4.4, max(1.6, 0.75 + 0.4 * len(rows))),
    )
