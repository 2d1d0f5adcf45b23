"""From runs to the rows of an experiment's tables; `tables` says how they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from neurocli.core.report.collect import Run
from neurocli.core.report.costs import Costs
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.records import as_mapping, as_number
from neurocli.core.report.tables import DISTANCES, SEGMENTATION, Row, Value

Costed = Sequence[tuple[Run, Costs]]
_EXPERIMENT = "experiment.json"
_FOLD = re.compile(r"_fold_([0-9]{1,4})$")


def identity(run: Run) -> dict[str, Value]:
    """Return what tells a row of one run from that of another: dataset, seed, fold, model."""
    path = run.settings.get("data.path")
    seed, fold = as_number(run.settings.get("run.seed")), _fold(run)
    return {
        "dataset": "built-in" if run.is_built_in or not path else Path(str(path)).name,
        "seed": None if seed is None else int(seed),
        "fold": fold,
        "model_name": run.method,
    }


def _fold(run: Run) -> int | None:
    recorded = run.result.get("fold", run.settings.get("run.fold"))
    number = as_number(recorded)
    if number is None and (run.folder.parent / _EXPERIMENT).is_file():
        # An experiment names the folders of its runs after model, seed and fold.
        found = _FOLD.search(run.folder.name)
        number = None if found is None else float(found[1])
    return None if number is None else int(number)


def run_rows(costed: Costed) -> list[Row]:
    """Return one row per run: what it is, what it costs, how well it does on test and val.

    Args:
        costed: Runs with their costs.
    """
    return [_run_row(run, costs) for run, costs in costed]


def _run_row(run: Run, costs: Costs) -> Row:
    row: dict[str, Value] = {
        **identity(run),
        "total_params": _whole(costs.params),
        "flops": _whole(costs.flops),
        "pam_train": costs.pam_train,
        "pam_inference": costs.pam_inference,
        "inference_latency_ms": costs.latency_ms,
    }
    judged = judged_by_part(run)
    best = as_mapping(run.result.get("best"))
    row["best_epoch"] = _whole(as_number(best.get("epoch")))
    if any("dice_mean" in row.metrics for row in run.evaluations):
        for column, (part, name) in {**SEGMENTATION, **DISTANCES}.items():
            row[column] = _metric(judged, part, name)
        distances = [row[column] for column in DISTANCES]
        known = [value for value in distances if isinstance(value, float)]
        row["test_hd95_mean"] = sum(known) / len(known) if len(known) == len(DISTANCES) else None
        kept = _best_epoch(run)
        for column, (part, name) in SEGMENTATION.items():
            # Validation was judged while training, on the very checkpoint that was kept.
            if part == "val" and row[column] is None:
                row[column] = kept.get(f"val_{name}")
        return row
    for part in ("test", "val"):
        if part in judged:
            row |= {f"{part}_{name}": value for name, value in judged[part].metrics.items()}
    return {
        **{f"{name}": value for name, value in _best_epoch(run).items() if "val_" in name},
        **row,
    }


def judged_by_part(run: Run) -> dict[str, Evaluation]:
    """Return part -> judgement; of several of one part the first, and none of training data."""
    found: dict[str, Evaluation] = {}
    for evaluation in run.evaluations:
        if not evaluation.in_sample:
            found.setdefault(evaluation.part, evaluation)
    return found


def _metric(judged: dict[str, Evaluation], part: str, name: str) -> float | None:
    return judged[part].metrics.get(name) if part in judged else None


def _best_epoch(run: Run) -> dict[str, float]:
    epoch = as_number(as_mapping(run.result.get("best")).get("epoch"))
    return dict(run.curves.epochs.get(int(epoch), {})) if epoch is not None else {}


def _whole(value: float | None) -> int | float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def epoch_rows(costed: Costed) -> list[Row]:
    """Return one row per epoch of every run; the test score stands on the best epoch alone."""
    return [row for run, _ in costed for row in _epochs(run)]


def _epochs(run: Run) -> Iterator[Row]:
    best = as_number(as_mapping(run.result.get("best")).get("epoch"))
    segments = any("val_dice_mean" in numbers for numbers in run.curves.epochs.values())
    judged = judged_by_part(run)
    for epoch, numbers in run.curves.epochs.items():
        row: dict[str, Value] = {**identity(run), "epoch": epoch}
        row["train_loss"], row["val_loss"] = numbers.get("train_loss"), numbers.get("val_loss")
        if segments:
            row["train_dice"] = numbers.get("train_dice", numbers.get("train_dice_mean"))
            for column, name in (("dice", "mean"), ("wt", "wt"), ("tc", "tc"), ("et", "et")):
                row[f"val_{column}"] = numbers.get(f"val_dice_{name}")
            if epoch == best:
                row["test_dice"] = _metric(judged, "test", "dice_mean")
        else:
            row |= {key: value for key, value in numbers.items() if key not in row}
        yield row


def stage_rows(costed: Costed) -> list[Row]:
    """Return one row per stage, mode and run, where memory was profiled by stage."""
    rows: list[Row] = []
    for run, costs in costed:
        for stage in costs.stages:
            numbers = {key: as_number(stage.get(key)) for key in ("pam_mean", "pam_std")}
            rows.append(
                {
                    **identity(run),
                    "mode": str(stage.get("mode")),
                    "stage_name": str(stage.get("stage_name")),
                    **numbers,
                    "num_runs": _whole(as_number(stage.get("num_runs"))),
                }
            )
    return rows
