"""What an evaluation found, as values and as files.

`metrics.json` is written last: a folder that holds it is complete.
"""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.arrays import npy_bytes
from neurocli.core.data.tables import safe_cell
from neurocli.core.errors import UsageError
from neurocli.core.paths import durable_json, durable_write, safe_name

if TYPE_CHECKING:  # the classes of the engine come with torch, a judgement need not
    from neurocli.core.engine.judge import Embeddings
    from neurocli.core.engine.task import Explainer, Rows

EXPLANATIONS = "explanations"
_WRITTEN = (
    "metrics.json", "per_subject.csv", "per_site.csv", "per_dataset.csv", "predictions",
    "embeddings.npz", "embeddings.csv", "embeddings", "pictures", EXPLANATIONS,
)  # fmt: skip


@dataclass(frozen=True)
class EvalResult:
    """Hold the judgement of a checkpoint.

    Args:
        checkpoint: The file.
        model: Model name.
        part: The people judged: test, val, train or all.
        out: Where metrics.json and per_subject.csv are.
        in_sample: Whether some of them were in the training part.
        built_in_data: Whether the built-in cohort was judged.
        n: How many units they are.
        unit: Plural of what a unit is: subjects, or windows that carry their own labels.
        metrics: Name -> value; NaN where undefined.
        ci95: Name -> (low, high); absent where undefined.
        baselines: Baseline -> its metrics on the same people.
        baseline_ci95: Baseline -> its intervals; absent where it has none.
        verdicts: Baseline -> metric -> what the intervals carry.
        per_site: One row per site: `site`, `n` and the metrics of sites that are large enough.
        per_dataset: The same of joined datasets, under `dataset`.
        details: What only this objective has, such as a confusion matrix.
        left_out: (name, reason) of what was found and could not be used.
        notes: Sentences the user should read.
        plan: What would be done, when nothing was done.
    """

    checkpoint: Path
    model: str
    part: str
    out: Path
    in_sample: bool
    built_in_data: bool
    n: int = 0
    unit: str = "subjects"
    metrics: Mapping[str, float] = field(default_factory=dict)
    ci95: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    baseline_ci95: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    per_site: list[dict[str, Any]] = field(default_factory=list)
    per_dataset: list[dict[str, Any]] = field(default_factory=list)
    details: Mapping[str, Any] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: Mapping[str, Any] | None = None


def claim_folder(out: Path, *, force: bool) -> None:
    """Refuse a folder that holds files of others.

    Args:
        out: Where a judgement will be written.
        force: Write beside them.

    Raises:
        UsageError: There are such files.
    """
    entries = out.iterdir() if out.is_dir() else ()
    strangers = sorted(entry.name for entry in entries if entry.name not in _WRITTEN)
    if strangers and not force:
        raise UsageError(
            f"the output folder holds other files ({strangers[0]})",
            where=str(out),
            hint="choose another --out, or --force to write beside them",
        )


def result_values(result: EvalResult) -> dict[str, Any]:
    """Return what a judgement says, in the order and under the names of `metrics.json`."""
    return {
        "checkpoint": str(result.checkpoint),
        "model": result.model,
        "part": result.part,
        "n": result.n,
        "metrics": result.metrics,
        "ci95": {name: list(interval) for name, interval in result.ci95.items()},
        "out": str(result.out),
        "unit": result.unit,
        "baselines": result.baselines,
        "baseline_ci95": {
            baseline: {name: list(interval) for name, interval in row.items()}
            for baseline, row in result.baseline_ci95.items()
        },
        "verdicts": result.verdicts,
        "per_site": result.per_site,
        "per_dataset": result.per_dataset,
        **result.details,
        "in_sample": result.in_sample,
        "notes": result.notes,
        "built_in_data": result.built_in_data,
        "left_out": [list(row) for row in result.left_out],
    }


def metrics_record(result: EvalResult) -> dict[str, Any]:
    """Return a judgement as plain values for JSON; undefined numbers become None."""
    return {"schema": "neuro/evaluate/1", **_plain(result_values(result))}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_judgement(
    result: EvalResult,
    per_subject: Rows,
    *,
    rows: Rows | None = None,
    embeddings: Embeddings | None = None,
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    pictures: Mapping[str, npt.NDArray[Any]] | None = None,
    explainer: Explainer | None = None,
) -> EvalResult:
    """Write the files of a judgement; what an earlier one left and this one lacks is removed.

    Args:
        result: What was found; `out` is the folder.
        per_subject: One row per unit.
        rows: One row per sample; None leaves predictions out.
        embeddings: One vector per sample; None leaves them out.
        arrays: What the task keeps besides, as `embeddings/<name>.npy`.
        pictures: What a report draws, as `pictures/<name>.npy`.
        explainer: Writes its maps; None leaves them out.

    Returns:
        The result with what the explainer says.

    Raises:
        NeuroError: The disk is full or the folder cannot be written.
    """
    out = result.out
    # Without metrics.json the folder counts as unfinished while it is rewritten.
    (out / "metrics.json").unlink(missing_ok=True)
    durable_write(out / "per_subject.csv", table_text(per_subject))
    tables = {
        "per_site.csv": result.per_site,
        "per_dataset.csv": result.per_dataset,
        "predictions/samples.csv": rows,
    }
    for name, table in tables.items():
        if table:
            durable_write(out / name, table_text(table))
        else:
            (out / name).unlink(missing_ok=True)
    if rows is None:
        # Images of an earlier judgement must not pass for this one's.
        for image in (out / "predictions").glob("*.nii.gz"):
            image.unlink()
    _write_embeddings(out, embeddings)
    _write_arrays(out / "embeddings", arrays or {})
    _write_arrays(out / "pictures", pictures or {})
    shutil.rmtree(out / EXPLANATIONS, ignore_errors=True)
    if explainer is not None:
        said = explainer.write(out / EXPLANATIONS)
        result = replace(result, notes=[*result.notes, *said])
    durable_json(out / "metrics.json", metrics_record(result))
    return result


def _write_embeddings(out: Path, embeddings: Embeddings | None) -> None:
    arrays_path, table_path = out / "embeddings.npz", out / "embeddings.csv"
    if embeddings is None:
        arrays_path.unlink(missing_ok=True)
        table_path.unlink(missing_ok=True)
        return
    names, starts = embeddings.names, embeddings.starts
    content = io.BytesIO()
    arrays: dict[str, Any] = {key: np.array(values, dtype=np.str_) for key, values in names.items()}
    np.savez(
        content, features=embeddings.features, start=np.array(starts, dtype=np.int64), **arrays
    )
    durable_write(arrays_path, content.getvalue())
    index = [
        {"row": i, **{key: values[i] for key, values in names.items()}, "start": start}
        for i, start in enumerate(starts)
    ]
    durable_write(table_path, table_text(index))


def _write_arrays(folder: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    written = {safe_name(name) + ".npy": values for name, values in arrays.items()}
    for path in folder.glob("*.npy"):
        if path.name not in written:
            path.unlink()
    for name, values in written.items():
        durable_write(folder / name, npy_bytes(values))


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; columns in order of appearance, cells that start no formula."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([safe_cell(row.get(key, "")) for key in columns])
    return text.getvalue()
