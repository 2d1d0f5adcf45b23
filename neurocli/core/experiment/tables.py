"""The tables of an experiment: one row per run, epoch, stage of a model, case, and model.

Memory is in bytes, latency in milliseconds, both of one sample; an empty cell was not measured.
Every table is written whole from what the run folders hold, each time a row comes to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from neurocli.core.catalog import RoomCard
from neurocli.core.data.tables import safe_cell
from neurocli.core.engine.judgement import table_text
from neurocli.core.experiment.plan import PlannedRun
from neurocli.core.experiment.records import (
    Epochs,
    RunFacts,
    read_epochs,
    read_facts,
    read_profile,
)
from neurocli.core.paths import durable_write

RUNS_TABLE = "integrated_experiment_results.csv"
EPOCHS_TABLE = "all_epochs_results.csv"
MODELS_TABLE = "model_comparison.csv"
MODELS_TIDY = "model_comparison_tidy.csv"
STAGES_TABLE = "stage_wise_pam_results.csv"
CASES_TABLE = "per_case.csv"

KEYS = ("dataset", "seed", "fold", "model_name")
COSTS = ("total_params", "flops", "pam_train", "pam_inference", "inference_latency_ms")
STAGE_COLUMNS = ("mode", "stage_name", "pam_mean", "pam_std", "num_runs")
_MEASURED = ("pam_train", "pam_inference", "inference_latency_ms")
_DIGITS = 4
Row = dict[str, Any]


@dataclass
class Tables:
    """Keep the tables of an experiment in step with its runs.

    Args:
        out: The experiment's folder.
        runs: All planned runs, in order.
        room: Names the columns.
        dataset: What the data are called in the tables.
    """

    out: Path
    runs: Sequence[PlannedRun]
    room: RoomCard
    dataset: str
    _facts: dict[str, RunFacts] = field(default_factory=dict)

    def take(self, run: PlannedRun) -> RunFacts:
        """Read a run that has ended, and write all tables.

        Args:
            run: Which one.

        Raises:
            InputError: A file of the run is damaged.
            NeuroError: A table cannot be written.
        """
        self._facts[run.name] = read_facts(run, self.out / run.name)
        self.write()
        return self._facts[run.name]

    def facts_of(self, run: PlannedRun) -> RunFacts:
        """Return what is known of a run that has ended."""
        return self._facts[run.name]

    @property
    def facts(self) -> list[RunFacts]:
        """Return what is known of the runs that have ended, in their planned order."""
        return [self._facts[run.name] for run in self.runs if run.name in self._facts]

    def write(self) -> None:
        """Write all tables from what is known.

        Raises:
            NeuroError: A table cannot be written.
        """
        profile = read_profile(self.out)
        rows = [self._run_row(facts, profile.get(facts.run.model, {})) for facts in self.facts]
        columns = self._run_columns(rows)
        self._save(RUNS_TABLE, columns, rows)
        self.write_epochs()
        measures = self.room.compared or tuple(
            name for name in columns if name.startswith(("test_", "val_"))
        )
        tidy = model_rows(rows, (*measures, *_MEASURED))
        durable_write(self.out / MODELS_TABLE, two_headed(tidy, (*measures, *_MEASURED)))
        self._save(MODELS_TIDY, ("model_name", "measure", "n", "mean", "std"), tidy)
        self._save(STAGES_TABLE, (*KEYS, *STAGE_COLUMNS), self._stage_rows(profile))
        cases = [
            {**self._keys(facts.run), **case} for facts in self.facts for case in facts.per_case
        ]
        self._save(CASES_TABLE, _columns_of(cases, KEYS), cases)

    def write_epochs(self, running: PlannedRun | None = None) -> None:
        """Write the table of epochs, with those of a run that is being trained.

        Args:
            running: That run.

        Raises:
            NeuroError: It cannot be written.
        """
        rows = [row for facts in self.facts for row in self._epoch_rows(facts, facts.epochs)]
        if running is not None:
            epochs = read_epochs(self.out / running.name)
            rows += self._epoch_rows(RunFacts(running), epochs)
        head = (*KEYS, "epoch", *self.room.epochs)
        self._save(EPOCHS_TABLE, head if self.room.epochs else _columns_of(rows, head), rows)

    def _keys(self, run: PlannedRun) -> Row:
        return dict(zip(KEYS, (self.dataset, run.seed, run.fold, run.model), strict=True))

    def _run_row(self, facts: RunFacts, profile: Mapping[str, Any]) -> Row:
        memory = {part: profile.get(f"pam_{part}_bytes") or {} for part in ("train", "inference")}
        costs = (
            facts.result.get("n_parameters"),
            profile.get("flops"),
            memory["train"].get("mean"),
            memory["inference"].get("mean"),
            (profile.get("latency_ms") or {}).get("mean"),
        )
        row = self._keys(facts.run) | dict(zip(COSTS, costs, strict=True))
        if self.room.results:
            return row | {name: facts.value(*of) for name, of in self.room.results.items()}
        row["best_epoch"] = facts.best_epoch
        best = facts.epochs.get(facts.best_epoch or -1, {})
        for part, metrics in (
            ("test", facts.test.get("metrics", {})),
            ("val", best.get("val", {})),
        ):
            row |= {f"{part}_{name}": facts.value(part, name) for name in metrics}
        return row

    def _run_columns(self, rows: Sequence[Row]) -> Sequence[str]:
        if self.room.results:
            return (*KEYS, *COSTS, *self.room.results)
        return _columns_of(rows, (*KEYS, *COSTS, "best_epoch"))

    def _epoch_rows(self, facts: RunFacts, epochs: Epochs) -> Iterable[Row]:
        for epoch, parts in sorted(epochs.items()):
            row = self._keys(facts.run) | {"epoch": epoch}
            if not self.room.epochs:
                row |= {f"{part}_{name}": v for part in parts for name, v in parts[part].items()}
                yield row
                continue
            is_best = epoch == facts.best_epoch
            for column, (part, metric) in self.room.epochs.items():
                if part == "test":
                    row[column] = facts.value(part, metric) if is_best else None
                else:
                    row[column] = parts.get(part, {}).get(metric)
            yield row

    def _stage_rows(self, profile: Mapping[str, Mapping[str, Any]]) -> Iterable[Row]:
        # Memory does not depend on the seed or the fold: the rows name the run that was measured.
        done: set[str] = set()
        for facts in self.facts:
            if facts.run.model not in done:
                done.add(facts.run.model)
                for stage in profile.get(facts.run.model, {}).get("stages") or ():
                    yield self._keys(facts.run) | {name: stage.get(name) for name in STAGE_COLUMNS}

    def _save(self, name: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        whole = [{column: row.get(column) for column in columns} for row in rows]
        durable_write(self.out / name, table_text(whole) if whole else ",".join(columns) + "\n")


def _columns_of(rows: Iterable[Row], head: Sequence[str]) -> Sequence[str]:
    return list(dict.fromkeys([*head, *(name for row in rows for name in row)]))


def model_rows(rows: Sequence[Row], measures: Sequence[str]) -> list[Row]:
    """Return mean and spread of each model's runs, one row per model and measure.

    Args:
        rows: One per run.
        measures: Columns of them.

    Returns:
        `model_name`, `measure`, `n`, `mean`, and `std` (ddof 1; None for a single run).

    >>> rows = [{"model_name": "a", "dice": 0.5}, {"model_name": "a", "dice": 0.7}]
    >>> model_rows(rows, ["dice"])[0]["mean"]
    0.6
    """
    found = []
    for model in dict.fromkeys(row["model_name"] for row in rows):
        for measure in measures:
            own = [row.get(measure) for row in rows if row["model_name"] == model]
            values = [float(value) for value in own if value is not None]
            mean = fmean(values) if values else None
            spread = stdev(values) if len(values) > 1 else None
            found.append(
                {"model_name": model, "measure": measure, "n": len(values), "mean": mean,
                 "std": spread}
            )  # fmt: skip
    return found


def two_headed(rows: Sequence[Row], measures: Sequence[str]) -> str:
    """Return rows of `model_rows` as a table of one line per model under two header lines.

    Args:
        rows: From `model_rows`.
        measures: Columns, each with mean and std.

    Returns:
        CSV that `pandas.read_csv(..., header=[0, 1], index_col=0)` reads, 4 decimals.
    """
    lines = [",".join(["model_name", *(name for name in measures for _ in range(2))])]
    lines.append(",".join(["", *("mean", "std") * len(measures)]))
    cells: dict[str, list[str]] = {}
    for row in rows:
        own = cells.setdefault(str(row["model_name"]), [])
        own += ["" if row[key] is None else f"{row[key]:.{_DIGITS}f}" for key in ("mean", "std")]
    lines += [",".join([safe_cell(model), *own]) for model, own in cells.items()]
    return "\n".join(lines) + "\n"
