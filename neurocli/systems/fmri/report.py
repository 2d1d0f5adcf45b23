"""Pictures of the fMRI room: who was taken for whom, true against predicted, skill per person.

Everything is drawn from the tables in the run folder, so that no torch is needed and every point
can be looked up.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from neurocli.core.metrics.measures import measure
from neurocli.core.report.charts import draw_reference
from neurocli.core.report.collect import Run, collect_run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import Figure, Palette, draw
from neurocli.core.report.records import as_number
from neurocli.core.report.text import number_text, visible
from neurocli.systems.fmri.volumes import attributions, data_quality, reconstructions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_CLASSES = 12
_MAX_POINTS = 2000
_SKILL = "skill_vs_persistence"

CITATIONS = {
    "mamba-2": "Dao T, Gu A. Transformers are SSMs: generalized models and efficient algorithms "
    "through structured state space duality. ICML 2024.",
    "hcp": "Van Essen DC et al. The WU-Minn Human Connectome Project: an overview. NeuroImage "
    "80:62-79, 2013.",
    "integrated gradients": "Sundararajan M, Taly A, Yan Q. Axiomatic attribution for deep "
    "networks. ICML 2017.",
}


def figures(run_dir: Path) -> list[Figure]:
    """Return the pictures of a run, judged part by judged part.

    Args:
        run_dir: A run folder; what is missing in it gives no picture.

    Returns:
        For a classifier a confusion matrix, for a regression predicted against true values, for
        pretraining the skill over persistence of every participant and a clip with its
        prediction; maps of what carried the output; the quality of the data.
    """
    run = collect_run(run_dir, with_curves=False)
    found: list[Figure] = []
    for evaluation in run.evaluations:
        picture = _picture(run, evaluation)
        found += [picture] if picture is not None else []
        found += reconstructions(run, evaluation) + attributions(run, evaluation)
    quality = data_quality(run)
    return found + ([quality] if quality is not None else [])


def _picture(run: Run, evaluation: Evaluation) -> Figure | None:
    table = evaluation.subjects
    if {"target", "predicted"} <= set(table.header):
        pairs = list(
            zip(table.column("target") or (), table.column("predicted") or (), strict=True)
        )
        if run.objective == "regression":
            return _predicted_against_true(run, evaluation, pairs)
        return _confusion(run, evaluation, pairs)
    if _SKILL in table.header:
        return _skill_by_participant(run, evaluation, table.column(_SKILL) or [])
    return None


def _confusion(run: Run, evaluation: Evaluation, pairs: list[tuple[str, str]]) -> Figure | None:
    names = sorted({name for pair in pairs for name in pair})
    if not pairs or len(names) > _MAX_CLASSES:
        return None
    counts = Counter(pairs)
    rows = [[counts[true, said] for said in names] for true in names]
    n_right = sum(counts[name, name] for name in names)
    largest = max(map(max, rows))

    def paint(axes: Axes, palette: Palette) -> None:
        axes.grid(visible=False)
        axes.pcolormesh(rows, cmap="cividis", vmin=0, vmax=largest, edgecolors="none")
        for y, row in enumerate(rows):
            for x, count in enumerate(row):
                color = "black" if count > 0.45 * largest else "white"
                axes.text(x + 0.5, y + 0.5, str(count), color=color, ha="center", va="center")
        ticks, labels = [place + 0.5 for place in range(len(names))], [visible(n) for n in names]
        axes.set_xticks(ticks, labels)
        axes.set_yticks(ticks, labels)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        axes.set_xlabel(visible(f"predicted {_target(run)}"))
        axes.set_ylabel(visible(f"true {_target(run)}"))

    return draw(
        paint,
        title=f"Confusion matrix, {evaluation.part}",
        caption=f"participants, n = {len(pairs)}; {run.name}/{evaluation.subjects_source}",
        alt=f"{n_right} of {len(pairs)} participants are predicted right.",
    )


def _predicted_against_true(
    run: Run, evaluation: Evaluation, pairs: list[tuple[str, str]]
) -> Figure | None:
    numbers = [(as_number(true), as_number(said)) for true, said in pairs]
    points = [(x, y) for x, y in numbers if x is not None and y is not None]
    if not points:
        return None
    shown = points[:: -(-len(points) // _MAX_POINTS)]
    low, high = min(map(min, points)), max(map(max, points))
    margin = 0.05 * (high - low) or 1.0
    error = sum(abs(x - y) for x, y in points) / len(points)

    def paint(axes: Axes, palette: Palette) -> None:
        axes.axline((low, low), slope=1, color=palette.text, linestyle=":", linewidth=1.2)
        axes.plot(*zip(*shown, strict=True), "o", markersize=4, color=palette.series[0], alpha=0.7)
        axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        axes.set_aspect("equal")
        axes.set_xlabel(visible(f"true {_target(run)} [unit of the table]"))
        axes.set_ylabel(visible(f"predicted {_target(run)}\n[unit of the table]"))

    some = f"; {len(shown)} shown" if len(shown) < len(points) else ""
    return draw(
        paint,
        title=f"Predicted against true {_target(run)}, {evaluation.part}",
        caption=f"dotted: perfect prediction; participants, n = {len(points)}{some}; "
        f"{run.name}/{evaluation.subjects_source}",
        alt=f"The mean absolute error over {len(points)} participants is {number_text(error)}.",
    )


def _skill_by_participant(run: Run, evaluation: Evaluation, cells: list[str]) -> Figure | None:
    values = sorted(value for value in map(as_number, cells) if value is not None)
    if not values:
        return None
    n_above = sum(value > 0 for value in values)
    shown = values[:: -(-len(values) // _MAX_POINTS)]

    def paint(axes: Axes, palette: Palette) -> None:
        axes.plot(range(1, len(shown) + 1), shown, "o", markersize=4, color=palette.series[0])
        draw_reference(axes, palette, _SKILL)
        axes.set_xlabel("participant, sorted by skill")
        axes.set_ylabel(measure(_SKILL).two_lines)
        axes.legend()

    return draw(
        paint,
        title=f"Skill over persistence by participant, {evaluation.part}",
        caption=f"n = {len(values)} participants; {run.name}/{evaluation.subjects_source}",
        alt=f"{n_above} of {len(values)} participants are above persistence.",
    )


def _target(run: Run) -> str:
    return str(run.settings.get("task.target") or "value")
