"""Option types that several commands share: the same word, letter and sentence everywhere.

An option a command needs in its own words is declared there. Metavars say what a value is; the
shell completion reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocli.cli.page import CONFIG_PANEL, RUN_PANEL
from neurocli.core.errors import UsageError


def value(metavar: str, text: str, panel: str | None = None, *names: str) -> Any:
    """Return a Typer option that takes a value.

    Args:
        metavar: What the value is, or its choices joined by `|`.
        text: One short sentence for the help page.
        panel: Heading it stands under.
        names: Spellings; the parameter's name with dashes when empty.
    """
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel)


def switch(name: str, text: str, panel: str | None = None) -> Any:
    """Return a Typer option that is given or not."""
    return typer.Option(name, help=text, rich_help_panel=panel)


def older(metavar: str) -> Any:
    """Return a Typer option that scripts of the described programs use and no page lists.

    Args:
        metavar: What the value is.
    """
    return typer.Option(metavar=metavar, hidden=True)


Preset = Annotated[
    str | None, value("PRESET", "Start from a preset.", CONFIG_PANEL, "--preset", "-p")
]
ConfigFile = Annotated[
    Path | None, value("FILE", "YAML file; wins over the preset.", CONFIG_PANEL, "--config", "-c")
]
Settings = Annotated[
    list[str] | None,
    value(
        "KEY=VALUE",
        "Any config key, such as train.lr=3e-4; repeatable.",
        CONFIG_PANEL,
        "--set",
        "-s",
    ),
]
Force = Annotated[bool, switch("--force", "Replace what is already there.", RUN_PANEL)]
DryRun = Annotated[bool, switch("--dry-run", "Show what would be done; write nothing.", RUN_PANEL)]
Jobs = Annotated[int, value("N", "Processes.", RUN_PANEL, "--jobs", "-j")]
Seed = Annotated[int | None, value("N", "Random seed.", RUN_PANEL)]
Device = Annotated[str | None, value("auto|cpu|cuda|mps|xpu", "Where to compute.", RUN_PANEL)]
InputShape = Annotated[str | None, value("H,W,D,T", "Size of one sample; default as trained on.")]


def given(**values: Any) -> dict[str, Any]:
    """Return the options that were given: all that are not None.

    >>> given(lr=0.1, steps=None)
    {'lr': 0.1}
    """
    return {name: setting for name, setting in values.items() if setting is not None}


def words(text: str | None) -> tuple[str, ...]:
    """Return a comma-separated list as words.

    >>> words("age, sex"), words(None)
    (('age', 'sex'), ())
    """
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def whole_numbers(text: str | None, option: str) -> tuple[int, ...]:
    """Return a list of whole numbers; `a-b` stands for a range with both ends.

    >>> whole_numbers("1-3,10", "--seeds")
    (1, 2, 3, 10)

    Raises:
        UsageError: Something is no whole number.
    """
    numbers: list[int] = []
    for word in words(text):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(
                f"'{word}' is no whole number", where=option, hint=f"write {option} 1,2,3 or 1-3"
            )
        numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def sizes(text: str | None, option: str) -> tuple[int, ...] | None:
    """Return sizes such as `96,96,96,20`, or None when they were not given.

    Raises:
        UsageError: Something is no whole number above 0.
    """
    if text is None:
        return None
    found = words(text.replace("x", ","))
    if not found or not all(word.isdecimal() and int(word) > 0 for word in found):
        raise UsageError(f"'{text}' is no size", where=option, hint=f"write {option} 96,96,96,20")
    return tuple(int(word) for word in found)


def parse_settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """Return `KEY=VALUE` texts as a mapping, values read as YAML reads them.

    >>> parse_settings(["nonfinite=zero", "seed=3"])
    {'nonfinite': 'zero', 'seed': 3}

    Raises:
        UsageError: A text has no `=`.
        ConfigError: A value is no plain YAML value.
    """
    from neurocli.core.config.nodes import parse_value

    values: dict[str, Any] = {}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"'{text}' is no setting", where="--set", hint="write --set KEY=VALUE")
        values[key.strip()] = parse_value(value, f"--set {key.strip()}")
    return values
