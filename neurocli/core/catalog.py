"""The catalog of rooms: frozen cards that say what exists and where it is built.

Registering is data. A room's `card.py` holds rows; strings such as `"pkg.module:name"` are
resolved only when the thing is used, so that listing models imports nothing heavy. Third parties
register a room through the entry-point group `neurocli.systems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from neurocli.core.errors import NeuroError
from neurocli.core.names import lookup

_BUILT_IN = "neurocli.systems"
_GROUP = "neurocli.systems"


@dataclass(frozen=True)
class ModelCard:
    """Describe one model name of `neuro models list`.

    Args:
        name: The name people type.
        summary: One line.
        build: `"module:function"`, called as `build(config, info)`; returns an `nn.Module`.
        config: `"module:Class"` of its config block.
        tasks: Names of the room's tasks it may be trained under, the default first.
        defaults: Values of this row over the defaults of the config class.
        tags: Words for searching.
    """

    name: str
    summary: str
    build: str
    config: str
    tasks: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskCard:
    """Describe one objective: a pretext for `--pretrain`, or a supervised task type."""

    name: str
    summary: str
    kind: Literal["pretrain", "supervised"]
    task: str


@dataclass(frozen=True)
class DatasetCard:
    """Describe one kind of raw data that `neuro preprocess` reads.

    Args:
        name: The name people type.
        summary: One line: what is found and how subjects are named.
        find: `"module:function"`, called as `find(sources, options)`; returns `Found`.
        process: `"module:function"`, called as `process(item, folder, options)` in a worker.
        options: `"module:Class"` of the options block.
        needs_source: Whether SRC must be given.
    """

    name: str
    summary: str
    find: str
    process: str
    options: str
    needs_source: bool = True


@dataclass(frozen=True)
class RoomCard:
    """Describe one room: its rows and its doors.

    Args:
        name: Name of the room.
        summary: One line.
        models: Model rows.
        datasets: Dataset rows.
        tasks: Task rows.
        presets: Package that holds the room's preset files.
        data_config: `"module:Class"` of its data block.
        task_config: `"module:Class"` of its task block.
        open_data: `"module:function"`, called as `open_data(config, listener)`; returns `RunData`.
        convert: `"module:function"` behind `convert-hdf5`, or None.
        check: `"module:function"` that looks into stored files, or None; its module also offers
            `repack_runs` and `tasks_of`.
        figures: `"module:function"` that draws what only this room has, or None.
        cost: `"module:function"` that gives the closed-form cost of a clip, or None; its module
            also offers `default_info` and `count_parameters`, all without torch, and may offer
            `sample_shape` for samples that have more than one channel and `input_shape` for sizes
            that the data decide; where samples have tokens to drop, it takes `tokens_kept`.
        recognise: `"module:function"` that tells from foreign weights which model they are of, or
            None; called as `recognise(weights, told)` with the file's hyper-parameters; returns
            `Recognised` or None.
        official_names: `"module:function"` that names weights as a family's own code does, or
            None; called as `official_names(weights, config, info)`; returns `OfficialWeights`.
        outline: `"module:function"` that draws a model as rows, one per stage, without torch, or
            None; called as `outline(config, info)`; returns mappings with the same keys.
        translate: `"module:function"` that turns a configuration file of another program into
            keys of this one and returns files of ours as they are, or None; torch-free.
        strata: Columns of the phenotypes that folds are balanced by, where a table has them.
        parts_in_time: Whether parts are stretches of a recording, so that no split file divides.
        results: Column of an experiment's table of runs -> (part, metric); empty names them all
            after part and metric. Part `run` holds `best_epoch`.
        epochs: The same for its table of epochs; `test` is told of the best epoch alone.
        compared: Columns of `results` that the table of models holds; empty takes all.
    """

    name: str
    summary: str
    models: tuple[ModelCard, ...]
    datasets: tuple[DatasetCard, ...]
    tasks: tuple[TaskCard, ...]
    presets: str
    data_config: str
    task_config: str
    open_data: str
    convert: str | None = None
    check: str | None = None
    figures: str | None = None
    cost: str | None = None
    recognise: str | None = None
    official_names: str | None = None
    outline: str | None = None
    translate: str | None = None
    strata: tuple[str, ...] = ()
    parts_in_time: bool = False
    results: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    epochs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    compared: tuple[str, ...] = ()


def resolve(reference: str) -> Any:
    """Import what a `"module:name"` string of a card points at.

    Args:
        reference: From a card or an entry point, never from data.

    Raises:
        NeuroError: The module or the name does not exist.
    """
    module_name, _, attribute = reference.partition(":")
    try:
        return getattr(import_module(module_name), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise NeuroError(f"cannot resolve '{reference}': {error}", where="catalog") from error


@cache
def rooms() -> Mapping[str, RoomCard]:
    """Return all rooms by name: the built-in ones, then registered third parties."""
    references = [*import_module(_BUILT_IN).ROOMS]
    references += [point.value for point in entry_points(group=_GROUP)]
    cards: list[RoomCard] = [resolve(reference) for reference in references]
    return {card.name: card for card in cards}


@cache
def models() -> Mapping[str, tuple[RoomCard, ModelCard]]:
    """Return every model with its room, by model name."""
    return {model.name: (room, model) for room in rooms().values() for model in room.models}


@cache
def datasets() -> Mapping[str, tuple[RoomCard, DatasetCard]]:
    """Return every dataset row with its room, by dataset name."""
    return {row.name: (room, row) for room in rooms().values() for row in room.datasets}


def find_model(name: str) -> tuple[RoomCard, ModelCard]:
    """Return the room and the card of a model.

    Raises:
        UsageError: No such name.
    """
    return lookup("model", name, models(), hint="see `neuro models list`")


def find_dataset(name: str) -> tuple[RoomCard, DatasetCard]:
    """Return the room and the card of a dataset.

    Raises:
        UsageError: No such name.
    """
    return lookup("dataset", name, datasets(), hint="see `neuro preprocess --help`")


def find_task(room: RoomCard, name: str, *, kind: str | None = None) -> TaskCard:
    """Return a task card of a room.

    Args:
        room: The room.
        name: Name of the task.
        kind: "pretrain" or "supervised" to narrow the choices; None for all.

    Raises:
        UsageError: No such task.
    """
    known = {task.name: task for task in room.tasks if kind in (None, task.kind)}
    return lookup("objective", name, known)
