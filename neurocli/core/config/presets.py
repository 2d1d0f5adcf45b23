"""Runnable answers that ship with each room: short YAML files with a comment head.

A preset's name is `<room>/<file>`; its first comment line is the summary in listings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from neurocli.core.catalog import rooms
from neurocli.core.config.nodes import Tree, parse_yaml
from neurocli.core.names import lookup


@dataclass(frozen=True)
class Preset:
    """Hold one preset: its name, room, one-line summary and YAML text."""

    name: str
    room: str
    summary: str
    text: str


@cache
def presets() -> dict[str, Preset]:
    """Return every preset by name, in the order of rooms and file names."""
    found: dict[str, Preset] = {}
    for room in rooms().values():
        folder = files(room.presets)
        for entry in sorted(folder.iterdir(), key=lambda item: item.name):
            stem, dot, suffix = entry.name.rpartition(".")
            if dot and suffix == "yaml":
                text = entry.read_text(encoding="utf-8")
                name = f"{room.name}/{stem}"
                found[name] = Preset(name, room.name, _summary(text), text)
    return found


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UsageError: No such name; the nearest one and the choices are named.
    """
    return lookup("preset", name, presets(), hint="see `neuro presets list`")


def preset_tree(name: str) -> Tree:
    """Return a preset's values; origins read `preset fmri/tiny:9`.

    Raises:
        UsageError: No such preset.
    """
    return parse_yaml(find_preset(name).text, f"preset {name}")


def list_presets(room: str | None = None) -> list[dict[str, str]]:
    """Return name, room and summary of every preset.

    Args:
        room: Only this room's; None for all.

    Raises:
        UsageError: No such room.
    """
    if room is not None:
        lookup("room", room, rooms())
    return [
        {"name": preset.name, "room": preset.room, "summary": preset.summary}
        for preset in presets().values()
        if room in (None, preset.room)
    ]


def _summary(text: str) -> str:
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    return first.lstrip("# ").strip()
