"""`neuro models`: what can be trained, and the keys it takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from neurocli.cli.options import value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import add_verb, new_group
from neurocli.cli.views import facts, written
from neurocli.core.errors import UsageError

app = new_group(
    "List models and the keys they take.",
    """
neuro models list
neuro models show fmamba
""",
)


@add_verb(
    app,
    "list",
    """
neuro models list
neuro models list 'fmamba_*' --room fmri --json
""",
)
def list_(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Shell pattern over names, in quotes.")
    ] = "*",
    room: Annotated[str | None, value("ROOM", "Only this room's.")] = None,
) -> int:
    """List models by name.

    Parameters are counted at default settings.
    """
    from neurocli import list_models

    rows = list_models(pattern, room)
    if not rows:
        raise UsageError(f"no model fits '{pattern}'", hint="see `neuro models list`")
    table = Table(
        ("model", "room", "parameters", "what it is"),
        [(row["name"], row["room"], row["params"], row["summary"]) for row in rows],
    )
    names = "\n".join(row["name"] for row in rows)
    sink().show("models", {"models": rows}, main=names, view=[table])
    return 0


@add_verb(app, "show", "neuro models show fmamba_mlp")
def show(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
) -> int:
    """Show one model and every key it takes."""
    from neurocli.core.catalog import find_model
    from neurocli.core.listing import config_keys, list_models

    _, card = find_model(name)
    about = {**list_models(name)[0], "tasks": card.tasks}
    keys = config_keys(name)
    rows = [(key.key, written(key.default), key.accepts, key.meaning) for key in keys]
    sink().show(
        "model",
        {**about, "keys": [asdict(key) for key in keys]},
        main=name,
        view=[
            facts((key, setting) for key, setting in about.items()),
            Table(("key", "default", "accepts", "meaning"), rows),
        ],
    )
    return 0
