"""Profiles as tables: a row per model, and one per stage under the columns people know."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.paths import durable_write

STAGES = "stage_wise_pam_results.csv"
MODELS = "profile.csv"
_RUN = ("dataset", "seed", "fold")  # empty: a profile belongs to no training run
_STAGE = ("mode", "stage_name", "pam_mean", "pam_std", "num_runs")
_MODEL = (
    *("model_name", "total_params", "macs", "flops", "pam_train", "pam_train_std"),
    *("pam_inference", "pam_inference_std", "inference_latency_ms", "inference_latency_ms_std"),
    *("train_latency_ms", "train_latency_ms_std", "device", "input_shape"),
)


def write_tables(folder: Path, records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write what was measured, bytes and milliseconds, and return the files.

    Args:
        folder: Where to; made when missing.
        records: One per model, as `profile` gives them.

    Raises:
        NeuroError: A file cannot be written.
    """
    files = [_write(folder / MODELS, _MODEL, [_model_row(record) for record in records])]
    stages = [
        [*("" for _ in _RUN), record["model"], *(stage[key] for key in _STAGE)]
        for record in records
        for stage in record["stages"]
    ]
    if stages:
        files.append(_write(folder / STAGES, (*_RUN, "model_name", *_STAGE), stages))
    return files


def _model_row(record: Mapping[str, Any]) -> list[Any]:
    train, inference = (record[f"pam_{mode}_bytes"] or {} for mode in ("train", "inference"))
    forward = record["latency_ms"] if inference else {}
    step = record["latency_train_ms"]
    return [
        *(record[key] for key in ("model", "params", "macs", "flops")),
        *(memory.get(key, "") for memory in (train, inference) for key in ("mean", "std")),
        *(times.get(key, "") for times in (forward, step) for key in ("median", "std")),
        record["device"],
        "x".join(str(size) for size in record["input_shape"]),
    ]


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return durable_write(path, text.getvalue())
