"""Judging a checkpoint: rebuild the model, read the data, one row per sample, then metrics.

Which people are judged is never left open: the part is named in the result, and a result on
people the model was trained on says so.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from neurocli.core.catalog import find_model, find_task, resolve
from neurocli.core.config.flags import flag_layer
from neurocli.core.config.load import check_layers, plain_layer, settings_layer
from neurocli.core.config.nodes import Leaf
from neurocli.core.config.run import RunConfig
from neurocli.core.data.tables import safe_cell
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.rows import gather_rows
from neurocli.core.engine.runtime import pick_device, seed_everything, set_threads
from neurocli.core.engine.task import Rows, RunData, SampleSet, Summary, Task
from neurocli.core.engine.weights import load_weights
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.events import Listener, Note, ignore
from neurocli.core.paths import durable_json, durable_write

PARTS = ("test", "val", "train", "all")
_WRITTEN = ("metrics.json", "per_subject.csv", "predictions")


class EvaluateOptions(TypedDict, total=False):
    """Name every option of `evaluate`; they equal the flags of `neuro evaluate`."""

    data: str | Path | None
    split: str | Path | None
    part: str | None
    out: str | Path | None
    device: str | None
    batch_size: int | None
    set: Sequence[str]
    save_predictions: bool
    force: bool
    dry_run: bool
    listener: Listener


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
        n: How many they are.
        metrics: Name -> value; NaN where undefined.
        ci95: Name -> (low, high); absent where undefined.
        baselines: Baseline -> its metrics on the same people.
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
    metrics: Mapping[str, float] = field(default_factory=dict)
    ci95: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: Mapping[str, Any] | None = None


def evaluate(checkpoint: str | Path, **options: Unpack[EvaluateOptions]) -> EvalResult:
    """Judge a checkpoint on a dataset.

    Args:
        checkpoint: A `.pth` of a run.
        **options: The flags of `neuro evaluate`, None where not given.

    Returns:
        Metrics with intervals and baselines.

    Raises:
        InputError: The checkpoint or the data cannot be read.
        UsageError: Options do not fit the checkpoint.
        NeuroError: Nobody is left to judge.
    """
    path, listener = Path(checkpoint), options.get("listener", ignore)
    payload = load_checkpoint(path)
    config = _config(payload, options, path)
    device = pick_device(config.run.device)
    set_threads(config.run.threads)
    room, card = find_model(config.model.name)
    split = None if options.get("split") else payload["split"]
    data: RunData = resolve(room.open_data)(config, listener, split=split, like=payload["info"])
    samples, part, notes = _choose(data, options.get("part"))
    seen = _seen(samples, payload)
    notes = [*data.notes, *notes, *seen]
    for note in notes:
        listener(Note(note, "warning" if seen or data.built_in_data else "info"))
    result = EvalResult(
        checkpoint=path,
        model=card.name,
        part=part,
        out=Path(options.get("out") or _default_out(path, part)),
        in_sample=bool(seen),
        built_in_data=data.built_in_data,
        left_out=data.left_out,
        notes=notes,
    )
    _claim(result.out, force=bool(options.get("force")))
    if options.get("dry_run"):
        plan = {"would_write": str(result.out), "samples": sum(map(len, samples))}
        return replace(result, plan=plan)
    task: Task = resolve(find_task(room, payload["objective"]).task)(config)
    task.load_state_dict(payload["task_state"])
    seed_everything(config.run.seed)
    model = task.build(payload["info"])
    load_weights(model, payload["state_dict"], label=str(path))
    model.to(device)
    rows: Rows = []
    for chosen in samples:
        rows += gather_rows(task, model, chosen, config, device, listener=listener)
    summary = task.summarise(rows)
    result = replace(
        result,
        n=summary.n,
        metrics=summary.metrics,
        ci95=summary.ci95,
        baselines=summary.baselines,
    )
    _write(result, summary, rows if options.get("save_predictions") else None)
    return result


def _config(payload: Mapping[str, Any], options: EvaluateOptions, path: Path) -> RunConfig:
    keys = {
        "data": "data.path",
        "split": "data.split",
        "device": "run.device",
        "batch_size": "data.eval_batch_size",
    }
    given = {name: options.get(name) for name in keys}
    # The run's split is inside the checkpoint, and its weights need no other start.
    dropped = ("data.split", "train.init_from", "train.freeze")
    stored = plain_layer(payload["config"], str(path))
    layers = [
        {key: leaf for key, leaf in stored.items() if key not in dropped},
        settings_layer(options.get("set") or ()),
        {key: Leaf(value, flag) for key, (flag, value) in flag_layer(given, keys).items()},
    ]
    return check_layers(layers).config


def _choose(data: RunData, asked: str | None) -> tuple[list[SampleSet], str, list[str]]:
    if asked is not None and asked not in PARTS:
        raise UsageError(f"unknown part '{asked}'", hint=f"choices: {', '.join(PARTS)}")
    if asked is None and "test" not in data.parts:
        note = "nobody of this data is in the test part, so everybody is judged"
        return list(data.parts.values()), "all", [note]
    if asked == "all":
        return list(data.parts.values()), "all", []
    part = asked or "test"
    for name, samples in data.parts.items():
        if name == part:
            return [samples], part, []
    raise NeuroError(
        f"nobody of the {part} part is in this data",
        hint=f"parts with data: {', '.join([p for p in PARTS if p in data.parts] or ['none'])}; "
        "or use --part all",
    )


def _seen(samples: Sequence[SampleSet], payload: Mapping[str, Any]) -> list[str]:
    trained = set(payload["split"].get("train", ()))
    people = {person for chosen in samples for person in chosen.participants}
    if not people & trained:
        return []
    return [
        f"in-sample figures: the model was trained on {len(people & trained)} of these "
        f"{len(people)} participants"
    ]


def _default_out(path: Path, part: str) -> Path:
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return run / "evaluations" / part


def _claim(out: Path, *, force: bool) -> None:
    entries = out.iterdir() if out.is_dir() else ()
    strangers = sorted(entry.name for entry in entries if entry.name not in _WRITTEN)
    if strangers and not force:
        raise UsageError(
            f"the output folder holds other files ({strangers[0]})",
            where=str(out),
            hint="choose another --out, or --force to write beside them",
        )


def metrics_record(result: EvalResult) -> dict[str, Any]:
    """Return a judgement as plain values for JSON; undefined numbers become None."""
    return {
        "schema": "neuro/evaluate/1",
        "checkpoint": str(result.checkpoint),
        "model": result.model,
        "part": result.part,
        "n": result.n,
        "metrics": {name: _finite(value) for name, value in result.metrics.items()},
        "ci95": {name: list(interval) for name, interval in result.ci95.items()},
        "out": str(result.out),
        "baselines": {
            baseline: {name: _finite(value) for name, value in values.items()}
            for baseline, values in result.baselines.items()
        },
        "in_sample": result.in_sample,
        "built_in_data": result.built_in_data,
        "left_out": [list(row) for row in result.left_out],
        "notes": result.notes,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _write(result: EvalResult, summary: Summary, rows: Rows | None) -> None:
    durable_write(result.out / "per_subject.csv", _as_csv(summary.per_subject))
    if rows is not None:
        durable_write(result.out / "predictions" / "samples.csv", _as_csv(rows))
    # Last: a folder with metrics.json is complete.
    durable_json(result.out / "metrics.json", metrics_record(result))


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([safe_cell(row.get(key, "")) for key in columns])
    return text.getvalue()
