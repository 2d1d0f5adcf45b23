"""Starting a run from weights: what they fix of the configuration, and what of them is taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from neurocli.core.config.flags import JOIN_KEY
from neurocli.core.config.nodes import Leaf
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.rebuild import recognise
from neurocli.core.engine.task import RunData, Task
from neurocli.core.engine.weights import Recognised, find_weights, read_weights


def weights_layer(path: Path, config: RunConfig) -> tuple[dict[str, Leaf], list[str]]:
    """Return the keys of the model block that weights fix.

    Shapes give sizes; what no shape tells comes from the file's own configuration where it has
    one. The user need not repeat either.

    Args:
        path: A checkpoint, a file of weights, or a folder that holds one.
        config: The configuration without them; only keys that its model takes are fixed.

    Returns:
        Dotted key -> value with the file as its origin, and sentences the user should read.

    Raises:
        InputError: The file cannot be read.
        NeuroError: It is of no model here.
    """
    file, told = find_weights(path)
    weights, head = read_weights(file)
    match = recognise(file, weights, head)
    own: Mapping[str, Any] = head.get("config", {}).get("model", {})
    values = {**match.sizes, **{key: own[key] for key in match.untold if key in own}}
    label = f"weights {file.name}"
    layer = {
        f"model.{key}": Leaf(list(value) if isinstance(value, tuple) else value, label)
        for key, value in values.items()
        if key in type(config.model).model_fields
    }
    changed = [
        f"{name} {leaf.value}"
        for key, leaf in layer.items()
        if _plain(getattr(config.model, name := key.removeprefix("model."))) != leaf.value
    ]
    notes = [] if told is None else [told]
    notes += [f"--init-from {file.name}: {note}" for note in match.notes if not own]
    if changed:
        notes.append(f"--init-from {file.name} fixes the model: {', '.join(changed)}")
    return layer, notes


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def start_from(config: RunConfig, task: Task, model: nn.Module, data: RunData) -> list[str]:
    """Start a model from the weights of `train.init_from`, if any.

    Args:
        config: The run's configuration.
        task: Takes what it can use.
        model: The untrained model, changed in place.
        data: The run's data, to notice people that the weights have seen.

    Returns:
        What was loaded, and what else the user should read.

    Raises:
        InputError: The file cannot be read.
        NeuroError: The weights do not fit.
    """
    if config.train.init_from is None:
        return []
    path, _ = find_weights(Path(config.train.init_from))
    weights, head = read_weights(path)
    if "config" not in head:
        match: Recognised = recognise(path, weights, head)
        weights = dict(match.weights)
    notes = [f"--init-from {path.name}: {task.init_from(model, weights)}"]
    seen = set(head.get("split", {}).get("train", ()))
    shared = seen & set(data.split.get("test", ()))
    if shared:
        notes.append(
            f"{len(shared)} of {len(data.split['test'])} test participants were in the training "
            "part of the run these weights come from; use one --split for both"
        )
    if seen and bool(head.get("info", {}).get("datasets")) != bool(data.info.get("datasets")):
        notes.append(
            "only one of this run and that of the weights joins datasets, so ids differ and people "
            f"that both saw are not recognised; name the one dataset with -s '{JOIN_KEY}="
            "[{path: DIR, name: NAME}]'"
        )
    before, now = head.get("info", {}).get("scaling"), data.info.get("scaling")
    if before and before != now:
        notes.append(f"the weights were trained on {before} values, this run reads {now}")
    return notes
