"""Which runs an experiment holds, and who is in which part of each.

Runs are all models of one seed and fold before the next seed or fold, so that a comparison that is
stopped early has seen every model equally often. All runs share one division of people (or one set
of folds), whatever their seeds: a difference between seeds is one of training alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurocli.core.catalog import RoomCard, find_model, models
from neurocli.core.cohort.divide import divide
from neurocli.core.cohort.files import Split, read_split
from neurocli.core.cohort.options import SplitOptions
from neurocli.core.cohort.people import family_columns
from neurocli.core.config.run import RunConfig
from neurocli.core.data.output import ID_COLUMN, PEOPLE_FILE
from neurocli.core.data.tables import Table, read_table
from neurocli.core.errors import UsageError
from neurocli.core.names import matching

RECORD = "experiment.json"
_WILD = "*?["
Parts = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class PlannedRun:
    """Name one run: its model, its seed, and its fold from 0; None without folds."""

    model: str
    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """Return the name of its folder.

        >>> PlannedRun("unet3d_xs", 24, 0).name
        'unet3d_xs_seed_24_fold_0'
        """
        fold = "" if self.fold is None else f"_fold_{self.fold}"
        return f"{self.model}_seed_{self.seed}{fold}"

    @property
    def division(self) -> str:
        """Return the name of the split file it is trained on."""
        return "split.json" if self.fold is None else f"fold_{self.fold}.json"


def is_experiment(
    names: Sequence[str],
    seeds: Sequence[int] | None,
    folds: int | None,
    resume: str | Path | None = None,
) -> bool:
    """Return whether a command line of `train` asks for several runs.

    Args:
        names: Models or patterns.
        seeds: Of `--seeds`.
        folds: Of `--folds`.
        resume: The folder to go on with.
    """
    if resume is not None:
        return (Path(resume) / RECORD).is_file()
    is_wild = any(sign in name for name in names for sign in _WILD)
    return len(names) > 1 or is_wild or bool(seeds) or folds is not None


def chosen_models(names: Iterable[str]) -> tuple[RoomCard, list[str]]:
    """Return the models that names and patterns mean, each once, and their room.

    Raises:
        UsageError: A name is unknown, a pattern fits none, or they are of several rooms.
    """
    found: list[str] = []
    for name in names:
        is_wild = any(sign in name for sign in _WILD)
        fitting = matching(name, models()) if is_wild else [find_model(name)[1].name]
        if not fitting:
            raise UsageError(f"no model fits '{name}'", hint="see `neuro models list`")
        found += fitting
    if not found:
        raise UsageError("no MODEL was named", hint="see `neuro models list`")
    rooms = {find_model(name)[0].name: find_model(name)[0] for name in found}
    if len(rooms) > 1:
        raise UsageError(
            f"models of several rooms ({', '.join(sorted(rooms))}) have no data in common",
            where=" ".join(names),
            hint="train one experiment for each room",
        )
    return next(iter(rooms.values())), list(dict.fromkeys(found))


def planned_runs(
    names: Sequence[str], seeds: Sequence[int], n_folds: int | None
) -> list[PlannedRun]:
    """Return the runs in the order in which they are trained.

    >>> [run.name for run in planned_runs(["a", "b"], [1, 2], None)]
    ['a_seed_1', 'b_seed_1', 'a_seed_2', 'b_seed_2']
    """
    folds: Sequence[int | None] = [None] if n_folds is None else range(n_folds)
    return [PlannedRun(name, seed, fold) for seed in seeds for fold in folds for name in names]


def check_folds(config: RunConfig, room: RoomCard, n_folds: int | None) -> Split | None:
    """Return the split file of a run where it is to be used, after checking that it fits.

    Args:
        config: Configuration of the first model.
        room: Its room.
        n_folds: Folds that were asked for.

    Returns:
        The split; None where people are yet to be divided, or parts are stretches of time.

    Raises:
        UsageError: Folds do not go with the room or with the file.
        InputError: The file cannot be read.
    """
    if room.parts_in_time:
        if n_folds is not None:
            raise UsageError(
                f"recordings of the {room.name} room are divided in time, not by people",
                where="--folds",
                hint="leave it out; --seeds repeats a run on the same parts",
            )
        return None
    if n_folds is not None and n_folds < 2:
        raise UsageError(f"{n_folds} folds divide nobody", where="--folds", hint="2 or more")
    if config.data.split is None:
        return None
    split = read_split(config.data.split)
    if n_folds is not None and len(split.folds) != n_folds:
        held = f"{len(split.folds)} folds" if split.folds else "one division and no folds"
        raise UsageError(
            f"the split holds {held}, {n_folds} were asked for",
            where=str(config.data.split),
            hint=f"make one with `neuro split --folds {n_folds}`, or leave --split out",
        )
    return split


def divisions(
    split: Split | None,
    people: Sequence[str],
    given: Parts,
    config: RunConfig,
    *,
    room: RoomCard,
    n_folds: int | None,
) -> tuple[list[Parts], list[str]]:
    """Return who is in which part, one division for each fold.

    Args:
        split: A split file whose folds or parts are taken as they are.
        people: Participants of the opened data.
        given: Its own parts.
        config: Configuration of the first model; its seed orders people.
        room: Tells what folds are balanced by.
        n_folds: Number of folds; None keeps one division.

    Returns:
        The divisions, and sentences the user should read.

    Raises:
        UsageError: There are too few people for the folds.
    """
    if n_folds is None:
        return [split.parts if split is not None else given], []
    if split is not None:
        return list(split.folds), [f"{n_folds} folds of {config.data.split}"]
    table = _phenotypes(config, people)
    wanted = [*room.strata, getattr(config.task, "target", None)]
    strata = tuple(
        name for name in wanted if name in table.columns and len({*table.columns[name]}) > 1
    )
    families = tuple(family_columns(table))
    options = SplitOptions(folds=n_folds, seed=config.run.seed, stratify=strata, group=families)
    made = divide(table, options)
    text = f"{n_folds} folds of {len(people)} people, made with seed {config.run.seed}"
    text += f", balanced by {', '.join(strata)}" if strata else ""
    text += f", {', '.join(families)} kept together" if families else ""
    held = "one fold is the test part, the next the validation part" if n_folds > 2 else (
        "one fold is the test part, and there is no validation part"
    )  # fmt: skip
    return list(made.split.folds), [f"{text}; {held}"]


def _phenotypes(config: RunConfig, people: Sequence[str]) -> Table:
    """Return what is known of people, in the order of their ids; they need not be in a table."""
    ids, data = sorted(people), config.data
    folder = Path(data.path) if data.path is not None else None
    path = Path(data.table) if data.table else folder and folder / PEOPLE_FILE
    if path is None or not path.is_file():
        return Table(ids, ID_COLUMN, {}, path or Path("built-in"))
    table = read_table(path)
    rows = {name: row for row, name in enumerate(table.ids)}
    columns: dict[str, Any] = {
        name: [cells[rows[who]] if who in rows else None for who in ids]
        for name, cells in table.columns.items()
    }
    return Table(ids, table.id_column, columns, path)
