"""`neuro flops`: a model name or a checkpoint in; parameters and operations out."""

from __future__ import annotations

from typing import Annotated

import typer

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import add_verb, new_group
from neurocli.cli.views import facts

app = new_group()


@add_verb(
    app,
    "flops",
    """
neuro flops fmamba
neuro flops fmamba --input-shape 96,96,96,20 --engine torch --json
neuro flops fmamba -s model.depth=24 -s model.embed_dim=256
""",
)
def flops(
    model: Annotated[
        str, typer.Argument(metavar="MODEL_OR_CKPT", help="A model, a preset or a checkpoint.")
    ],
    input_shape: options.InputShape = None,
    engine: Annotated[
        str, value("formula|torch|thop|deepspeed", "Who counts; formula needs no torch.")
    ] = "formula",
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    settings: options.Settings = None,
) -> int:
    """Count parameters and operations of a model.

    One multiply-add is one MAC and two FLOPs. A training step is the forward and the backward pass
    of one sample.
    """
    from neurocli import count_flops

    result = count_flops(
        model,
        input_shape=options.sizes(input_shape, "--input-shape"),
        engine=engine,
        preset=preset,
        config=config,
        set=settings or (),
    )
    # -q has no path to show here; the one number is what a script wants.
    output = sink()
    keys = ("model", "params", "macs", "flops", "flops_train_step", "tokens", "engine")
    values = {key: getattr(result, key) for key in (*keys, "input_shape", "notes", "components")}
    for note in result.notes:
        output.note(note)
    output.show(
        "flops",
        values,
        main=str(result.flops),
        view=[
            facts([*((key, values[key]) for key in keys), ("input shape", result.input_shape)]),
            Table(("part", "flops"), list(result.components.items())),
        ],
    )
    return 0
