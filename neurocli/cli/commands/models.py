"""`neuro models`: what can be trained, the keys it takes, and weights for other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.views import command_line, counted, facts, plan_view, written
from neurocli.core.errors import UsageError

app = new_group(
    "List models, the keys they take, and export weights.",
    """
neuro models list
neuro models show fmamba
neuro models export best.pth -o official.ckpt
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
    """Show one model: its stages where it has any, and every key it takes."""
    from neurocli.core.catalog import find_model
    from neurocli.core.listing import config_keys, list_models, outline

    _, card = find_model(name)
    about = {**list_models(name)[0], "tasks": card.tasks}
    keys = config_keys(name)
    stages = outline(name)
    rows = [(key.key, written(key.default), key.accepts, key.meaning) for key in keys]
    output = sink()
    output.show(
        "model",
        {**about, "stages": stages, "keys": [asdict(key) for key in keys]},
        main=name,
        view=[
            facts((key, setting) for key, setting in about.items()),
            *_stages(stages),
            Table(("key", "default", "accepts", "meaning"), rows),
        ],
    )
    output.hint(command_line("neuro", "train", name, "-s", f"{rows[-1][0]}=..."))
    return 0


def _stages(stages: Sequence[Mapping[str, Any]]) -> list[Table]:
    # Whole numbers are in --json; on a screen they would push the names aside.
    rows = [
        tuple(counted(v) if key in ("params", "macs") else v for key, v in row.items())
        for row in stages
    ]
    return [Table(tuple(stages[0]), rows)] if rows else []


@add_verb(
    app,
    "export",
    """
neuro models export runs/fmamba-ar-1/checkpoints/best.pth -o official.ckpt
neuro models export official.ckpt -o weights.safetensors --force
""",
)
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="A checkpoint, or any file of the family.")
    ],
    out: Annotated[
        Path, value("FILE", "A .ckpt, .pth or .safetensors file.", RUN_PANEL, "--out", "-o")
    ],
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Write weights under the names of the family's own code.

    Tensors are those of the checkpoint; what the family's code has no place for is left out and
    listed. `neuro train --init-from` reads the file again.
    """
    from neurocli import export_weights

    result = export_weights(checkpoint, out, force=force, dry_run=dry_run)
    output = sink()
    for note in result.notes:
        output.note(note)
    values = {
        "checkpoint": result.checkpoint,
        "out": result.out,
        "model": result.model,
        "tensors": result.tensors,
        "left_out": result.left_out,
        "notes": result.notes,
    }
    if result.plan is not None:
        output.show("models-export", {**values, "plan": result.plan}, view=plan_view(result.plan))
    else:
        output.show("models-export", values, main=result.out, view=[facts(values.items())])
    return 0
