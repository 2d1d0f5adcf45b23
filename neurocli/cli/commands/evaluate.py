"""`neuro evaluate`: a checkpoint and data in; metrics with intervals and baselines out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocli.cli import options
from neurocli.cli.options import switch, value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.progress import progress
from neurocli.cli.ranks import Processes, run_in_processes
from neurocli.cli.text import cell_text
from neurocli.cli.views import comparison_view, plan_view

if TYPE_CHECKING:
    from neurocli.core.engine.judgement import EvalResult
    from neurocli.core.experiment.judge import ManyResult

_FIRST = 6  # metrics side by side
_DATA, _RUN, _TUMOUR = "Data", RUN_PANEL, "Segmentation checkpoints only"

app = new_group()


@add_verb(
    app,
    "evaluate",
    """
neuro evaluate runs/fmamba-ar-1/checkpoints/best.pth
neuro evaluate best.pth --data h5 --split split.json --part test --json
neuro evaluate "$(neuro train fmamba -q)" --json | jq .metrics
neuro evaluate best.pth --sliding-window --overlap 0.5 --save-predictions
neuro evaluate unet.pth ghost.pth --data tumours --part test
neuro evaluate experiment --ensemble --data others
""",
)
def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="CKPT",
            help="A checkpoint, or the folder of a run or an experiment; several are compared.",
        ),
    ],
    data: Annotated[
        list[Path] | None, value("DIR", "Dataset folder; that of the run if not given.", _DATA)
    ] = None,
    split: Annotated[
        Path | None, value("FILE", "Split file; that of the run if not given.", _DATA)
    ] = None,
    part: Annotated[
        str | None, value("test|val|train|all", "Who is judged; test if there is one.", _DATA)
    ] = None,
    batch_size: Annotated[int | None, value("N", "Samples per batch.", _DATA)] = None,
    sliding_window: Annotated[
        bool | None,
        switch("--sliding-window", "Whole volumes by overlapping windows.", _TUMOUR),
    ] = None,
    roi: Annotated[str | None, value("D,H,W", "Size of a window.", _TUMOUR)] = None,
    overlap: Annotated[float | None, value("X", "Share of a window.", _TUMOUR)] = None,
    blend: Annotated[
        str | None, value("cosine|gaussian|constant", "Weights of a window.", _TUMOUR)
    ] = None,
    tta: Annotated[bool | None, switch("--tta", "Average over mirrored copies.", _TUMOUR)] = None,
    empty: Annotated[
        str | None, value("brats|nan|zero", "Score of an absent tumour part.", _TUMOUR)
    ] = None,
    ensemble: Annotated[
        bool, switch("--ensemble", "Judge the mean of all checkpoints.", _TUMOUR)
    ] = False,
    settings: options.Settings = None,
    out: Annotated[
        Path | None, value("DIR", "Inside the run folder if not given.", _RUN, "--out", "-o")
    ] = None,
    save_predictions: Annotated[
        bool, switch("--save-predictions", "Keep every prediction.", _RUN)
    ] = False,
    embeddings: Annotated[
        bool, switch("--embeddings", "Keep one vector per clip, from before the head.", _RUN)
    ] = False,
    explain: Annotated[
        str | None,
        value(
            "gradients|occlusion|gradcam|modality|attribution",
            "What carries each output: fMRI by the first two, tumours by the next two, "
            "calcium imaging by the last.",
            _RUN,
        ),
    ] = None,
    device: options.Device = None,
    procs: Processes = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Judge a checkpoint on held-out subjects.

    Each metric is shown with its 95 % interval, beside plain methods on the same
    subjects that were fitted on the training part: linear models on connectivity
    and regions, intensity thresholds for tumours, principal components for
    calcium imaging. "Better" is said only where the intervals part. The result
    says when subjects of the training part were judged.

    Several checkpoints are compared case by case: differences with intervals and
    Wilcoxon's test (McNemar's where each case is right or wrong), corrected by
    Holm. --ensemble judges their mean instead.
    """
    if procs is not None:
        return run_in_processes(procs)
    from functools import partial

    import neurocli

    is_one = len(checkpoints) == 1 and not checkpoints[0].is_dir()
    run = neurocli.evaluate if is_one else partial(neurocli.evaluate_many, average=ensemble)
    with progress() as listener:
        result: Any = run(
            *checkpoints,
            data=data or None,
            split=split,
            part=part,
            batch_size=batch_size,
            sliding_window=sliding_window,
            roi=roi,
            overlap=overlap,
            blend=blend,
            tta=tta,
            empty=empty,
            set=settings or (),
            out=out,
            save_predictions=save_predictions,
            embeddings=embeddings,
            explain=explain,
            device=device,
            force=force,
            dry_run=dry_run,
            listener=listener,
        )
    return _show_many(result) if hasattr(result, "comparison") else _show(result)


def _show_many(result: ManyResult) -> int:
    from neurocli.core.engine.judgement import result_values

    output = sink()
    for note in result.notes:
        output.note(note)
    values = {
        "models": [
            {"name": name, **result_values(each), "plan": each.plan}
            for name, each in zip(result.names, result.results, strict=True)
        ],
        "comparison": result.comparison,
        "out": result.out,
        "left_out": [list(pair) for pair in result.left_out],
        "notes": result.notes,
    }
    rows = [
        [name, each.n, *(each.metrics.get(metric) for metric in list(each.metrics)[:_FIRST])]
        for name, each in zip(result.names, result.results, strict=True)
    ]
    first = list(result.results[0].metrics)[:_FIRST]
    table = Table(["model", "n", *first], rows, f"{result.results[0].part} part")
    view = [table, *comparison_view(result.comparison)]
    output.show("evaluate", values, main=result.out, view=view)
    return output.left_out(result.left_out)


def _show(result: EvalResult) -> int:
    output = sink()
    for note in result.notes:
        output.note(note, "warning" if result.in_sample else "info")
    from neurocli.core.engine.judgement import result_values

    values = result_values(result)
    if result.plan is not None:
        output.show("evaluate", {**values, "plan": result.plan}, view=plan_view(result.plan))
    else:
        output.show("evaluate", values, main=result.out, view=_tables(result))
        output.hint(f"per-subject table: {result.out / 'per_subject.csv'}")
    return output.left_out(result.left_out)


def _tables(result: EvalResult) -> list[Table]:
    # A figure on training subjects must not be readable without this remark.
    seen = ", trained on some of them" if result.in_sample else ""
    rows = [
        [
            name,
            metric,
            _interval(result.ci95.get(name)),
            *(_beside(result, baseline, name) for baseline in result.baselines),
        ]
        for name, metric in result.metrics.items()
    ]
    columns = ["metric", result.model, "95 % interval", *result.baselines]
    title = f"{result.part} part, n = {result.n} {result.unit}{seen}"
    found = [Table(columns, rows, title)]
    confusion = result.details.get("confusion")
    if confusion:
        counts = zip(confusion["classes"], confusion["counts"], strict=True)
        found.append(
            Table(
                ["true class", *(f"as {name}" for name in confusion["classes"])],
                [[name, *row] for name, row in counts],
                f"{confusion.get('unit', result.unit)} by true and predicted class",
            )
        )
    for word, groups in (("dataset", result.per_dataset), ("site", result.per_site)):
        if groups:
            names = [word, "n", *result.metrics]
            rows = [[row.get(name) for name in names] for row in groups]
            found.append(Table(names, rows, f"{word}s"))
    return found


def _beside(result: EvalResult, baseline: str, metric: str) -> str | None:
    number = result.baselines[baseline].get(metric)
    if number is None:
        return None
    said = result.verdicts.get(baseline, {}).get(metric)
    # The word is the model's: it is better than this column's method, or not.
    return f"{cell_text(number)} ({said})" if said in ("better", "worse") else cell_text(number)


def _interval(bounds: tuple[float, float] | None) -> str:
    return "undefined" if bounds is None else f"{cell_text(bounds[0])} to {cell_text(bounds[1])}"
