"""`neuro presets`: runnable configurations that ship with the rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.views import command_line
from neurocli.core.errors import UsageError

_Name = Annotated[str, typer.Argument(metavar="PRESET", help="Name, such as fmri/tiny.")]

app = new_group(
    "List, show and copy runnable configurations.",
    """
neuro presets list
neuro presets copy fmri/tiny mine.yaml
neuro train fmamba -c mine.yaml
""",
)


@add_verb(
    app,
    "list",
    """
neuro presets list
neuro presets list --room fmri --json
""",
)
def list_(room: Annotated[str | None, value("ROOM", "Only this room's.")] = None) -> int:
    """List presets by name."""
    from neurocli import list_presets

    rows = list_presets(room)
    table = Table(("preset", "room", "what it is"), [tuple(row.values()) for row in rows])
    names = "\n".join(row["name"] for row in rows)
    sink().show("presets", {"presets": rows}, main=names, view=[table])
    return 0


@add_verb(app, "show", "neuro presets show fmri/tiny")
def show(name: _Name) -> int:
    """Show the text of a preset."""
    from neurocli.core.catalog import rooms
    from neurocli.core.config.presets import find_preset

    preset = find_preset(name)
    values = {"name": preset.name, "room": preset.room, "summary": preset.summary}
    output = sink()
    output.show("preset", {**values, "text": preset.text}, main=name, view=[preset.text.rstrip()])
    output.hint(command_line("neuro", "train", rooms()[preset.room].models[0].name, "-p", name))
    output.hint(command_line("neuro", "presets", "copy", name, "mine.yaml"))
    return 0


@add_verb(app, "copy", "neuro presets copy fmri/tiny mine.yaml")
def copy(
    name: _Name,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="The copy; the preset's own name here if not given."),
    ] = None,
    out: Annotated[
        Path | None, value("FILE", "The same as the argument.", RUN_PANEL, "--out", "-o")
    ] = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Copy a preset to a file to change it."""
    from neurocli.core.config.presets import find_preset
    from neurocli.core.paths import durable_write

    preset = find_preset(name)
    if file and out and file != out:
        raise UsageError(f"two names for one copy: {file} and {out}", where="--out")
    target = file or out or Path(f"{preset.name.rpartition('/')[2]}.yaml")
    if target.exists() and not force:
        raise UsageError("already there", where=str(target), hint="choose another name, or --force")
    if not dry_run:
        durable_write(target, preset.text)
    output = sink()
    verb = "would copy" if dry_run else "copied"
    values = {"name": preset.name, "out": target}
    output.show(
        "preset-copy",
        {**values, "plan": {"would_write": target}} if dry_run else values,
        main=target,
        view=[f"{verb} {preset.name} to {target}"],
    )
    return 0
