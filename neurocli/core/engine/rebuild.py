"""From a name or a checkpoint file to a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neurocli.core.catalog import find_model, resolve, rooms
from neurocli.core.config.load import check_layers, config_from_plain
from neurocli.core.config.nodes import Leaf
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.weights import Recognised, find_weights, load_weights, read_weights
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.names import choices_text

_log = logging.getLogger(__name__)


def load_model(name_or_checkpoint: str | Path, **config: Any) -> nn.Module:
    """Build a model by name, or rebuild a trained one from its checkpoint.

    Args:
        name_or_checkpoint: A name of `neuro models list`, or a checkpoint file.
        **config: For a name: keys of the model's config block (`embed_dim=64`) and of what its
            builder must know of the data (`img_size=(96, 96, 96, 20)`, `n_outputs=2`). For a file
            of another program, such as an official Lightning checkpoint: what its shapes do not
            tell; all else is read off them.

    Returns:
        The model in evaluation mode, with its weights when a checkpoint was named.

    Raises:
        UsageError: Unknown model or config key, keys beside a checkpoint of ours, or keys missing
            beside a foreign one.
        InputError: The checkpoint cannot be read.
        NeuroError: The weights do not fit the model that the checkpoint names.
    """
    path = Path(name_or_checkpoint)
    if not path.suffix and not path.exists():
        return _by_name(str(name_or_checkpoint), config)
    path, _ = find_weights(path)
    foreign, head = read_weights(path)
    if "config" not in head:
        return _recognised(path, foreign, head, config)
    if config:
        raise UsageError(
            f"a checkpoint fixes its model, so {choices_text(config)} cannot change it",
            where=str(path),
        )
    payload = load_checkpoint(path)
    checked = config_from_plain(payload["config"], str(path))
    model = build_model(checked, payload["info"])
    load_weights(model, payload["state_dict"], label=str(path))
    return model.eval()


def recognise(
    path: Path, weights: Mapping[str, torch.Tensor], head: Mapping[str, Any]
) -> Recognised:
    """Tell which model here foreign weights are of.

    Args:
        path: Their file, for the error.
        weights: As `read_weights` gives them.
        head: What else it gave.

    Raises:
        NeuroError: They are of none.
    """
    told = head.get("hyper_parameters", {})
    for room in rooms().values():
        match: Recognised | None = (
            resolve(room.recognise)(weights, told) if room.recognise is not None else None
        )
        if match is not None:
            return match
    raise NeuroError(
        f"these are weights of no model here; their names begin with {next(iter(weights))}",
        where=str(path),
        hint="see `neuro models list` for the models whose checkpoints are read",
    )


def _recognised(
    path: Path,
    weights: Mapping[str, torch.Tensor],
    head: Mapping[str, Any],
    given: Mapping[str, Any],
) -> nn.Module:
    match = recognise(path, weights, head)
    missing = {key: text for key, text in match.missing.items() if key not in given}
    if missing:
        told = "; ".join(f"{key}: {text}" for key, text in missing.items())
        raise UsageError(
            f"an {match.model} whose shapes do not tell {choices_text(missing)} ({told})",
            where=str(path),
            hint=f"give load_model(FILE, {', '.join(f'{key}=...' for key in missing)})",
        )
    model = _by_name(match.model, {**match.sizes, **given})
    report = load_weights(model, match.weights, label=str(path))
    for note in match.notes:
        _log.info("%s: %s", path.name, note)
    _log.info("%s: %d tensors loaded, 0 missing, 0 unexpected", path.name, len(report.loaded))
    return model


def _by_name(name: str, values: Mapping[str, Any]) -> nn.Module:
    _, card = find_model(name)
    known = resolve(card.config).model_fields
    layer = {f"model.{key}": Leaf(value, key) for key, value in values.items() if key in known}
    checked = check_layers([layer, {"model.name": Leaf(card.name, "MODEL")}]).config
    info = {key: value for key, value in values.items() if key not in known}
    return build_model(checked, info).eval()


def build_model(config: RunConfig, info: Mapping[str, Any]) -> nn.Module:
    """Build the untrained model of a configuration.

    Args:
        config: The run's configuration.
        info: What the data tell (`RunData.info`).
    """
    _, card = find_model(config.model.name)
    model: nn.Module = resolve(card.build)(config, info)
    return model
