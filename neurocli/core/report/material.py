"""What a page shows of all its runs together: tables, tests and pictures over several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

from neurocli.core.errors import NeuroError
from neurocli.core.experiment.columns import RUNS_TABLE, Row
from neurocli.core.experiment.contest import TABLE
from neurocli.core.report.arms import PairedRow, arms_of, paired_rows
from neurocli.core.report.collect import Run
from neurocli.core.report.costs import Costs, costs_of
from neurocli.core.report.differences import Differences, read_differences
from neurocli.core.report.experiment import epoch_rows, run_rows, stage_rows
from neurocli.core.report.figures import Figure, Panel, draw
from neurocli.core.report.overview import (
    COST_LABELS,
    Score,
    bar_panels,
    column_label,
    curve_panels,
    efficiency_panels,
    panel_alt,
    primary_score,
)
from neurocli.core.report.scatter import Scatter, scatter_of
from neurocli.core.report.sources import Sources
from neurocli.core.report.tables import mean_columns, model_means, room_of
from neurocli.core.report.text import number_text

_MAX_PAIRS = 40
_COST_FIELDS = ("params", "flops", "pam_train", "pam_inference", "latency_ms")


@dataclass(frozen=True)
class Material:
    """Hold everything a page is made of.

    Args:
        sources: Runs and records.
        folder: Name of the folder beside the page that holds its tables; empty for none.
    """

    sources: Sources
    folder: str = ""

    @cached_property
    def costed(self) -> list[tuple[Run, Costs]]:
        """Return every run with what its model costs."""
        return [(run, costs_of(run, self.sources.profiles)) for run in self.sources.runs]

    @cached_property
    def run_rows(self) -> list[Row]:
        """Return the table of runs."""
        return run_rows(self.costed)

    @cached_property
    def epoch_rows(self) -> list[Row]:
        """Return the table of epochs."""
        return epoch_rows(self.costed)

    @cached_property
    def stage_rows(self) -> list[Row]:
        """Return the table of stages."""
        return stage_rows(self.costed)

    @cached_property
    def pairs(self) -> list[PairedRow]:
        """Return the tests of all pairs of arms."""
        return paired_rows(self.sources.runs)

    @cached_property
    def groups(self) -> list[Group]:
        """Return the runs by what they learned."""
        names = dict.fromkeys(run.learned for run in self.sources.runs)
        found = []
        for name in names:
            own = [i for i, run in enumerate(self.sources.runs) if run.learned == name]
            runs = [self.sources.runs[i] for i in own]
            rows = [self.run_rows[i] for i in own]
            found.append(Group(name, runs, rows, primary_score(runs, rows), self._source))
        return found

    @property
    def _source(self) -> str:
        """Return where the table of runs can be looked up."""
        there = self.sources.tables.get(RUNS_TABLE)
        if there is not None:
            return f"{there.parent.name}/{RUNS_TABLE}"
        return f"{self.folder}/{RUNS_TABLE}" if self.folder else "result.json and metrics.json"

    @property
    def shown_pairs(self) -> list[tuple[str, ...]]:
        """Return the first tests as cells."""
        return [row.cells for row in self.pairs[:_MAX_PAIRS]]

    @cached_property
    def differences(self) -> Differences | None:
        """Return what an experiment recorded of its models' differences, where it compared them."""
        there = self.sources.tables.get(TABLE)
        return None if there is None else read_differences(there.parent)

    @cached_property
    def costs(self) -> list[tuple[str, ...]]:
        """Return one row of cells per model: what one sample costs and where that comes from."""
        found: dict[tuple[str, ...], None] = {}
        for run, costs in self.costed:
            values = [number_text(getattr(costs, name)) for name in _COST_FIELDS]
            source = "; ".join(dict.fromkeys(costs.sources.values()))
            if any(getattr(costs, name) is not None for name in _COST_FIELDS):
                found[run.method, *values, source] = None
        return list(found)

    @cached_property
    def curve_panels(self) -> list[Panel]:
        """Return the panels of `learning_curves.png`."""
        return [panel for group in self.groups for panel in curve_panels(group.runs)]

    @cached_property
    def bar_panels(self) -> list[Panel]:
        """Return the panels of `model_comparison_chart.png`."""
        return [panel for group in self.groups for panel in bar_panels(group.rows)]

    @cached_property
    def efficiency_panels(self) -> list[Panel]:
        """Return the panels of `parameter_efficiency.png`."""
        return [panel for group in self.groups for panel in group.efficiency]

    @cached_property
    def scatters(self) -> list[Scatter]:
        """Return one picture to turn per objective that has scores and costs."""
        return [group.scatter for group in self.groups if group.scatter is not None]

    @cached_property
    def room_comparisons(self) -> tuple[list[Figure], list[str]]:
        """Return the pictures over several runs that rooms have, and sentences about failures."""
        figures: list[Figure] = []
        problems: list[str] = []
        by_module: dict[str, list[Run]] = {}
        for run in self.sources.runs:
            module = room_module(run)
            if module is not None:
                by_module.setdefault(module, []).append(run)
        for module, runs in by_module.items():
            compare = getattr(import_module(module), "compare", None)
            if compare is None or len(runs) < 2:
                continue
            try:
                figures += compare(runs)
            except NeuroError as error:
                problems.append(f"no pictures over several runs: {error.message}")
        return figures, problems


@dataclass(frozen=True)
class Group:
    """Hold the runs that learned the same thing, and their rows of the table of runs.

    Args:
        learned: What they learned.
        runs: The runs.
        rows: Their rows of the table of runs.
        score: What says how good they are; None before anything was judged.
        source: Where the rows can be looked up.
    """

    learned: str
    runs: Sequence[Run]
    rows: Sequence[Row]
    score: Score | None
    source: str

    @property
    def repeats(self) -> bool:
        """Return whether an arm has several runs, as over seeds or folds."""
        return any(len(arm.runs) > 1 for arm in arms_of(self.runs))

    @property
    def mean_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return header and rows of means over the runs of each model."""
        means = model_means(self.rows, mean_columns(self.rows))
        columns = [c for c in mean_columns(self.rows) if any(c in own for own in means.values())]
        columns = columns[:_MAX_COLUMNS]
        rows = [
            (model, *(_mean_text(own.get(column)) for column in columns))
            for model, own in means.items()
        ]
        return tuple(column_label(column) for column in columns), rows

    @property
    def curves(self) -> list[Figure]:
        """Return the curves of all runs laid over each other."""
        n = len([run for run in self.runs if run.curves.loss or run.curves.metrics])
        return [
            _drawn(
                panel,
                f"one line per run, n = {n} runs; log.jsonl of each run",
                f"{panel.title} of {n} runs.",
            )
            for panel in (curve_panels(self.runs) if n > 1 else [])
        ]

    @property
    def efficiency(self) -> list[Panel]:
        """Return the panels of cost against score."""
        return efficiency_panels(self.rows, self.score) if self.score else []

    @property
    def efficiency_figures(self) -> list[Figure]:
        """Return cost against score, where there are two models or more."""
        if self.score is None or len({row["model_name"] for row in self.rows}) < 2:
            return []
        shown = [c for c in COST_LABELS if any(row.get(c) is not None for row in self.rows)]
        said = panel_alt(self.rows, self.score.column)
        return [
            _drawn(
                panel,
                f"mean over the runs of a model; dashed: no other model is better for less; "
                f"{self.source}",
                f"{column_label(column)} against score. {said}",
            )
            for column, panel in zip(shown, self.efficiency, strict=False)
        ]

    @property
    def scatter(self) -> Scatter | None:
        """Return the picture to turn."""
        if self.score is None:
            return None
        return scatter_of(self.rows, self.score, learned=self.learned, source=self.source)


_MAX_COLUMNS = 8


def _mean_text(value: tuple[float, float | None, int] | None) -> str:
    if value is None:
        return "\u2013"
    mean, spread, n = value
    return (
        f"{number_text(mean)} ± {number_text(spread)} (n = {n})"
        if spread is not None
        else (f"{number_text(mean)} (n = {n})")
    )


def _drawn(panel: Panel, caption: str, alt: str) -> Figure:
    return draw(panel.paint, title=panel.title, caption=caption, alt=alt)


def room_module(run: Run) -> str | None:
    """Return the module that draws a run's room, None where there is none."""
    room = room_of(run.model)
    return None if room is None or room.figures is None else room.figures.partition(":")[0]


def citations(runs: Sequence[Run]) -> list[str]:
    """Return what a paper on these runs cites, each once."""
    found: dict[str, None] = {}
    for run in runs:
        module = room_module(run)
        own: Mapping[str, str] = (
            getattr(import_module(module), "CITATIONS", {}) if module is not None else {}
        )
        for text in own.values():
            found[text] = None
    return list(found)
