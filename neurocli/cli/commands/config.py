"""`neuro config`: where every value of a run would come from, and whether a file is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import add_verb, new_group
from neurocli.cli.views import flat, written

app = new_group(
    "Show where every value comes from; check a file.",
    """
neuro config show fmamba -p fmri/tiny -s train.lr=3e-4
neuro config validate mine.yaml --model fmamba
""",
)


@add_verb(
    app,
    "show",
    """
neuro config show fmamba
neuro config show fmamba -p fmri/tiny -c mine.yaml -s train.lr=3e-4
""",
)
def show(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Model; or model.name in the file.")
    ] = None,
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    settings: options.Settings = None,
) -> int:
    """Show every resolved value with its origin.

    Defaults < model row < preset < --config < --set: the latest wins.
    """
    from neurocli.core.config.load import first_model, resolve_config

    resolved = resolve_config(
        model=model,
        preset=preset,
        config=config,
        settings=settings or (),
        otherwise=None if preset is None else first_model(preset),
    )
    if resolved.origins["model.name"] == "default":
        name = resolved.config.model.name
        sink().note(f"no model is named; shown for {name}, the first of the room of {preset}")
    # JSON values: what is shown is what a run folder will hold.
    plain = resolved.config.model_dump(mode="json")
    rows = [
        (key, written(setting), resolved.origins.get(key, "default"))
        for key, setting in flat(plain)
    ]
    sink().show(
        "config",
        {"config": plain, "origins": dict(resolved.origins)},
        main=resolved.config.model.name,
        view=[Table(("key", "value", "from"), rows)],
    )
    return 0


@add_verb(app, "validate", "neuro config validate mine.yaml --model fmamba")
def validate(
    config: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file.")],
    model: Annotated[
        str | None, value("MODEL", "Check as if for this model; else model.name of the file.")
    ] = None,
) -> int:
    """Check a configuration file; all findings at once."""
    from neurocli.core.config.load import resolve_config

    resolved = resolve_config(model=model, config=config)
    name = resolved.config.model.name
    sink().show(
        "config-check",
        {"file": config, "model": name, "valid": True},
        main=config,
        view=[f"{config}: sound for {name}"],
    )
    return 0
