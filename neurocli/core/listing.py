"""What there is to train, as plain rows: names, parameter counts and configuration keys.

Nothing here imports torch: a parameter count is a closed formula of the room, or None.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from neurocli.core.catalog import find_model, models, rooms
from neurocli.core.config.load import config_class, load_config
from neurocli.core.cost.target import find_target
from neurocli.core.names import lookup, matching


@dataclass(frozen=True)
class ConfigKey:
    """Describe one key that `--set` takes: dotted name, default, choices or type, meaning."""

    key: str
    default: Any
    accepts: str
    meaning: str


def list_models(pattern: str = "*", room: str | None = None) -> list[dict[str, Any]]:
    """Return the models of this version.

    Args:
        pattern: Shell pattern over names.
        room: Only this room's; None for all.

    Returns:
        One row per model in catalog order: name, room, summary, params (at default settings;
        None where the room has no closed formula).

    Raises:
        UsageError: No such room.
    """
    if room is not None:
        lookup("room", room, rooms())
    known = models()
    return [
        {
            "name": name,
            "room": known[name][0].name,
            "summary": known[name][1].summary,
            "params": count_default_parameters(name),
        }
        for name in matching(pattern, known)
        if room in (None, known[name][0].name)
    ]


def count_default_parameters(name: str) -> int | None:
    """Return how many numbers a model learns at default settings, or None without a formula.

    Raises:
        UsageError: No such model.
    """
    room, _ = find_model(name)
    return None if room.cost is None else find_target(name).count_parameters()


def outline(name: str) -> list[dict[str, Any]]:
    """Return a model's stages as rows at default settings; none where its room draws none.

    Args:
        name: Model name.

    Raises:
        UsageError: No such model.
    """
    room, _ = find_model(name)
    return [] if room.outline is None else find_target(name).outline()


def config_keys(name: str) -> list[ConfigKey]:
    """Return every key that a run of this model takes, in the order of its blocks.

    Args:
        name: Model name.

    Raises:
        UsageError: No such model.
    """
    room, card = find_model(name)
    config = load_config(model=name)
    return [
        ConfigKey(f"{block}.{key}", getattr(getattr(config, block), key), *_about(field))
        for block, about in config_class(room, card).model_fields.items()
        for key, field in _fields(about)
    ]


def _fields(about: FieldInfo) -> Iterator[tuple[str, FieldInfo]]:
    if isinstance(about.annotation, type) and issubclass(about.annotation, BaseModel):
        yield from about.annotation.model_fields.items()


def _about(field: FieldInfo) -> tuple[str, str]:
    return accepted(field.annotation), field.description or ""


def accepted(annotation: Any) -> str:
    """Return what a type takes, as a reader writes it in YAML.

    >>> from typing import Literal
    >>> accepted(Literal["a", "b"] | None), accepted(tuple[int, int])
    ('a | b | null', '[int, int]')
    """
    if annotation is None or annotation is type(None):
        return "null"
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(choice) for choice in inner)
    if origin in (Union, UnionType):
        return " | ".join(accepted(part) for part in inner)
    if origin is Annotated:
        return accepted(inner[0])
    if origin is tuple:
        parts = ["..." if part is Ellipsis else accepted(part) for part in inner]
        return f"[{', '.join(parts)}]"
    word = str(getattr(annotation, "__name__", annotation))
    return {"bool": "true | false", "str": "text"}.get(word, word)
