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
from torch import nn

from neurocli.core.catalog import find_model, find_task, resolve
from neurocli.core.config.flags import DATA_KEY, EVALUATE_KEYS, JOIN_KEY, flag_layer
from neurocli.core.config.load import (
    check_layers,
    config_from_plain,
    plain_layer,
    settings_layer,
)
from neurocli.core.config.nodes import Leaf
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.checkpoint import load_checkpoint
from neurocli.core.engine.judge import Judge, per_group, verdicts, with_baselines
from neurocli.core.engine.judgement import EvalResult, claim_folder, write_judgement
from neurocli.core.engine.parallel.team import Team, joined
from neurocli.core.engine.pictures import MOST, take_pictures
from neurocli.core.engine.rebuild import build_model
from neurocli.core.engine.runtime import pick_device, seed_everything, set_threads
from neurocli.core.engine.task import Rows, RunData, SampleSet, Task
from neurocli.core.engine.weights import find_weights, load_weights
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.events import Listener, Note, ignore
from neurocli.core.heap import kept_memory

PARTS = ("test", "val", "train", "all")


class EvaluateOptions(TypedDict, total=False):
    """Name every option of `evaluate`; they equal the flags of `neuro evaluate`."""

    data: str | Path | Sequence[str | Path] | None
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
    ensemble: Sequence[str | Path]
    force: bool
    dry_run: bool
    listener: Listener


def evaluate(checkpoint: str | Path, **options: Unpack[EvaluateOptions]) -> EvalResult:
    """Judge a checkpoint on a dataset.

    Args:
        checkpoint: A `.pth` of a run, or its folder.
        **options: The flags of `neuro evaluate`, None where not given. `ensemble` names more
            checkpoints, which are averaged with the first; settings and parts are the first's.

    Returns:
        Metrics with intervals and baselines.

    Raises:
        InputError: The checkpoint or the data cannot be read.
        UsageError: Options do not fit the checkpoint.
        NeuroError: Nobody is left to judge.
    """
    with joined() as team, kept_memory():
        return _evaluate(team, Path(checkpoint), options)


def _evaluate(team: Team, checkpoint: Path, options: EvaluateOptions) -> EvalResult:
    listener = options.get("listener", ignore) if team.is_first else ignore
    path, _ = team.first_then_rest(lambda: find_weights(checkpoint))
    payload = team.first_then_rest(lambda: load_checkpoint(path))
    config = _config(payload, options, path)
    device = pick_device(config.run.device)
    set_threads(config.run.threads)
    room, card = find_model(config.model.name)
    split = None if options.get("split") else payload["split"]
    data: RunData = team.first_then_rest(
        lambda: resolve(room.open_data)(config, listener, split=split, like=payload["info"])
    )
    samples, part, notes = _choose(data, options.get("part"))
    members = [(path, payload), *_members(options.get("ensemble") or (), payload)]
    seen = _seen(samples, [each for _, each in members])
    notes = [*data.notes, *notes, *seen, *_averaged(members)]
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
    team.first_does(lambda: claim_folder(result.out, force=bool(options.get("force"))))
    if options.get("dry_run"):
        plan = {"would_write": str(result.out), "samples": sum(map(len, samples))}
        return replace(result, plan=plan)
    judge = _rebuilt(members, config, device, listener)
    if options.get("save_predictions"):
        judge.task.keep_predictions(result.out / "predictions")
        team.wait()  # what an earlier judgement left is gone before any rank writes
    tuned = judge.tune(data.parts.get("val")) if part != "val" else []
    judge.task.n_pictures = MOST
    rows = judge.rows(samples)
    # Rows are on rank 0, which finishes alone; what fails there fails everywhere.
    return team.first_does(
        lambda: _finished(judge, result, data, samples, rows=rows, tuned=tuned, options=options)
    )


def _finished(
    judge: Judge,
    result: EvalResult,
    data: RunData,
    samples: list[SampleSet],
    *,
    rows: Rows,
    tuned: list[str],
    options: EvaluateOptions,
) -> EvalResult:
    listener = judge.listener
    pictures = take_pictures(rows)
    summary = judge.task.summarise(rows)
    summary, more = with_baselines(judge.task, data, samples, summary, listener, rows=rows)
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
        per_site=per_group(judge.task, rows, data.sites, "site"),
        per_dataset=per_group(judge.task, rows, data.datasets, "dataset"),
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
        pictures=pictures,
    )


Member = tuple[Path, Mapping[str, Any]]


def _members(paths: Sequence[str | Path], first: Mapping[str, Any]) -> list[Member]:
    """Return the other checkpoints of an ensemble, which must see the data as the first does."""
    found: list[Member] = []
    for path in map(Path, paths):
        payload = load_checkpoint(path)
        for key in ("objective", "info", "task_state"):
            if payload[key] != first[key]:
                raise UsageError(
                    f"its {key} is not that of the first checkpoint, so they have no mean",
                    where=str(path),
                    hint="name checkpoints of one objective, trained on the same kind of data",
                )
        found.append((path, payload))
    return found


def _averaged(members: Sequence[Member]) -> list[str]:
    if len(members) == 1:
        return []
    return [f"mean of {len(members)} models: {', '.join(str(path) for path, _ in members)}"]


def _rebuilt(
    members: Sequence[Member], config: RunConfig, device: torch.device, listener: Listener
) -> Judge:
    room, _ = find_model(config.model.name)
    first = members[0][1]
    task: Task = resolve(find_task(room, first["objective"]).task)(config)
    task.load_state_dict(first["task_state"])
    seed_everything(config.run.seed)
    models: list[nn.Module] = []
    for path, payload in members:
        # Members may be of different architectures; each knows its own.
        own = config_from_plain(payload["config"], str(path)) if models else config
        model = build_model(own, payload["info"]) if models else task.build(payload["info"])
        load_weights(model, payload["state_dict"], label=str(path))
        models.append(model)
    whole = models[0] if len(models) == 1 else task.ensemble(models)
    return Judge(task, whole.to(device), config, device, listener)


def _config(payload: Mapping[str, Any], options: EvaluateOptions, path: Path) -> RunConfig:
    given = {name: options.get(name) for name in EVALUATE_KEYS}
    _refuse_foreign(given, str(payload["model_name"]))
    # The run's split is inside the checkpoint, and its weights need no other start.
    dropped = {"data.split", "train.init_from", "train.freeze"}
    flags = flag_layer(given, EVALUATE_KEYS)
    later = {
        **settings_layer(options.get("set") or ()),
        **{key: Leaf(value, flag) for key, (flag, value) in flags.items()},
    }
    if {DATA_KEY, JOIN_KEY} & set(later):  # other data, not the run's and others besides
        dropped |= {DATA_KEY, JOIN_KEY}
    stored = plain_layer(payload["config"], str(path))
    kept = {key: leaf for key, leaf in stored.items() if key not in dropped}
    return check_layers([kept, later]).config


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


def _seen(samples: Sequence[SampleSet], payloads: Sequence[Mapping[str, Any]]) -> list[str]:
    # Some methods choose on validation people first and then learn from them as well.
    trained = {
        name
        for payload in payloads
        for part in payload.get("learned_from", ("train",))
        for name in payload["split"].get(part, ())
    }
    people = {person for chosen in samples for person in chosen.participants}
    if not people & trained:
        return []
    model = "the model was" if len(payloads) == 1 else "members were"
    return [
        f"in-sample figures: {model} trained on {len(people & trained)} of these "
        f"{len(people)} participants"
    ]


def _default_out(path: Path, part: str) -> Path:
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    # The best checkpoints of an experiment lie beside the folders of their runs.
    own = run / path.name.removesuffix("_best.pth")
    return (own if own.is_dir() else run) / "evaluations" / part
