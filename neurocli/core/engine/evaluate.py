"""Judging a checkpoint: rebuild the model, read the data, one row per sample, then metrics.

Which people are judged is never left open: the part is named in the result, and a result on
people the model was trained on says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from neurocli.core.catalog import find_model, find_task, resolve
from neurocli.core.config.flags import EVALUATE_KEYS, flag_layer
from neurocli.core.config.load import check_layers, plain_layer, settings_layer
from neurocli.core.config.nodes import Leaf
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.judge import Judge, per_site, verdicts, with_baselines
from neurocli.core.engine.judgement import EvalResult, claim_folder, write_judgement
from neurocli.core.engine.runtime import pick_device, seed_everything, set_threads
from neurocli.core.engine.task import RunData, SampleSet, Task
from neurocli.core.engine.weights import find_weights, load_weights
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.events import Listener, Note, ignore

PARTS = ("test", "val", "train", "all")


class EvaluateOptions(TypedDict, total=False):
    """Name every option of `evaluate`; they equal the flags of `neuro evaluate`."""

    data: str | Path | None
    split: str | Path | None
    part: str | None
    out: str | Path | None
    device: str | None
    batch_size: int | None
    sliding_window: bool | None
    roi: str | Sequence[int] | None
    overlap: float | None
    blend: str | None
    tta: bool | None
    empty: str | None
    set: Sequence[str]
    save_predictions: bool
    embeddings: bool
    explain: str | None
    force: bool
    dry_run: bool
    listener: Listener


def evaluate(checkpoint: str | Path, **options: Unpack[EvaluateOptions]) -> EvalResult:
    """Judge a checkpoint on a dataset.

    Args:
        checkpoint: A `.pth` of a run, or its folder.
        **options: The flags of `neuro evaluate`, None where not given.

    Returns:
        Metrics with intervals and baselines.

    Raises:
        InputError: The checkpoint or the data cannot be read.
        UsageError: Options do not fit the checkpoint.
        NeuroError: Nobody is left to judge.
    """
    listener = options.get("listener", ignore)
    path, _ = find_weights(Path(checkpoint))
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
    claim_folder(result.out, force=bool(options.get("force")))
    if options.get("dry_run"):
        plan = {"would_write": str(result.out), "samples": sum(map(len, samples))}
        return replace(result, plan=plan)
    judge = _rebuilt(payload, config, device, path, listener)
    if options.get("save_predictions"):
        judge.task.keep_predictions(result.out / "predictions")
    tuned = judge.tune(data.parts.get("val")) if part != "val" else []
    rows = judge.rows(samples)
    summary, more = with_baselines(judge.task, data, samples, judge.task.summarise(rows), listener)
    for note in (more := [*tuned, *summary.notes, *more]):
        listener(Note(note))
    result = replace(
        result,
        n=summary.n,
        unit=summary.unit,
        metrics=summary.metrics,
        ci95=summary.ci95,
        baselines=summary.baselines,
        baseline_ci95=summary.baseline_ci95,
        verdicts=verdicts(summary, in_sample=result.in_sample),
        per_site=per_site(judge.task, rows, data.sites),
        details=summary.details,
        notes=[*result.notes, *more],
    )
    method, train = options.get("explain"), data.parts.get("train")
    return write_judgement(
        result,
        summary.per_subject,
        rows=judge.task.prediction_rows(rows) if options.get("save_predictions") else None,
        embeddings=judge.embeddings(samples) if options.get("embeddings") else None,
        explainer=None if method is None else judge.explain(method, samples, train),
        arrays=summary.arrays,
    )


def _rebuilt(
    payload: Mapping[str, Any],
    config: RunConfig,
    device: torch.device,
    path: Path,
    listener: Listener,
) -> Judge:
    room, _ = find_model(config.model.name)
    task: Task = resolve(find_task(room, payload["objective"]).task)(config)
    task.load_state_dict(payload["task_state"])
    seed_everything(config.run.seed)
    model = task.build(payload["info"])
    load_weights(model, payload["state_dict"], label=str(path))
    return Judge(task, model.to(device), config, device, listener)


def _config(payload: Mapping[str, Any], options: EvaluateOptions, path: Path) -> RunConfig:
    given = {name: options.get(name) for name in EVALUATE_KEYS}
    _refuse_foreign(given, str(payload["model_name"]))
    # The run's split is inside the checkpoint, and its weights need no other start.
    dropped = ("data.split", "train.init_from", "train.freeze")
    stored = plain_layer(payload["config"], str(path))
    layers = [
        {key: leaf for key, leaf in stored.items() if key not in dropped},
        settings_layer(options.get("set") or ()),
        {key: Leaf(value, flag) for key, (flag, value) in flag_layer(given, EVALUATE_KEYS).items()},
    ]
    return check_layers(layers).config


def _refuse_foreign(given: Mapping[str, Any], model: str) -> None:
    room, _ = find_model(model)
    known = resolve(room.task_config).model_fields
    foreign = [
        f"--{name.replace('_', '-')}"
        for name, key in EVALUATE_KEYS.items()
        if given[name] is not None and key.startswith("task.") and key[5:] not in known
    ]
    if foreign:
        raise UsageError(
            f"{', '.join(foreign)}: only for segmentation checkpoints",
            hint=f"{model} is of the {room.name} room; drop these options",
        )


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
