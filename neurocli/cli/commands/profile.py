"""`neuro profile`: models in; latency and peak memory, measured on this machine, out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocli.cli import options
from neurocli.cli.options import switch, value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.progress import progress
from neurocli.cli.text import cell_text

_MIB = 2**20

app = new_group()


@add_verb(
    app,
    "profile",
    """
neuro profile fmamba -p fmri/tiny
neuro profile fmamba fmamba_mlp --mode inference --runs 10 --json
neuro profile fmamba --input-shape 48,48,48,8 -s model.patch_size=6,6,6,1
neuro profile 'unet3d_*' dualbranch_14_convnext_l --fake
neuro profile dualbranch_07_unet_s --fake --stage-wise -o profiles
neuro profile --models all --room brats --fake -j 2
neuro profile unet3d_xs --input-shape 64,64,64 --threads 1 --trace trace.json
""",
)
def profile(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL_OR_CKPT", help="Models, presets, checkpoints; or all."),
    ] = None,
    more: Annotated[
        list[str] | None,
        value("NAME", "The same as an option: names, patterns or all.", None, "--models"),
    ] = None,
    room: Annotated[str | None, value("ROOM", "Only this room's models of a pattern.")] = None,
    runs: Annotated[int, value("N", "Measured runs, after warm-up.")] = 5,
    mode: Annotated[str, value("train|inference|both", "What is measured.")] = "both",
    input_shape: options.InputShape = None,
    stage_wise: Annotated[bool, switch("--stage-wise", "Also the memory of each stage.")] = False,
    fake: Annotated[
        bool, switch("--fake", "Peak memory without computing, on any machine.")
    ] = False,
    threads: Annotated[int | None, value("N", "CPU threads; default torch's choice.")] = None,
    warmup: Annotated[int, value("N", "Calls before the timed ones.")] = 2,
    trace: Annotated[Path | None, value("FILE", "Also torch's own trace, as JSON.")] = None,
    jobs: options.Jobs = 1,
    out: Annotated[
        Path | None, value("DIR", "Also tables as CSV.", RUN_PANEL, "--out", "-o")
    ] = None,
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    settings: options.Settings = None,
    device: options.Device = None,
) -> int:
    """Measure latency and memory of models.

    Times are medians over runs on this machine; memory is what the activations add to the weights.
    """
    from neurocli import profile as run

    with progress() as listener:
        result = run(
            *(models or ()),
            *(name for text in more or () for name in options.words(text)),
            runs=runs,
            room=room,
            threads=threads,
            warmup=warmup,
            trace=trace,
            jobs=jobs,
            out=out,
            mode=mode,
            input_shape=options.sizes(input_shape, "--input-shape"),
            device=device or "auto",
            set=settings or (),
            preset=preset,
            config=config,
            stage_wise=stage_wise,
            fake=fake,
            listener=listener,
        )
    output = sink()
    for note in result.notes:
        output.note(note)
    values = {
        "models": result.models,
        "left_out": result.left_out,
        "notes": result.notes,
        "files": result.files,
    }
    names = "\n".join(str(row["model"]) for row in result.models)
    stages = [_stages(row) for row in result.models if row["stages"]]
    output.show("profile", values, main=names, view=[_table(result.models), *stages])
    for path in result.files:
        output.hint(f"written: {path}")
    return output.left_out(result.left_out)


def _table(models: list[dict[str, Any]]) -> Table:
    columns = ("model", "params", "MACs", "forward ms", "train step ms", "forward MiB", "train MiB")
    rows = [
        (
            row["model"],
            row["params"],
            row["macs"],
            _time(row["latency_ms"] if row["pam_inference_bytes"] else None),
            _time(row.get("latency_train_ms")),
            _mib(row["pam_inference_bytes"]),
            _mib(row["pam_train_bytes"]),
        )
        for row in models
    ]
    about = models[0] if models else {}
    shape = "x".join(str(size) for size in about.get("input_shape", ()))
    return Table(columns, rows, f"one sample of {shape} on {about.get('device')}, medians")


def _stages(model: Mapping[str, Any]) -> Table:
    """Return a model's stages: the most that is alive while each runs, and what it keeps."""
    rows = [
        (
            row["stage_name"],
            row["mode"],
            row["pam_mean"] / _MIB,
            row["output_bytes"] / _MIB,
            row["saved_bytes"] / _MIB if row["mode"] == "train" else None,
        )
        for row in model["stages"]
    ]
    columns = ("stage", "pass", "peak MiB", "output MiB", "kept MiB")
    return Table(columns, rows, f"{model['model']}, stage by stage, forward")


def _time(latency: Mapping[str, Any] | None) -> str | None:
    if not latency:
        return None
    return f"{cell_text(latency['median'])} +- {cell_text(latency['std'])}"


def _mib(memory: Mapping[str, float] | None) -> float | None:
    return None if memory is None else memory["mean"] / _MIB
