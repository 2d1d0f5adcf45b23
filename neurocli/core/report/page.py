"""From runs to the text of one page: what a template shows, computed; then the template.

The page holds everything it shows and asks nothing of the network. It runs no script but the one
that turns a picture, which its content policy names by hash. Every text from data is escaped by the
template engine, and the policy forbids what escaping might miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurocli.core.catalog import find_model, models, resolve
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.measures import baseline_texts, measure
from neurocli.core.report.beside import Beside
from neurocli.core.report.charts import comparison_charts, learning_curves
from neurocli.core.report.cohort import split_section
from neurocli.core.report.collect import Run
from neurocli.core.report.costs import Costs
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.figures import Figure
from neurocli.core.report.material import Material, citations
from neurocli.core.report.methods import flat, methods_paragraph, repeat_command
from neurocli.core.report.page_parts import MARKER, template
from neurocli.core.report.records import as_mapping, as_number, as_texts
from neurocli.core.report.results import ResultRow, comparisons, parameters, result_rows
from neurocli.core.report.scatter import policy, script
from neurocli.core.report.sources import Sources
from neurocli.core.report.text import number_text, short_cell

__all__ = ["MARKER", "page_text", "room_figures", "section"]

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


def page_text(sources: Sources | Sequence[Run], *, beside: Sequence[Beside] = ()) -> str:
    """Return the page of these runs as HTML.

    Args:
        sources: What `collect_sources` or `collect_runs` gave.
        beside: Files that the page links to.

    Returns:
        The same text for the same runs, whatever the clock or the folder.
    """
    known = sources if isinstance(sources, Sources) else Sources(tuple(sources))
    return page_of(Material(known), beside)


def page_of(material: Material, beside: Sequence[Beside] = ()) -> str:
    """Return the page of what was collected; the same as `page_text`.

    Args:
        material: Runs and what is made of all of them.
        beside: Files that the page links to.
    """
    runs = material.sources.runs
    is_several = len(runs) > 1
    compared, problems = material.room_comparisons
    apart = material.differences
    scatters = [each for each in material.scatters if len(each.points) > 1]
    return template("report.html.j2").render(
        title=_title(material.sources),
        sections=[section(run, costs) for run, costs in material.costed],
        splits=[split_section(split) for split in material.sources.splits],
        is_several=is_several,
        comparisons=comparisons(runs),
        charts=comparison_charts(runs) if is_several else [],
        groups=[group for group in material.groups if len(group.runs) > 1],
        pairs=material.shown_pairs,
        n_pairs=len(material.pairs),
        apart=apart,
        costs=material.costs if is_several else [],
        compared=compared,
        problems=[*problems, *(apart.problems if apart else ())],
        scatters=scatters,
        citations=citations(runs),
        files=beside,
        built_in=[run.name for run in runs if run.is_built_in],
        policy=policy(with_script=bool(scatters)),
        script=script() if scatters else "",
    )


def _title(sources: Sources) -> str:
    if len(sources.names) == 1:
        return sources.names[0]
    counts = ((len(sources.runs), "run"), (len(sources.splits), "split"))
    told = [f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts if n]
    return f"Report of {' and '.join(told)}"


def section(run: Run, costs: Costs = Costs()) -> Section:
    """Return what the page says about one run.

    Args:
        run: The run.
        costs: What one sample costs its model.
    """
    figures, problems = room_figures(run)
    left_out = _left_out(run.data.get("left_out"))
    return Section(
        run=run,
        facts=[*_facts(run), *_cost_facts(costs), *_hash_facts(run)],
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
    if run.method != run.model:
        facts.insert(1, ("method", f"{run.method}, in place of the model", "metrics.json"))
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


_COSTS = (
    ("flops", "operations", "{} FLOPs for a forward pass of one sample"),
    ("pam_train", "memory, training", "{} bytes at the peak of a step, one sample"),
    ("pam_inference", "memory, inference", "{} bytes at the peak of a forward pass, one sample"),
    ("latency_ms", "latency", "{} ms for a forward pass of one sample"),
)


def _cost_facts(costs: Costs) -> list[tuple[str, str, str]]:
    found = []
    for name, label, words in _COSTS:
        value = getattr(costs, name)
        if value is not None:
            found.append((label, words.format(number_text(value)), costs.sources.get(name, "")))
    return found


def _hash_facts(run: Run) -> list[tuple[str, str, str]]:
    """Return the hashes of what was read, as far as recorded."""
    named = (("fingerprint", "hash of the data"), ("split_sha256", "hash of the split"))
    return [(label, str(run.data[key]), "data.json") for key, label in named if run.data.get(key)]


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
