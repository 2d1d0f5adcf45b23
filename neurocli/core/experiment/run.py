"""One command, many runs: train each, judge it on its test part, and keep the tables in step.

A run is an ordinary run folder inside the experiment's, so that everything that takes a run takes
one of these. The same command over the same folder goes on where it was: ended runs are left
alone, the one that was interrupted resumes, and one that fails does not stop the others.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from neurocli.core.cohort.files import Split, write_split
from neurocli.core.engine.evaluate import evaluate
from neurocli.core.engine.run_folder import read_result
from neurocli.core.engine.train import TrainOptions, train
from neurocli.core.errors import NeuroError, StoppedError, UsageError
from neurocli.core.events import (
    CheckpointSaved,
    EvalDone,
    Event,
    Listener,
    Note,
    ignore,
)
from neurocli.core.experiment.claim import Experiment, claim, open_experiment
from neurocli.core.experiment.contest import (
    Judged,
    comparison_values,
    contests_of,
    write_comparison,
)
from neurocli.core.experiment.costs import measure_model
from neurocli.core.experiment.plan import PlannedRun
from neurocli.core.experiment.records import TEST_FOLDER, RunFacts
from neurocli.core.experiment.tables import Tables
from neurocli.core.paths import folder_lock

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExperimentResult:
    """Hold the outcome of an experiment.

    Args:
        out: Its folder.
        runs: One mapping per planned run: name, model, seed, fold, status (done, skipped, failed or
            planned), run, checkpoint, best, and metrics of its test part.
        comparison: Metric -> how the models compare; empty for one model.
        seconds: Wall time of this call.
        built_in_data: Whether the built-in cohort stood in for the user's data.
        left_out: (run, reason) of what failed.
        notes: Sentences the user should read.
        plan: What would be done, when nothing was done.
    """

    out: Path
    runs: list[dict[str, Any]]
    comparison: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    built_in_data: bool = False
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: Mapping[str, Any] | None = None


def run_experiment(*models: str, **options: Unpack[TrainOptions]) -> ExperimentResult:
    """Train several models, seeds or folds one after another into one folder.

    Args:
        *models: Model names or patterns; absent with `resume`.
        **options: The flags of `neuro train`. `seeds` repeats each model, `folds` cross-validates,
            `out` is the experiment's folder, `resume` goes on with one.

    Returns:
        Every run, what failed, and how the models compare.

    Raises:
        UsageError: Options, names, folds or configuration do not fit together.
        NeuroError: The data cannot be used, or no run came to its end.
        StoppedError: A signal stopped a run after its state was saved.
    """
    began, listener = time.monotonic(), options.get("listener") or ignore
    _check_alone()
    experiment = open_experiment(models, options)
    for note in experiment.notes:
        listener(Note(note))
    if options.get("dry_run"):
        return _planned(experiment)
    with folder_lock(experiment.out):
        claim(experiment, force=bool(options.get("force")))
        for name, parts in experiment.divisions.items():
            write_split(
                experiment.out / name, Split({key: list(ids) for key, ids in parts.items()})
            )
        work = _Work(experiment, listener, force=bool(options.get("force")))
        work.do_all()
    if not any(row["status"] in ("done", "skipped") for row in work.rows):
        name, reason = work.left_out[0]
        raise NeuroError(
            f"none of {len(work.rows)} runs came to its end; {name}: {reason}",
            where=str(experiment.out),
        )
    return ExperimentResult(
        out=experiment.out,
        runs=work.rows,
        comparison=work.comparison,
        seconds=time.monotonic() - began,
        built_in_data=experiment.config.data.path is None,
        left_out=work.left_out,
        notes=[*experiment.notes, *work.notes],
    )


def _check_alone() -> None:
    world = os.environ.get("WORLD_SIZE", "1")
    if world != "1":
        raise UsageError(
            f"{world} processes were launched, and an experiment is led by one",
            where="WORLD_SIZE",
            hint="start it without torchrun, or train each run by itself under torchrun",
        )


def _planned(experiment: Experiment) -> ExperimentResult:
    """Return the runs and what they would cost, each model opened once."""
    costs: dict[str, Any] = {}
    notes = list(experiment.notes)
    for model in dict.fromkeys(run.model for run in experiment.runs):
        first = next(run for run in experiment.runs if run.model == model)
        # Split files are not written yet: all divisions cost about the same.
        made = train(model, **experiment.options_of(first, dry_run=True, split_exists=False))
        plan = made.plan or {}
        costs[model] = {key: plan.get(key) for key in ("n_parameters", "cost")}
        notes += made.notes
    runs = [_row(run, experiment, "planned") for run in experiment.runs]
    flops = [costs[run.model]["cost"].get("flops_at_most") for run in experiment.runs]
    plan = {
        "would_write": str(experiment.out),
        "runs": [run.name for run in experiment.runs],
        "models": costs,
        "flops_at_most": None if None in flops else sum(flops),
        "parts": {
            name: {part: len(ids) for part, ids in parts.items()}
            for name, parts in experiment.divisions.items()
        },
    }
    return ExperimentResult(experiment.out, runs, notes=list(dict.fromkeys(notes)), plan=plan)


def _row(run: PlannedRun, experiment: Experiment, status: str) -> dict[str, Any]:
    folder = experiment.out / run.name
    return {
        "name": run.name, "model": run.model, "seed": run.seed, "fold": run.fold,
        "status": status, "run": str(folder),
    }  # fmt: skip


class _Work:
    """Do the runs of an experiment in order and remember what came of each."""

    def __init__(self, experiment: Experiment, listener: Listener, *, force: bool) -> None:
        self._experiment, self._tell, self._force = experiment, listener, force
        self.rows: list[dict[str, Any]] = []
        self.left_out: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.comparison: Mapping[str, Any] = {}
        self._tables = Tables(experiment.out, experiment.runs, experiment.room, experiment.dataset)

    def do_all(self) -> None:
        """Train and judge every run, then compare the models.

        Raises:
            StoppedError: A signal stopped a run.
        """
        runs = self._experiment.runs
        for number, run in enumerate(runs, start=1):
            self._tell(Note(f"run {number} of {len(runs)}: {run.name}"))
            try:
                status = self._do(run)
            except StoppedError as error:
                # What is resumed is the experiment: its other runs are yet to come.
                hint = f"neuro train --resume {shlex.quote(str(self._experiment.out))}"
                raise StoppedError(error.message, hint=hint, code=error.code) from error
            except NeuroError as error:
                self._fail(run, str(error).splitlines()[0])
                continue
            # A model that breaks in a way nobody foresaw must not cost the runs of the others.
            except Exception as error:
                _log.debug("run %s failed", run.name, exc_info=True)
                self._fail(run, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
                continue
            self._keep(run, status)
        self._compare()

    def _do(self, run: PlannedRun) -> str:
        folder = self._experiment.out / run.name
        ended = read_result(folder) is not None and not self._force
        if not ended:
            options = self._experiment.options_of(
                run, force=self._force, listener=self._listener(run)
            )
            made = train(run.model, **options)
            for name, reason in made.left_out:
                self.notes.append(f"{name}: {reason}")
        best = self._best(folder)
        judged = folder / TEST_FOLDER / "metrics.json"
        if not judged.is_file():
            self._judge(run, best)
        _link(best, self._experiment.out / f"{run.name}_best.pth")
        self._tables.take(run)
        note = measure_model(self._experiment.out, run.model, best)
        if note is not None:
            self.notes.append(note)
        self._tables.write()
        return "skipped" if ended else "done"

    def _best(self, folder: Path) -> Path:
        result = read_result(folder) or {}
        return folder / "checkpoints" / Path(result["checkpoint"]).name

    def _judge(self, run: PlannedRun, best: Path) -> None:
        parts = self._experiment.parts_of(run)
        if parts is not None and not parts.get("test"):
            self.notes.append(f"{run.name}: nobody is in its test part, so it is not judged")
            return
        evaluate(best, part="test", listener=self._tell)

    def _listener(self, run: PlannedRun) -> Listener:
        """Return a listener that also writes each epoch's row as soon as its files hold it."""
        judged = False

        def listen(event: Event) -> None:
            nonlocal judged
            self._tell(event)
            judged |= isinstance(event, EvalDone)
            if judged and isinstance(event, CheckpointSaved) and not event.is_best:
                judged = False
                self._tables.write_epochs(run)

        return listen

    def _keep(self, run: PlannedRun, status: str) -> None:
        facts = self._tables.facts_of(run)
        row = _row(run, self._experiment, status)
        folder = self._experiment.out / run.name
        row |= {
            "checkpoint": str(self._best(folder)),
            "best": facts.result.get("best"),
            "metrics": facts.test.get("metrics", {}),
        }
        self.rows.append(row)

    def _fail(self, run: PlannedRun, reason: str) -> None:
        self._tell(Note(f"{run.name} failed: {reason}", "warning"))
        self.left_out.append((run.name, reason))
        self.rows.append({**_row(run, self._experiment, "failed"), "reason": reason})

    def _compare(self) -> None:
        judged = [_judged(facts) for facts in self._tables.facts if facts.per_case]
        try:
            contests = contests_of(judged) if judged else []
        except NeuroError as error:
            self.notes.append(f"the models are not compared: {error.message}")
            contests = []
        write_comparison(self._experiment.out, contests)
        self.comparison = comparison_values(contests)


def _judged(facts: RunFacts) -> Judged:
    return Judged(facts.run.model, facts.test.get("metrics", {}), facts.per_case)


def _link(best: Path, name: Path) -> None:
    """Give the best checkpoint its name beside the tables, without a second copy of its bytes."""
    draft = name.with_name(f"{name.name}.part-{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        os.link(best, draft)
    except OSError:  # a file system without hard links
        draft.symlink_to(os.path.relpath(best, name.parent))
    draft.replace(name)
