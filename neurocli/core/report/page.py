"""From runs to the text of one page: what a template shows, computed; then the template.

The page holds everything it shows: no script, no network, no file beside it. Every text from data
passes through `_shown` and is escaped by the template engine, and the content policy in the page
forbids what escaping might miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurocli.core.catalog import find_model, models, resolve
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.measures import baseline_texts, measure
from neurocli.core.report.charts import comparison_charts, learning_curves
from neurocli.core.report.collect import Run
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import Figure
from neurocli.core.report.methods import flat, methods_paragraph, repeat_command
from neurocli.core.report.records import as_mapping, as_number, as_texts
from neurocli.core.report.results import ResultRow, comparisons, parameters, result_rows
from neurocli.core.report.text import number_text, short_cell, visible, without_folders

if TYPE_CHECKING:
    from jinja2 import Template

MARKER = 'content="neuro/report/1"'
_MAX_ROWS = 10
_MAX_LEFT_OUT = 200


@dataclass(frozen=True)
class Judgement:
    """Hold one evaluation as the page shows it."""

    evaluation: Evaluation
    rows: Sequence[ResultRow]
    baselines: Sequence[str]
    notes: Sequence[str]
    subjects: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """Hold one run as the page shows it."""

    run: Run
    facts: Sequence[tuple[str, str, str]]
    judgements: Sequence[Judgement]
    curves: Sequence[Figure]
    figures: Sequence[Figure]
    left_out: Sequence[tuple[str, str]]
    n_left_out: int
    settings: Sequence[tuple[str, str, str]]
    environment: Sequence[tuple[str, str]]
    command: str
    methods: str
    warnings: Sequence[str]


def page_text(runs: Sequence[Run]) -> str:
    """Return the page of these runs as HTML.

    Args:
        runs: What `collect_runs` gave.

    Returns:
        The same text for the same runs, whatever the clock or the folder.
    """
    return _template().render(
        sections=[section(run) for run in runs],
        comparisons=comparisons(runs),
        charts=comparison_charts(runs) if len(runs) > 1 else [],
        built_in=[run.name for run in runs if run.is_built_in],
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neurocli.core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _shown(value: Any) -> Any:
    # Markup (the included style sheet) is our own; every plain text may come from data.
    return without_folders(visible(value)) if type(value) is str else value


def section(run: Run) -> Section:
    """Return what the page says about one run."""
    figures, problems = room_figures(run)
    left_out = _left_out(run.data.get("left_out"))
    return Section(
        run=run,
        facts=list(_facts(run)),
        judgements=[_judgement(run, evaluation) for evaluation in run.evaluations],
        curves=learning_curves(run),
        figures=figures,
        left_out=left_out[:_MAX_LEFT_OUT],
        n_left_out=len(left_out),
        settings=_settings(run),
        environment=list(flat(run.environment)),
        command=repeat_command(run),
        methods=methods_paragraph(run),
        warnings=[*_missing(run), *run.problems, *problems, *as_texts(run.data.get("notes"))],
    )


def room_figures(run: Run) -> tuple[list[Figure], list[str]]:
    """Return the pictures that only the run's room has, and sentences about what failed."""
    try:
        room, _ = find_model(run.model)
        if room.figures is None:
            return [], []
        # A model of a later version has no room here; its tables are shown all the same.
        figures: list[Figure] = resolve(room.figures)(run.folder)
    except NeuroError as error:
        return [], [f"no pictures of the room: {error.message}"]
    return figures, []


def _missing(run: Run) -> list[str]:
    if not run.missing:
        return []
    ended = "" if "result.json" not in run.missing else " (the run has not ended, or was killed)"
    return [f"not in the run folder{ended}: {', '.join(run.missing)}"]


def _facts(run: Run) -> list[tuple[str, str, str]]:
    facts = [
        ("model", run.model, "config.yaml"),
        ("objective", _objective(run), "data.json"),
        ("parameters", number_text(parameters(run)), "result.json"),
    ]
    target = run.settings.get("task.target")
    if target is not None:
        facts.append(("target", str(target), "config.yaml"))
    facts.append(("data", _data_name(run), "config.yaml, data.json"))
    for part, row in as_mapping(run.data.get("parts")).items():
        counts = as_mapping(row)
        people = number_text(as_number(counts.get("participants")))
        samples = number_text(as_number(counts.get("samples")))
        facts.append((str(part), f"{people} participants, {samples} samples", "data.json"))
    best = as_mapping(run.result.get("best"))
    if best:
        value = number_text(as_number(best.get("value")))
        label = measure(str(best.get("metric"))).label
        facts.append(
            ("best while training", f"{label} {value} on {best.get('part')}", "result.json")
        )
    seconds = as_number(run.result.get("seconds"))
    if seconds is not None:
        steps = number_text(as_number(run.result.get("steps")))
        facts.append(("training", f"{steps} steps in {number_text(seconds)} s", "result.json"))
    return facts


def _objective(run: Run) -> str:
    rooms = [models()[run.model][0]] if run.model in models() else []
    known = {task.name: task.summary for room in rooms for task in room.tasks}
    return f"{run.objective}: {known[run.objective]}" if run.objective in known else run.objective


def _data_name(run: Run) -> str:
    if run.is_built_in:
        return "built-in synthetic data"
    info = run.data.get("info")
    joined = info.get("datasets") if isinstance(info, Mapping) else None
    if isinstance(joined, list) and joined:
        return ", ".join(str(row.get("name")) for row in joined if isinstance(row, Mapping))
    path = run.settings.get("data.path")
    return Path(str(path)).name if path else "not recorded"


def _judgement(run: Run, evaluation: Evaluation) -> Judgement:
    said = as_texts(run.data.get("notes"))
    return Judgement(
        evaluation=evaluation,
        rows=result_rows(evaluation),
        baselines=baseline_texts(evaluation.baselines),
        notes=[note for note in evaluation.notes if note not in said],
        subjects=[
            [short_cell(cell) for cell in row] for row in evaluation.subjects.rows[:_MAX_ROWS]
        ],
    )


def _left_out(value: Any) -> list[tuple[str, str]]:
    rows = value if isinstance(value, (list, tuple)) else ()
    return [
        (str(row[0]), str(row[1]))
        for row in rows
        if isinstance(row, (list, tuple)) and len(row) == 2
    ]


def _settings(run: Run) -> list[tuple[str, str, str]]:
    values: Mapping[str, str] = dict(flat(run.settings))
    return [(key, value, str(run.origins.get(key, ""))) for key, value in values.items()]
