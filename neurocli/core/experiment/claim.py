"""What an experiment is, told by options or by its folder: runs, divisions, whose folder it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from neurocli.core.catalog import RoomCard, resolve
from neurocli.core.cohort.files import read_split
from neurocli.core.config.run import RunConfig
from neurocli.core.data.documents import read_json
from neurocli.core.data.output import describe
from neurocli.core.engine.task import RunData
from neurocli.core.engine.train import TrainOptions, resolve_options
from neurocli.core.errors import UsageError
from neurocli.core.events import Listener, ignore
from neurocli.core.experiment.plan import (
    RECORD,
    Parts,
    PlannedRun,
    check_folds,
    chosen_models,
    divisions,
    planned_runs,
)
from neurocli.core.paths import LOCK_NAME, clear_leftovers, durable_json, runs_dir

SCHEMA = "neuro/experiment/1"
# What says which runs there are, or how this call goes about it, is no option of a single run.
_OF_THE_WHOLE = ("seeds", "folds", "out", "resume", "force", "dry_run", "listener", "seed")


@dataclass(frozen=True)
class Experiment:
    """Hold everything that is settled before the first run.

    Args:
        out: Its folder.
        room: Room of its models.
        runs: All runs, in order.
        options: Options of `train` that all runs share, as plain values.
        config: Configuration of the first model.
        divisions: Name of a split file -> who is in which part; empty where a file of the user, or
            the recordings themselves, say it.
        dataset: What the data are called.
        record: What `experiment.json` holds.
        notes: Sentences the user should read.
    """

    out: Path
    room: RoomCard
    runs: Sequence[PlannedRun]
    options: Mapping[str, Any]
    config: RunConfig
    divisions: Mapping[str, Parts]
    dataset: str
    record: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    def options_of(
        self, run: PlannedRun, *, split_exists: bool = True, **more: Any
    ) -> TrainOptions:
        """Return the options of one run.

        Args:
            run: Which one.
            split_exists: Whether the split files of the experiment are written.
            **more: Options of this call.
        """
        own: dict[str, Any] = {**self.options, "seed": run.seed, "out": self.out / run.name}
        if run.division in self.divisions:
            own["split"] = self.out / run.division if split_exists else None
        return cast(TrainOptions, {**own, **more})

    def parts_of(self, run: PlannedRun) -> Parts | None:
        """Return who is in which part of a run; None where the experiment does not say it."""
        return self.divisions.get(run.division)


def open_experiment(models: Sequence[str], options: TrainOptions) -> Experiment:
    """Return the experiment that options or a folder to resume describe.

    Args:
        models: Names and patterns.
        options: Of `run_experiment`.

    Raises:
        UsageError: They do not fit together.
        InputError: The folder to resume, or the split, cannot be read.
        NeuroError: The data cannot be used.
    """
    resume = options.get("resume")
    if resume is not None:
        return _reopened(Path(str(resume)), models, options)
    room, names = chosen_models(models)
    shared = _plain_options(options)
    config = _first_config(names[0], shared, options.get("seed"))
    seeds = [int(seed) for seed in options.get("seeds") or (config.run.seed,)]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"a seed is named twice: {seeds}", where="--seeds")
    record = {
        "schema": SCHEMA,
        "room": room.name,
        "models": names,
        "seeds": seeds,
        "folds": options.get("folds"),
        "seed": options.get("seed"),
        "options": shared,
    }
    given = options.get("out")
    out = Path(str(given)) if given else _new_folder()
    return _opened(out, record, config, options.get("listener") or ignore)


def _opened(
    out: Path, record: Mapping[str, Any], config: RunConfig, listener: Listener
) -> Experiment:
    room, names = chosen_models(record["models"])
    for name in names[1:]:
        # A wrong key must not be found out after hours of the first model.
        _first_config(name, record["options"], record["seed"])
    runs = planned_runs(names, record["seeds"], record["folds"])
    made, notes = _divisions(out, record, config, runs, listener)
    folder = config.data.path
    name = "built-in" if folder is None else str(
        describe(Path(folder)).get("dataset") or Path(folder).name
    )  # fmt: skip
    return Experiment(out, room, runs, record["options"], config, made, name, record, notes)


def _divisions(
    out: Path,
    record: Mapping[str, Any],
    config: RunConfig,
    runs: Sequence[PlannedRun],
    listener: Listener,
) -> tuple[dict[str, Parts], list[str]]:
    """Return the split files of an experiment, as they are where they are written already."""
    n_folds, (room, _) = record["folds"], chosen_models(record["models"])
    split = check_folds(config, room, n_folds)
    if room.parts_in_time or (split is not None and n_folds is None):
        return {}, []
    files = list(dict.fromkeys(run.division for run in runs))
    if _is_known(out, record) and all((out / name).is_file() for name in files):
        # Data that grew meanwhile must not move people between the folds of ended runs.
        return {name: read_split(out / name).parts for name in files}, []
    people: list[str] = []
    given: Parts = {}
    if split is None:
        data: RunData = resolve(room.open_data)(config, listener)
        given = {part: ids for part, ids in data.split.items() if part != "rest"}
        people = [name for own in data.split.values() for name in own]
    found, notes = divisions(split, people, given, config, room=room, n_folds=n_folds)
    return dict(zip(files, found, strict=True)), notes


def _is_known(out: Path, record: Mapping[str, Any]) -> bool:
    path = out / RECORD
    return path.is_file() and read_json(path) == json.loads(json.dumps(record))


def _reopened(out: Path, models: Sequence[str], options: TrainOptions) -> Experiment:
    record = read_json(out / RECORD)
    if record.get("schema") != SCHEMA:
        raise UsageError(f"its schema is {record.get('schema')!r}, not '{SCHEMA}'", where=str(out))
    extra = [name for name, value in options.items() if value and name not in (
        "resume", "listener", "dry_run"
    )]  # fmt: skip
    if extra or (models and list(models) != record["models"]):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in extra) or " ".join(models)
        raise UsageError(
            f"--resume goes on with an experiment as it is, so {named} cannot change it",
            where="--resume",
            hint="drop these, or start a new experiment",
        )
    config = _first_config(record["models"][0], record["options"], record["seed"])
    return _opened(out, record, config, options.get("listener") or ignore)


def _first_config(model: str, shared: Mapping[str, Any], seed: Any) -> RunConfig:
    options = cast(TrainOptions, {**shared, "seed": seed})
    return resolve_options((model,), options)[0].config


def _plain_options(options: TrainOptions) -> dict[str, Any]:
    """Return what all runs share, as JSON holds it; options that were not given are absent."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name in _OF_THE_WHOLE or value is None or value == ():
            continue
        if isinstance(value, os.PathLike):
            found[name] = os.fspath(value)
        else:
            found[name] = list(value) if isinstance(value, (list, tuple)) else value
    return found


def _new_folder() -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
    return runs_dir() / f"integrated_experiment_results_{stamp}"


def claim(experiment: Experiment, *, force: bool) -> None:
    """Take a folder for an experiment: a fresh one, or one that holds this very experiment.

    Args:
        experiment: The experiment.
        force: Train again what another, or this one, left there.

    Raises:
        UsageError: The folder holds something else.
    """
    out, path = experiment.out, experiment.out / RECORD
    clear_leftovers(out)
    strangers = [entry.name for entry in out.iterdir() if entry.name != LOCK_NAME]
    if strangers and not force:
        if not path.is_file():
            raise UsageError(
                f"the output folder is not empty (it holds {sorted(strangers)[0]})",
                where=str(out),
                hint="choose another --out",
            )
        known = read_json(path)
        wanted = json.loads(json.dumps(experiment.record))
        if known != wanted:
            key = next(key for key in {**known, **wanted} if known.get(key) != wanted.get(key))
            raise UsageError(
                f"the folder holds another experiment: {key} is {known.get(key)} there and "
                f"{wanted.get(key)} here",
                where=str(out),
                hint="choose another --out, or --force to train its runs again",
            )
        return
    durable_json(path, experiment.record)
