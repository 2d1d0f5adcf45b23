"""Read `allen_config.yaml`: a configuration with the keys of the described system.

Its blocks are dataset, model, dataloader, training, output, seed and deterministic. Every key is
translated to one of this program or is known to have no counterpart; an unknown one is refused,
and two keys that mean one thing must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neurocli.core.config.nodes import Leaf
from neurocli.core.errors import ConfigError
from neurocli.core.names import nearest

Layer = Mapping[str, Leaf]
_BLOCKS = ("dataset.", "dataloader.", "training.", "output.")
_ENCODERS = {f"{name}-model": name for name in ("offset1", "offset5", "offset10", "offset36")}
_MODES = {
    "separate": "separate",
    "pad": "pad",
    "first_only": "first-only",
    "first-only": "first-only",
}


def _encoder(value: Any) -> Any:
    return _ENCODERS.get(str(value), value)


def _device(value: Any) -> Any:
    return "auto" if value in ("cuda_if_available", None) else value


def _objective(value: Any) -> Any:
    # On a time index `time_delta` is a noisy form of `time`; with labels it is the labels' own law.
    known = {"time_contrastive": "time", "time": "time", "time_delta": "time", "hybrid": "hybrid"}
    return known.get(str(value), value)


def _same(value: Any) -> Any:
    return value


def _as_float(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _offsets(value: Any) -> Any:
    return [value] if isinstance(value, int) else value


_KEYS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "dataset.data_dir": ("data.path", _same),
    "dataset.sessions.max_sessions": ("data.max_sessions", _same),
    "dataset.mode": ("data.mode", lambda value: _MODES.get(str(value), value)),
    "model.architecture": ("model.encoder", _encoder),
    "model.model_architecture": ("model.encoder", _encoder),
    "model.output_dimension": ("model.output_dim", _same),
    "model.num_hidden_units": ("model.hidden_dim", _same),
    "model.learning_mode": ("task.objective", _objective),
    "model.conditional": ("task.objective", _objective),
    "model.batch_size": ("data.batch_size", _same),
    "model.learning_rate": ("train.lr", _as_float),
    "model.temperature": ("task.temperature", _as_float),
    "model.max_iterations": ("train.steps", _same),
    "model.distance": ("task.distance", _same),
    "model.device": ("run.device", _device),
    "model.time_offsets": ("task.time_offsets", _offsets),
    "dataloader.batch_size": ("data.batch_size", _same),
    "dataloader.time_offset": ("task.time_offsets", _offsets),
    "training.max_epochs": ("train.epochs", _same),
    "training.early_stopping.patience": ("train.early_stop", _same),
    "training.validation.frequency": ("train.eval_every_epochs", _same),
    "seed": ("run.seed", _same),
}
# Keys whose meaning is fixed here: parts and labels come from the files, runs are deterministic,
# model, embeddings and curves are always kept.
_FIXED = (
    "dataset.name", "dataset.file_pattern", "dataset.splits.", "dataset.neural.",
    "dataset.temporal.", "dataset.sessions.session_ids", "model.verbose", "dataloader.num_workers",
    "dataloader.shuffle", "dataloader.drop_last", "dataloader.num_steps",
    "training.early_stopping.enabled", "training.early_stopping.min_delta",
    "training.checkpoint.", "training.validation.enabled", "output.", "deterministic",
)  # fmt: skip


def is_foreign(layer: Layer) -> bool:
    """Return whether a configuration file has the blocks of the described system."""
    return any(key.startswith(_BLOCKS) for key in layer)


def translate(layer: Layer) -> dict[str, Leaf]:
    """Return a configuration of the described system in this program's keys.

    Args:
        layer: Dotted key -> value with its place in the file.

    Returns:
        The same for our keys; a file of ours is returned as it is.

    Raises:
        ConfigError: A key is unknown, or two keys contradict each other.
    """
    if not is_foreign(layer):
        return dict(layer)
    found: dict[str, Leaf] = {}
    problems: list[str] = []
    for key, leaf in layer.items():
        if key in _KEYS:
            name, convert = _KEYS[key]
            value = convert(leaf.value)
            if name in found and found[name].value != value:
                problems.append(
                    f"{leaf.origin}: {key}: says {value!r}, {found[name].origin} says "
                    f"{found[name].value!r} for the same thing"
                )
            found[name] = Leaf(value, leaf.origin)
        elif not key.startswith(_FIXED):
            near = nearest(key, _KEYS)
            problems.append(
                f"{leaf.origin}: {key}: unknown key" + (f"; did you mean {near}?" if near else "")
            )
    if problems:
        raise ConfigError(problems, hint="`neuro config show cebra` lists the keys of this program")
    if _is_off(layer, "training.early_stopping.enabled"):
        found.pop("train.early_stop", None)
    # The described network is 32 wide, keeps its rate and drops no neuron.
    defaults: dict[str, Any] = {
        "model.hidden_dim": 32,
        "model.neuron_dropout": 0.0,
        "train.schedule": "constant",
        "train.warmup": 0.0,
        "train.weight_decay": 0.0,
        "data.mode": "separate",
    }
    for name, value in defaults.items():
        found.setdefault(name, Leaf(value, "allen_config"))
    return found


def _is_off(layer: Layer, key: str) -> bool:
    return key in layer and layer[key].value is False
