"""The Typer root: which commands there are, in which order, and where each lives.

A command's module is imported only when that command is named, so that the root page costs no
more than Typer itself. The table below is all the root knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer

from neurocli.cli.page import Command, Group, new_group

_PACKAGE = "neurocli.cli.commands"


@dataclass(frozen=True)
class CommandRow:
    """Name one command of the root.

    Args:
        name: What people type.
        summary: First sentence of its own page; a test keeps the two equal.
        panel: Heading it stands under.
        module: Module of `neurocli.cli.commands` whose `app` it is.
    """

    name: str
    summary: str
    panel: str
    module: str


_DATA, _MODELS, _FOUND, _ABOUT = "Data", "Models", "Findings", "Discover"

COMMANDS: tuple[CommandRow, ...] = (
    CommandRow("preprocess", "Turn raw data into one standard folder.", _DATA, "preprocess"),
    CommandRow("convert-hdf5", "Pack a folder into one HDF5 file per subject.", _DATA,
               "convert_hdf5"),
    CommandRow("split", "Divide a cohort into train, val and test.", _DATA, "split"),
    CommandRow("train", "Train a model.", _MODELS, "train"),
    CommandRow("evaluate", "Judge a checkpoint on held-out subjects.", _MODELS, "evaluate"),
    CommandRow("flops", "Count parameters and operations of a model.", _MODELS, "flops"),
    CommandRow("profile", "Measure latency and memory of models.", _MODELS, "profile"),
    CommandRow("align-genes", "Align brain latents with gene embeddings.", _FOUND,
               "align_genes"),
    CommandRow("report", "Write one HTML page about runs.", _FOUND, "report"),
    CommandRow("models", "List models, the keys they take, and export weights.", _ABOUT, "models"),
    CommandRow("presets", "List, show and copy runnable configurations.", _ABOUT, "presets"),
    CommandRow("config", "Show where every value comes from; check a file.", _ABOUT, "config"),
    CommandRow("doctor", "Say what is installed and what is missing.", _ABOUT, "doctor"),
)  # fmt: skip

_ROWS = {row.name: row for row in COMMANDS}

_EXAMPLES = """
neuro train fmamba --pretrain ar -p fmri/tiny
neuro train -h      # every page ends with examples
neuro doctor        # what this machine can do
"""


def load_command(row: CommandRow) -> Any:
    """Import a command's module and return the command."""
    command = typer.main.get_command(import_module(f"{_PACKAGE}.{row.module}").app)
    # A group takes its name from nobody; usage lines and errors need one.
    command.name = row.name
    return command


class Root(Group):
    """Hold all commands as names and sentences; load one when it is called."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The page needs a name and a sentence; an empty command stands in until one is called.
        for row in COMMANDS:
            self.add_command(
                Command(row.name, help=row.summary, rich_help_panel=row.panel), row.name
            )

    def load(self, command: Any) -> Any:
        """Import the module of a command that was named."""
        return load_command(_ROWS[command.name])


def _show_version(value: bool) -> None:
    if value:
        from neurocli import __version__

        typer.echo(f"neuro {__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Declare the options of the root."""


def build_app() -> Any:
    """Return the root command."""
    app = new_group("Deep learning on the brain, from raw files to a report.", _EXAMPLES, kind=Root)
    app.callback()(_root)
    return typer.main.get_command(app)
