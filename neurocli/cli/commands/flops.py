"""`neuro flops`: a model name or a checkpoint in; parameters and operations out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

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
neuro flops unet3d_s --engine all
neuro flops fmamba --tokens-kept 26100 --clips 500 -s train.epochs=10
""",
)
def flops(
    model: Annotated[
        str, typer.Argument(metavar="MODEL_OR_CKPT", help="A model, a preset or a checkpoint.")
    ],
    input_shape: options.InputShape = None,
    engine: Annotated[
        str,
        value("formula|torch|thop|deepspeed|all", "Who counts; all compares; formula is light."),
    ] = "formula",
    tokens_kept: Annotated[int | None, value("N", "Tokens left without background.")] = None,
    clips: Annotated[int | None, value("N", "Training samples of an epoch.")] = None,
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    settings: options.Settings = None,
) -> int:
    """Count parameters and operations of a model.

    One multiply-add is one MAC and two FLOPs. A training step is the forward and the backward pass
    of one sample; an epoch and a run follow from the samples of a run, or from --clips.
    """
    from neurocli import count_flops

    result = count_flops(
        model,
        input_shape=options.sizes(input_shape, "--input-shape"),
        engine=engine,
        tokens_kept=tokens_kept,
        clips=clips,
        preset=preset,
        config=config,
        set=settings or (),
    )
    # -q has no path to show here; the one number is what a script wants.
    output = sink()
    for note in result.notes:
        output.note(note)
    values = asdict(result)
    output.show("flops", values, main=str(result.flops), view=_view(values))
    return 0


def _view(values: Mapping[str, Any]) -> list[Table | str]:
    keys = ("model", "params", "macs", "flops", "flops_train_step", "tokens", "engine")
    shown: list[Table | str] = [
        facts([*((key, values[key]) for key in keys), ("input shape", values["input_shape"])])
    ]
    work = values["work"]
    figures = [(f"flops of a {part}", work.get(part)) for part in ("step", "epoch", "run")]
    figures += [(key.replace("_", " "), work.get(key)) for key in ("clips_per_epoch", "steps")]
    shown.append(facts((name, told) for name, told in figures if told is not None))
    if values["engines"]:
        columns = ("engine", "params", "macs", "flops", "train step", "of formula", "why")
        rows = [
            (*list(row.values())[:5], None if row["share"] is None else f"{row['share']:.4g}x",
             row["why"])
            for row in values["engines"]
        ]  # fmt: skip
        shown.append(Table(columns, rows))
    shown.append(Table(("part", "flops"), list(values["components"].items())))
    return shown
