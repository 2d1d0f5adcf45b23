"""From presets, files and flags to one checked configuration, every value with its origin.

Precedence: defaults in the typed classes < model row < preset < `--config` file < `--set a.b=c` <
named flags. All problems are collected and reported at once, each with file, line and key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model
from pydantic_core import ErrorDetails

from neurocli.core.catalog import ModelCard, RoomCard, find_model, models, resolve, rooms
from neurocli.core.config.nodes import Leaf, Plain, leaves, parse_value, read_yaml
from neurocli.core.config.presets import find_preset, preset_tree
from neurocli.core.config.run import RunConfig
from neurocli.core.errors import ConfigError, UsageError
from neurocli.core.names import choices_text, nearest

Layer = Mapping[str, Leaf]


@dataclass(frozen=True)
class Resolved:
    """Hold a checked configuration and where each value came from.

    Args:
        config: The configuration.
        origins: Dotted key -> "my.yaml:6", "preset fmri/tiny:9", "--set", "--lr" or "default".
    """

    config: RunConfig
    origins: Mapping[str, str]


def load_config(
    preset: str | None = None,
    config: str | Path | None = None,
    set: Sequence[str] = (),
    *,
    model: str | None = None,
) -> RunConfig:
    """Return the checked configuration of a preset, a file and `KEY=VALUE` settings.

    When nothing names a model, it is the first of the preset's room, or of the first room.

    Args:
        preset: Preset name, `<room>/<name>`.
        config: YAML file.
        set: Settings such as `train.lr=3e-4`, later ones win; one text is one setting.
        model: Model name; wins over `model.name` in the preset or the file.

    Raises:
        ConfigError: Something is wrong; all findings at once.
        UsageError: An unknown preset or model.
    """
    settings = (set,) if isinstance(set, str) else set
    first = {"model.name": Leaf(first_model(preset), "default")}
    return check_layers([first, *_layers(model, preset, config, settings, None)]).config


def first_model(preset: str | None) -> str:
    """Return the model that is meant where nothing names one: the first of the room.

    Args:
        preset: Preset name, which tells the room; None for the first room.

    Raises:
        UsageError: An unknown preset.
    """
    room = find_preset(preset).room if preset is not None else next(iter(rooms()))
    return rooms()[room].models[0].name


def resolve_config(
    *,
    model: str | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    settings: Sequence[str] = (),
    flags: Mapping[str, tuple[str, Plain]] | None = None,
    weights: Layer | None = None,
    otherwise: str | None = None,
) -> Resolved:
    """Merge all layers and check them.

    Args:
        model: Model name, as the command line's argument.
        preset: Preset name.
        config: YAML file.
        settings: `KEY=VALUE` texts of `--set`.
        flags: Dotted key -> (flag as typed, value) of named flags that were given.
        weights: Keys that the weights of `--init-from` fix; they win over defaults and presets,
            and what the user says otherwise is refused.
        otherwise: Model where nothing names one, told as of origin "default"; None asks for one.

    Raises:
        ConfigError: Something is wrong; all findings at once.
        UsageError: An unknown preset or model, or a key that does not fit the weights.
    """
    fixed = weights or {}
    first = {} if otherwise is None else {"model.name": Leaf(otherwise, "default")}
    resolved = check_layers([first, *_layers(model, preset, config, settings, flags, fixed)])
    for key, leaf in fixed.items():
        if resolved.origins.get(key) == leaf.origin:
            continue
        block, _, name = key.partition(".")
        chosen = getattr(getattr(resolved.config, block), name)
        known = check_layers([{"model.name": Leaf(model, "MODEL"), key: leaf}]).config
        if chosen != (value := getattr(getattr(known, block), name)):
            raise UsageError(
                f"{key} is {_shown(chosen)}, the weights have {_shown(value)}",
                where=f"{resolved.origins[key]} and {leaf.origin}",
                hint=f"leave {key} out, or start without these weights",
            )
    return resolved


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _layers(
    model: str | None,
    preset: str | None,
    config: str | Path | None,
    settings: Sequence[str],
    flags: Mapping[str, tuple[str, Plain]] | None,
    weights: Layer | None = None,
) -> list[Layer]:
    layers: list[Layer] = []
    if preset is not None:
        if model is not None:
            _check_room(preset, model)
        layers.append(dict(leaves(preset_tree(preset))))
    layers.append(weights or {})
    if config is not None:
        layers.append(_translated(dict(leaves(read_yaml(Path(config)))), model))
    layers.append(settings_layer(settings))
    layers.append({key: Leaf(value, flag) for key, (flag, value) in (flags or {}).items()})
    if model is not None:
        layers.append({"model.name": Leaf(model, "MODEL")})
    return layers


def _check_room(preset: str, model: str) -> None:
    chosen, room = find_preset(preset), find_model(model)[0].name
    if chosen.room != room:
        raise UsageError(
            f"preset {chosen.name} is for models of the room {chosen.room}; {model} is of {room}",
            where="--preset",
            hint=f"see `neuro presets list --room {room}`",
        )


def _translated(layer: Layer, model: str | None) -> Layer:
    room = find_model(model)[0] if model is not None else None
    if room is None or room.translate is None:
        return layer
    found: Layer = resolve(room.translate)(layer)
    return found


def config_from_plain(values: Mapping[str, Any], label: str) -> RunConfig:
    """Check a configuration that a checkpoint or a run folder holds as plain values.

    Args:
        values: Nested plain values, as `RunConfig.model_dump(mode="json")` gives.
        label: Names the source in errors.

    Raises:
        ConfigError: The values do not fit this version.
    """
    return check_layers([plain_layer(values, label)]).config


def plain_layer(values: Mapping[str, Any], label: str) -> dict[str, Leaf]:
    """Return nested plain values as a layer whose origin is `label`."""
    return dict(_flatten(values, label))


def settings_layer(settings: Sequence[str]) -> dict[str, Leaf]:
    """Return the layer of `KEY=VALUE` texts.

    Raises:
        UsageError: A text without `=`.
        ConfigError: A value that is not YAML.
    """
    return dict(_setting(text) for text in settings)


def check_layers(layers: Sequence[Layer]) -> Resolved:
    """Merge layers, later ones winning, and validate against the classes of the named model.

    Raises:
        ConfigError: Something is wrong; all findings at once.
        UsageError: The model is unknown.
    """
    given: dict[str, Leaf] = {}
    for layer in layers:
        _merge(given, layer)
    name = given.get("model.name")
    if name is None or not isinstance(name.value, str):
        raise ConfigError(
            ["model.name: missing"], hint=f"choices: {choices_text(models())}; name a MODEL"
        )
    _, card = find_model(name.value)
    row = {
        f"model.{key}": Leaf(value, f"model {card.name}") for key, value in card.defaults.items()
    }
    merged: dict[str, Leaf] = {}
    _merge(merged, row)
    _merge(merged, given)
    return _validate(_config_class(card.name), merged)


@cache
def _config_class(model: str) -> type[RunConfig]:
    return config_class(*find_model(model))


def config_class(room: RoomCard, card: ModelCard) -> type[RunConfig]:
    """Return `RunConfig` narrowed to the blocks of one room and one model."""
    data, task = resolve(room.data_config), resolve(room.task_config)
    fields: dict[str, Any] = {
        "model": (resolve(card.config), ...),
        "data": (data, data()),
        "task": (task, task()),
    }
    return create_model(f"{room.name.capitalize()}RunConfig", __base__=RunConfig, **fields)


def _merge(into: dict[str, Leaf], layer: Layer) -> None:
    for key, leaf in layer.items():
        # A value replaces whatever stood above or below its own key, never half of it.
        for other in [known for known in into if known.startswith(f"{key}.")]:
            del into[other]
        into[key] = leaf


def _setting(text: str) -> tuple[str, Leaf]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"'{text}' is no setting", where="--set", hint="write --set train.lr=3e-4")
    return key.strip(), Leaf(parse_value(value, f"--set {key.strip()}"), "--set")


def _flatten(values: Mapping[str, Any], label: str, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, label, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", Leaf(value, label)


def _nest(flat: Layer) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for dotted, leaf in flat.items():
        *parents, last = dotted.split(".")
        place = nested
        for depth, parent in enumerate(parents):
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                above = ".".join(parents[: depth + 1])
                origin = flat[above].origin if above in flat else leaf.origin
                raise ConfigError([f"{origin}: {above}: must hold keys, as in {dotted}"])
        place[last] = leaf.value
    return nested


def _validate(kind: type[RunConfig], merged: Layer) -> Resolved:
    try:
        config = kind.model_validate(_nest(merged))
    except ValidationError as error:
        raise ConfigError(
            problem_lines(kind, error, merged),
            hint="`neuro config show MODEL` lists every key with its value",
        ) from None
    plain = dict(_flatten(config.model_dump(mode="json"), "default"))
    origins = {key: merged[key].origin if key in merged else "default" for key in plain}
    return Resolved(config, origins)


def problem_lines(kind: type[BaseModel], error: ValidationError, given: Layer) -> list[str]:
    """Return one line per finding: where it was written, the key, what is wrong, what is allowed.

    Args:
        kind: The class that was validated.
        error: Its findings.
        given: Dotted key -> value with origin.
    """
    return [_problem(kind, details, given) for details in error.errors()]


def _problem(kind: type[BaseModel], details: ErrorDetails, merged: Layer) -> str:
    path = [str(part) for part in details["loc"] if isinstance(part, str)]
    dotted = ".".join(path)
    origin = _origin(dotted, merged)
    place = f"{origin}: {dotted}" if origin else dotted
    if details["type"] == "extra_forbidden":
        known = _fields_at(kind, path[:-1])
        near = nearest(path[-1], known) or _elsewhere(kind, path[-1])
        guess = f"did you mean {near}?" if near else f"known here: {choices_text(known)}"
        return f"{place}: unknown key; {guess}"
    if details["type"] == "missing":
        return f"{dotted}: missing"
    message = details["msg"].replace("Input should be", "must be").replace("Value error, ", "")
    return f"{place}: {message[0].lower()}{message[1:]}, not {details['input']!r}"


def _elsewhere(kind: type[BaseModel], key: str) -> str | None:
    # Many keys are put under the wrong block: train.batch_size is data.batch_size.
    owners = {name: block for block in kind.model_fields for name in _fields_at(kind, [block])}
    near = nearest(key, owners)
    return f"{owners[near]}.{near}" if near else None


def _origin(dotted: str, merged: Layer) -> str | None:
    for key, leaf in merged.items():
        if key == dotted or key.startswith(f"{dotted}.") or dotted.startswith(f"{key}."):
            return leaf.origin
    return None


def _fields_at(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(part)
        annotation = field.annotation if field is not None else None
        # A list of blocks, such as data.join, has the block among its arguments.
        blocks = [
            found
            for found in (annotation, *get_args(annotation))
            if isinstance(found, type) and issubclass(found, BaseModel)
        ]
        if not blocks:
            return []
        kind = blocks[0]
    return list(kind.model_fields)
