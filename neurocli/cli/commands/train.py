"""`neuro train`: a model name, data and a few options in; a run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocli.cli import options
from neurocli.cli.options import value
from neurocli.cli.output import sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.progress import clock_text, progress
from neurocli.cli.ranks import Processes, run_in_processes
from neurocli.cli.views import command_line, experiment_view, facts, plan_view

if TYPE_CHECKING:
    from neurocli.core.engine.outcome import RunResult
    from neurocli.core.experiment.run import ExperimentResult

    pass

_GOAL, _DATA, _FIT, _RUN = "What is learned", "Data", "Optimisation", RUN_PANEL

app = new_group()


@add_verb(
    app,
    "train",
    """
neuro train fmamba --pretrain ar
neuro train fmamba --pretrain ar --data h5 -s data.sequence_length=8
neuro train fmamba_mlp --task sex --data h5 --split s.json --init-from a.pth
neuro train fmamba_mlp --task age --task-type regression --data h5
neuro train fmamba --pretrain ar --data ukb --data abcd
neuro train unet3d_xs --data tumours --split tumours.json
neuro train unet3d_xs dualbranch_01_unet_xs --seeds 24,42 --folds 5
neuro train cebra --pretrain time --data sessions
neuro train fmamba --data h5 --procs 2
torchrun --nproc_per_node=2 -m neurocli train fmamba --data h5 --parallel fsdp
neuro train --resume runs/fmamba-ar-1
neuro evaluate "$(neuro train fmamba -q)"
""",
)
def train(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL", help="A name of `neuro models list`; several, or patterns."
        ),
    ] = None,
    pretrain: Annotated[
        str | None,
        value("OBJECTIVE", "Without labels: ar, mim, contrastive; time for cebra.", _GOAL),
    ] = None,
    task: Annotated[
        str | None, value("COLUMN", "Predict a phenotype, such as sex or age.", _GOAL)
    ] = None,
    task_type: Annotated[
        str | None,
        value("classification|regression", "Kind of phenotype; guessed if not given.", _GOAL),
    ] = None,
    init_from: Annotated[
        Path | None, value("CKPT", "Start from the weights of a checkpoint.", _GOAL)
    ] = None,
    freeze: Annotated[
        bool | None, options.switch("--freeze", "Train the head only.", _GOAL)
    ] = None,
    data: Annotated[
        list[Path] | None,
        value("DIR", "Dataset folder; again to join another; else the built-in cohort.", _DATA),
    ] = None,
    split: Annotated[
        Path | None, value("FILE", "Split file; by a hash of seed and id if not given.", _DATA)
    ] = None,
    folds: Annotated[
        int | None, value("K", "Cross-validate: one run for each fold.", _DATA)
    ] = None,
    batch_size: Annotated[int | None, value("N", "Samples per batch.", _DATA)] = None,
    epochs: Annotated[int | None, value("N", "Passes over the training part.", _FIT)] = None,
    steps: Annotated[int | None, value("N", "Optimiser steps; wins over epochs.", _FIT)] = None,
    lr: Annotated[float | None, value("X", "Peak learning rate.", _FIT)] = None,
    accumulate: Annotated[int | None, value("N", "Batches per optimiser step.", _FIT)] = None,
    ema: Annotated[float | None, value("X", "Average the weights, such as 0.999.", _FIT)] = None,
    early_stop: Annotated[
        int | None, value("N", "Stop after N epochs without progress.", _FIT)
    ] = None,
    precision: Annotated[str | None, value("fp32|bf16|fp16", "Arithmetic.", _FIT)] = None,
    parallel: Annotated[
        str | None, value("none|ddp|fsdp|deepspeed", "How processes share the model.", _FIT)
    ] = None,
    preset: options.Preset = None,
    config: options.ConfigFile = None,
    settings: options.Settings = None,
    out: Annotated[
        Path | None, value("DIR", "Run folder; a fresh name if not given.", _RUN, "--out", "-o")
    ] = None,
    resume: Annotated[
        Path | None, value("RUN", "Go on with an interrupted run, or experiment.", _RUN)
    ] = None,
    seed: options.Seed = None,
    seeds: Annotated[str | None, value("LIST", "One run for each, as 24,42 or 1-10.", _RUN)] = None,
    device: options.Device = None,
    procs: Processes = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Train a model.

    Without --data the built-in cohort of the model's room is used, and said so. A run folder
    holds the configuration with the origin of every value, logs, metrics and checkpoints. -q
    prints the best checkpoint, which `neuro evaluate` takes. --procs, or torchrun, shares
    every batch among processes: the batch size counts over all of them.

    Several models, seeds or folds train one after another into one experiment folder, which
    is then printed: a run folder for each, judged on its test part, tables over all of them and a
    paired comparison. The same command over the same --out goes on where it was stopped.
    """
    if procs is not None:
        return run_in_processes(procs)
    import neurocli
    from neurocli.core.experiment.plan import is_experiment

    chosen = options.whole_numbers(seeds, "--seeds") or None
    several = is_experiment(models or (), chosen, folds, resume)
    run = neurocli.run_experiment if several else neurocli.train
    with progress() as listener:
        result: Any = run(
            *(models or ()),
            pretrain=pretrain,
            task=task,
            task_type=task_type,
            init_from=init_from,
            freeze=freeze,
            data=data or None,
            split=split,
            folds=folds,
            batch_size=batch_size,
            epochs=epochs,
            steps=steps,
            lr=lr,
            accumulate=accumulate,
            ema=ema,
            early_stop=early_stop,
            precision=precision,
            parallel=parallel,
            preset=preset,
            config=config,
            set=settings or (),
            out=out,
            resume=resume,
            seed=seed,
            seeds=chosen,
            device=device,
            force=force,
            dry_run=dry_run,
            listener=listener,
        )
    # A run has one checkpoint, an experiment many runs.
    return _show_experiment(result) if hasattr(result, "runs") else _show(result)


def _show_experiment(result: ExperimentResult) -> int:
    output = sink()
    for note in result.notes:
        output.note(note)
    values = {
        "experiment": result.out,
        "runs": result.runs,
        "comparison": result.comparison,
        "seconds": result.seconds,
        "built_in_data": result.built_in_data,
        "left_out": [list(pair) for pair in result.left_out],
        "notes": result.notes,
    }
    if result.plan is not None:
        output.show("train", {**values, "plan": result.plan}, view=plan_view(result.plan))
        return output.left_out(result.left_out)
    output.show("train", values, main=result.out, view=experiment_view(result))
    output.hint(command_line("neuro", "report", result.out, "-o", "report.html"))
    return output.left_out(result.left_out)


def _show(result: RunResult) -> int:
    output = sink()
    for note in result.notes:
        output.note(note)
    best = result.best
    values = {
        "run": result.run,
        "checkpoint": result.checkpoint,
        "best": best,
        "epochs": result.epochs,
        "steps": result.steps,
        "seconds": result.seconds,
        "built_in_data": result.built_in_data,
        "model": result.model,
        "notes": result.notes,
        "left_out": result.left_out,
    }
    if result.plan is not None:
        output.show("train", {**values, "plan": result.plan}, view=plan_view(result.plan))
        return output.left_out(result.left_out)
    rows = [
        ("model", result.model),
        (f"best {best['metric']}", best["value"]),
        ("of", f"{best['part']} part, epoch {best['epoch']}"),
        ("trained", f"{result.epochs} epochs, {result.steps} steps, {clock_text(result.seconds)}"),
        ("data", "built-in synthetic cohort" if result.built_in_data else None),
        ("run", result.run),
        ("checkpoint", result.checkpoint),
    ]
    # -q gives the checkpoint and not the folder, because `neuro evaluate` takes it.
    output.show("train", values, main=result.checkpoint, view=[facts(rows)])
    output.hint(command_line("neuro", "evaluate", result.checkpoint))
    output.hint(command_line("neuro", "report", result.run, "-o", "report.html"))
    return output.left_out(result.left_out)
