"""Keeping the tables of an experiment in step with its runs; `columns` says what they hold.

Every table is written whole from what the run folders hold, each time a row comes to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocli.core.catalog import RoomCard
from neurocli.core.experiment.columns import (
    CASES_TABLE,
    COSTS,
    EPOCHS_TABLE,
    KEYS,
    MODELS_TABLE,
    MODELS_TIDY,
    RUNS_TABLE,
    STAGE_COLUMNS,
    STAGES_TABLE,
    TIDY_COLUMNS,
    Row,
    columns_of,
    epoch_columns,
    epoch_rows,
    mean_columns,
    model_rows,
    run_columns,
    run_row,
    stage_rows,
    table_text,
    two_headed,
)
from neurocli.core.experiment.plan import PlannedRun
from neurocli.core.experiment.records import RunFacts, read_epochs, read_facts, read_profile
from neurocli.core.paths import durable_write


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
        profile, rooms = read_profile(self.out), (self.room,)
        rows = [
            run_row(
                self._keys(facts.run), _costs(facts, profile.get(facts.run.model, {})), facts,
                self.room,
            )
            for facts in self.facts
        ]  # fmt: skip
        self._save(RUNS_TABLE, run_columns(rows, rooms), rows)
        self.write_epochs()
        measures = mean_columns(rows, rooms)
        tidy = model_rows(rows, measures)
        durable_write(self.out / MODELS_TABLE, two_headed(tidy, measures))
        self._save(MODELS_TIDY, TIDY_COLUMNS, tidy)
        stages = stage_rows(
            (self._keys(run), profile.get(run.model, {}).get("stages") or ())
            for run in (facts.run for facts in self.facts)
        )
        self._save(STAGES_TABLE, STAGE_COLUMNS, stages)
        cases = [
            {**self._keys(facts.run), **case} for facts in self.facts for case in facts.per_case
        ]
        self._save(CASES_TABLE, columns_of(cases, KEYS), cases)

    def write_epochs(self, running: PlannedRun | None = None) -> None:
        """Write the table of epochs, with those of a run that is being trained.

        Args:
            running: That run.

        Raises:
            NeuroError: It cannot be written.
        """
        known = self.facts
        if running is not None:
            known.append(RunFacts(running, epochs=read_epochs(self.out / running.name)))
        rows = [row for each in known for row in epoch_rows(self._keys(each.run), each, self.room)]
        self._save(EPOCHS_TABLE, epoch_columns(rows, (self.room,)), rows)

    def _keys(self, run: PlannedRun) -> Row:
        return dict(zip(KEYS, (self.dataset, run.seed, run.fold, run.model), strict=True))

    def _save(self, name: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        durable_write(self.out / name, table_text(columns, rows))


def _costs(facts: RunFacts, profile: Mapping[str, Any]) -> Row:
    memory = {part: profile.get(f"pam_{part}_bytes") or {} for part in ("train", "inference")}
    found = (
        facts.result.get("n_parameters"),
        profile.get("flops"),
        memory["train"].get("mean"),
        memory["inference"].get("mean"),
        (profile.get("latency_ms") or {}).get("mean"),
    )
    return dict(zip(COSTS, found, strict=True))
