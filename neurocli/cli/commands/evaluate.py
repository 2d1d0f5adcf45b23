"""`neuro evaluate`: a checkpoint and data in; metrics with intervals and baselines out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurocli.cli import options
from neurocli.cli.options import switch, value
from neurocli.cli.output import Table, sink
from neurocli.cli.page import RUN_PANEL, add_verb, new_group
from neurocli.cli.progress import progress
from neurocli.cli.text import cell_text
from neurocli.cli.views import plan_view

if TYPE_CHECKING:
    from neurocli.core.engine.judgement import EvalResult

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
""",
)
def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="A checkpoint, or the folder of a run.")
    ],
    data: Annotated[
        Path | None, value("DIR", "Dataset folder; that of the run if not given.", _DATA)
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
        value("gradients|occlusion", "Map what carries each output, as NIfTI images.", _RUN),
    ] = None,
    device: options.Device = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> int:
    """Judge a checkpoint on held-out subjects.

    Each metric is shown with its 95 % interval, beside plain methods on the same
    subjects that were fitted on the training part: linear models on connectivity
    and regions, intensity thresholds for tumours, principal components for
    calcium imaging. "Better" is said only where the intervals part. The result
    says when subjects of the training part were judged.
    """
    from neurocli import evaluate as run

    with progress() as listener:
        result = run(
            checkpoint,
            data=data,
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
    return _show(result)


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
    if result.per_site:
        names = ["site", "n", *result.metrics]
        found.append(
            Table(names, [[row.get(k) for k in names] for row in result.per_site], "sites")
        )
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
