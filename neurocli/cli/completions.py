"""What can be typed after `neuro`, as data, and the shell completions written from it.

`python -m neurocli.cli.completions bash|zsh|fish` prints a completion script. The scripts are
static: TAB starts no Python, so names come from this version's catalog at the time of writing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from neurocli.cli import shells
from neurocli.cli.app import COMMANDS, load_command
from neurocli.cli.shells import Choice, Option, Page
from neurocli.core.catalog import datasets, models, rooms
from neurocli.core.config.presets import presets
from neurocli.core.errors import UsageError
from neurocli.core.listing import config_keys
from neurocli.core.names import lookup

_FILES = frozenset({"CKPT", "DIR", "FILE", "PATH", "RUN", "SRC", "TABLE_OR_DATA"})
_FREE = frozenset(
    {"A,B", "COLUMN", "D,H,W", "H,W,D", "H,W,D,T", "K", "LIST", "METHOD", "N", "NAME", "PATTERN"}
    | {"OPTION=VALUE", "SECONDS", "SHARE", "X"}
)
_LISTS = {"MODEL": "models", "PRESET": "presets", "DATASET": "datasets", "ROOM": "rooms",
          "OBJECTIVE": "objectives", "KEY=VALUE": "keys"}  # fmt: skip
_WRITERS = {"bash": shells.bash, "zsh": shells.zsh, "fish": shells.fish}


def choice(metavar: str) -> Choice:
    """Return what a metavar stands for.

    >>> choice("auto|none|PATH")
    Choice(words=('auto', 'none'), lists=(), files=True)

    Raises:
        UsageError: The metavar is new to this table.
    """
    if metavar == "MODEL_OR_CKPT":
        return Choice(lists=("models", "presets"), files=True)
    parts = metavar.split("|")
    # An unknown metavar would silently complete nothing, so it stops the writing.
    unknown = [part for part in parts if part.upper() == part and part not in _KNOWN]
    if unknown:
        raise UsageError(f"no completion knows the metavar '{unknown[0]}'", where=metavar)
    return Choice(
        words=tuple(part for part in parts if part not in _KNOWN),
        lists=tuple(_LISTS[part] for part in parts if part in _LISTS),
        files=any(part in _FILES for part in parts),
    )


_KNOWN = frozenset({*_FILES, *_FREE, *_LISTS})


def word_lists() -> dict[str, list[str]]:
    """Return the names that completions offer, by list."""
    keys = {key.key: None for name in models() for key in config_keys(name)}
    tasks = [task for room in rooms().values() for task in room.tasks]
    return {
        "models": list(models()),
        "presets": list(presets()),
        "datasets": list(datasets()),
        "rooms": list(rooms()),
        "objectives": [task.name for task in tasks if task.kind == "pretrain"],
        "keys": [f"{key}=" for key in keys if key != "model.name"],
    }


def pages() -> list[Page]:
    """Return every help page as what can be typed on it, the root first."""
    root = Page((), "", {row.name: row.summary for row in COMMANDS}, _options_of_root(), ())
    found = [root]
    for row in COMMANDS:
        found += _walk((row.name,), load_command(row))
    return found


def render(shell: str) -> str:
    """Return the completion script of a shell.

    Raises:
        UsageError: No such shell.
    """
    return lookup("shell", shell, _WRITERS)(pages(), word_lists())


def _options_of_root() -> tuple[Option, ...]:
    return (
        Option(("--version",), "Show the version.", None),
        Option(("-h", "--help"), "Show this message and exit.", None),
    )


def _walk(path: tuple[str, ...], command: Any) -> list[Page]:
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    # Spellings that no page lists are no offers either.
    shown = [param for param in command.params if not getattr(param, "hidden", False)]
    options = [_option(param) for param in shown if param.param_type_name == "option"]
    options.append(Option(("-h", "--help"), "Show this message and exit.", None))
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    page = Page(
        path,
        command.get_short_help_str(200),
        {name: verb.get_short_help_str(200) for name, verb in inner.items()},
        tuple(options),
        tuple((choice(param.metavar), param.nargs != 1) for param in arguments),
    )
    below = [page for name, verb in inner.items() for page in _walk((*path, name), verb)]
    return [page, *below]


def _option(param: Any) -> Option:
    has_value = not (param.is_flag or param.count)
    return Option(
        tuple(sorted(param.opts, key=len)),
        re.sub(r"\s+", " ", param.help or ""),
        choice(param.metavar) if has_value else None,
        is_repeatable=bool(param.multiple or param.count),
    )


if __name__ == "__main__":
    sys.stdout.write(render(sys.argv[1] if len(sys.argv) > 1 else ""))
