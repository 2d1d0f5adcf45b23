"""The tables of an experiment: their names, their columns and how they are written, in one place.

One row per run, per epoch, per stage, and means over the runs of a model. The columns up to
`best_epoch` are those that other programs of the field write; runs that segment nothing have the
same head and their own metrics as `test_<metric>` and `val_<metric>`. Memory is in bytes, latency
in milliseconds, both with one sample at a time; an empty cell was not measured.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from neurocli.core.data.tables import safe_cell

Value = str | float | int | None
Row = Mapping[str, Value]

RUNS_FILE = "integrated_experiment_results.csv"
EPOCHS_FILE = "all_epochs_results.csv"
MODELS_FILE = "model_comparison.csv"
MODELS_TIDY_FILE = "model_comparison_tidy.csv"
STAGES_FILE = "stage_wise_pam_results.csv"

# Tables that only an experiment writes, and what they hold.
FOREIGN = {
    "comparison.csv": "differences between models with intervals",
    "per_case.csv": "one row per case and run",
}

KEYS = ("dataset", "seed", "fold", "model_name")
COSTS = ("total_params", "flops", "pam_train", "pam_inference", "inference_latency_ms")
# Column -> (part, metric): the names of the field are not those of the metrics here.
SEGMENTATION: Mapping[str, tuple[str, str]] = {
    "test_dice": ("test", "dice_mean"),
    "test_wt": ("test", "dice_wt"),
    "test_tc": ("test", "dice_tc"),
    "test_et": ("test", "dice_et"),
    "val_dice": ("val", "dice_mean"),
    "val_wt": ("val", "dice_wt"),
    "val_tc": ("val", "dice_tc"),
    "val_et": ("val", "dice_et"),
    "precision": ("test", "precision"),
    "recall": ("test", "recall"),
}
DISTANCES: Mapping[str, tuple[str, str]] = {
    f"test_hd95_{name}": ("test", f"hd95_{name}") for name in ("wt", "tc", "et")
}
RUN_COLUMNS = (
    *KEYS, *COSTS, *SEGMENTATION, "best_epoch", *DISTANCES, "test_hd95_mean",
)  # fmt: skip
EPOCH_COLUMNS = (
    *KEYS, "epoch", "train_loss", "train_dice", "val_loss", "val_dice", "val_wt", "val_tc",
    "val_et", "test_dice",
)  # fmt: skip
STAGE_COLUMNS = (*KEYS, "mode", "stage_name", "pam_mean", "pam_std", "num_runs")
MODEL_COLUMNS = (
    "test_dice", "val_dice", "precision", "recall", "pam_train", "pam_inference",
    "inference_latency_ms",
)  # fmt: skip
_OTHER_HEAD = (*KEYS, *COSTS, "best_epoch")
_DIGITS = 4


def run_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns of the table of runs: the described ones where anything segments.

    Args:
        rows: One per run; keys beyond the described columns follow them, in order of appearance.
    """
    head = RUN_COLUMNS if _segments(rows) else _OTHER_HEAD
    more = dict.fromkeys(key for row in rows for key in row if key not in RUN_COLUMNS)
    return (*head, *more)


def epoch_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns of the table of epochs, chosen as in `run_columns`."""
    is_described = any(row.get("val_dice") is not None for row in rows)
    head = EPOCH_COLUMNS if is_described else (*KEYS, "epoch", "train_loss", "val_loss")
    more = dict.fromkeys(key for row in rows for key in row if key not in EPOCH_COLUMNS)
    return (*head, *more)


def _segments(rows: Sequence[Row]) -> bool:
    return any(row.get(name) is not None for row in rows for name in SEGMENTATION)


def table_text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return rows as CSV, numbers in full, missing ones empty, no cell that starts a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return text.getvalue()


def _cell(value: Value) -> str:
    if value is None:
        return ""
    return safe_cell(value) if isinstance(value, str) else repr(value)


def model_means(
    rows: Sequence[Row], columns: Sequence[str]
) -> dict[str, dict[str, tuple[float, float | None, int]]]:
    """Return model -> column -> (mean, standard deviation, number of runs).

    The deviation is that of a sample (n - 1), None for one run; runs without a value do not count.

    Args:
        rows: Of the table of runs.
        columns: What to average.
    """
    found: dict[str, dict[str, tuple[float, float | None, int]]] = {}
    for model in dict.fromkeys(str(row.get("model_name")) for row in rows):
        own = [row for row in rows if str(row.get("model_name")) == model]
        found[model] = {}
        for column in columns:
            cells = [row.get(column) for row in own]
            values = [float(cell) for cell in cells if isinstance(cell, (int, float))]
            if values:
                spread = stdev(values) if len(values) > 1 else None
                found[model][column] = (fmean(values), spread, len(values))
    return found


def mean_columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns of the table of models: the described ones, or all metrics and costs."""
    if _segments(rows):
        return MODEL_COLUMNS
    names = [key for key in run_columns(rows) if key.startswith(("test_", "val_"))]
    return (*names, "pam_train", "pam_inference", "inference_latency_ms")


def models_text(rows: Sequence[Row]) -> str:
    """Return the table of models under two header lines, as pandas reads it (`header=[0, 1]`).

    Args:
        rows: Of the table of runs.
    """
    columns = mean_columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model_name", *(column for column in columns for _ in range(2))])
    writer.writerow(["", *("mean", "std") * len(columns)])
    for model, means in model_means(rows, columns).items():
        cells = []
        for column in columns:
            mean, spread, _ = means.get(column, (None, None, 0))
            cells += [_rounded(mean), _rounded(spread)]
        writer.writerow([safe_cell(model), *cells])
    return text.getvalue()


def models_tidy_text(rows: Sequence[Row]) -> str:
    """Return the table of models with one row per model and metric."""
    means = model_means(rows, mean_columns(rows))
    flat: list[Row] = [
        {"model_name": model, "measure": name, "n": n, "mean": mean, "std": spread}
        for model, found in means.items()
        for name, (mean, spread, n) in found.items()
    ]
    return table_text(("model_name", "measure", "n", "mean", "std"), flat)


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.{_DIGITS}f}"
