"""One training run from options to a run folder: resolve, open data, build, fit, record.

The same function serves the shell and Python. It knows no room: the model's card names the
builders, and `Task` owns the maths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from neurocli.core.catalog import find_model, find_task, resolve
from neurocli.core.config.flags import DATA_KEY, JOIN_KEY, TRAIN_KEYS, flag_layer
from neurocli.core.config.load import Resolved, resolve_config
from neurocli.core.config.run import RunConfig
from neurocli.core.engine import run_folder
from neurocli.core.engine.loop import fit
from neurocli.core.engine.optim import peak_rate
from neurocli.core.engine.outcome import (
    RunResult,
    count_parameters,
    planned,
    result_from,
    run_record,
)
from neurocli.core.engine.parallel.sequence import check_sequences
from neurocli.core.engine.parallel.shard_files import load_newest
from neurocli.core.engine.parallel.team import Team, choose_strategy, joined
from neurocli.core.engine.runtime import pick_device, seed_everything, set_threads
from neurocli.core.engine.sinks import RankLog, open_sinks
from neurocli.core.engine.start import start_from, weights_layer
from neurocli.core.engine.task import RunData, Task
from neurocli.core.errors import UsageError
from neurocli.core.events import Listener, Note, fan_out, ignore
from neurocli.core.heap import kept_memory
from neurocli.core.paths import folder_lock

ALREADY_ENDED = "this run had already ended; nothing was done (--force trains it again)"


class TrainOptions(TypedDict, total=False):
    """Name every option of `train`; they equal the flags of `neuro train`."""

    pretrain: str | None
    task: str | None
    task_type: str | None
    data: str | Path | Sequence[str | Path] | None
    split: str | Path | None
    epochs: int | None
    steps: int | None
    batch_size: int | None
    lr: float | None
    precision: str | None
    init_from: str | Path | None
    freeze: bool | None
    parallel: str | None
    accumulate: int | None
    ema: float | None
    early_stop: int | None
    seed: int | None
    device: str | None
    seeds: Sequence[int] | None
    folds: int | None
    preset: str | None
    config: str | Path | None
    set: Sequence[str]
    out: str | Path | None
    resume: str | Path | None
    force: bool
    dry_run: bool
    listener: Listener


def train(*models: str, **options: Unpack[TrainOptions]) -> RunResult:
    """Train a model.

    Args:
        *models: Model name; it may be absent with `resume`.
        **options: The flags of `neuro train`, None where not given.

    Returns:
        Where the run is and how well it did.

    Raises:
        UsageError: Options, names or configuration do not fit together.
        NeuroError: The data or a checkpoint cannot be used, or the loss is not finite.
        StoppedError: A signal stopped the run after its state was saved.
    """
    with joined() as team, kept_memory():
        return _train(team, models, options)


def _train(team: Team, models: Sequence[str], options: TrainOptions) -> RunResult:
    listener = options.get("listener", ignore) if team.is_first else ignore
    resolved, run_dir, notes = team.first_then_rest(lambda: resolve_options(models, options))
    config = resolved.config
    is_named = resolved.origins.get("train.parallel", "default") != "default"
    notes += choose_strategy(team, config.train.parallel, is_named=is_named)
    check_sequences(team, config.train.sequence_parallel)
    device = pick_device(config.run.device)
    set_threads(config.run.threads)
    for note in notes:
        listener(Note(note, "warning"))
    notes += _scaled_rate(config)
    room, card = find_model(config.model.name)
    if config.task.objective is not None:
        find_task(room, config.task.objective)
    # Opening may make the built-in cohort or an index: one process makes it, the others find it.
    data: RunData = team.first_then_rest(lambda: resolve(room.open_data)(config, listener))
    for note in data.notes:
        listener(Note(note, "warning" if data.built_in_data else "info"))
    _check_objective(card.name, card.tasks, data.objective)
    task: Task = resolve(find_task(room, data.objective).task)(config)
    seed_everything(config.run.seed)
    task.fit(data)
    model = task.build(data.info)
    notes += [*data.notes, *start_from(config, task, model, data)]
    run_dir = run_dir or team.first_does(lambda: run_folder.new_run_dir(card.name, data.objective))
    if options.get("dry_run"):
        return planned(run_dir, config, data, model, notes)
    with contextlib.ExitStack() as held:
        team.first_does(lambda: _enter(held, folder_lock(run_dir)))
        claimed = team.first_does(lambda: _claim(run_dir, config, data, options))
        again, record = claimed
        if record is not None:
            return result_from(run_dir, record, data, [*notes, ALREADY_ENDED])
        resume = team.first_then_rest(
            lambda: _resume_state(run_dir, data, listener) if again else None
        )
        if resume is None:
            team.first_does(lambda: run_folder.write_head(run_dir, resolved, data))
        n_parameters = count_parameters(model)
        result = fit(
            task,
            model.to(device),
            data,
            config,
            run_dir,
            listener=fan_out(listener, *_sinks(team, run_dir, config, listener)),
            resume=resume,
            extra=_checkpoint_head(config, data),
        )
        record = run_record(run_dir, config, data, n_parameters, result)
        team.first_does(lambda: run_folder.write_result(run_dir, record, data))
    return result_from(run_dir, record, data, notes)


def _enter(held: contextlib.ExitStack, context: contextlib.AbstractContextManager[None]) -> None:
    held.enter_context(context)


def _claim(
    run_dir: Path, config: RunConfig, data: RunData, options: TrainOptions
) -> tuple[bool, dict[str, Any] | None]:
    """Return whether the folder holds the same run, and its record when that has ended."""
    again = run_folder.claim(run_dir, config, force=bool(options.get("force")))
    return again, run_folder.read_result(run_dir) if again else None


def _sinks(team: Team, run_dir: Path, config: RunConfig, listener: Listener) -> list[Listener]:
    if team.is_first:
        return open_sinks(run_dir, every=config.run.log_every_steps, listener=listener)
    return [RankLog(run_dir / "ranks" / f"rank-{team.rank}.log")]


def _scaled_rate(config: RunConfig) -> list[str]:
    train, batch_size = config.train, config.data.batch_size
    if train.lr_scaling == "none":
        return []
    return [
        f"{train.lr_scaling} scaling makes the learning rate {peak_rate(train, batch_size):g} from "
        f"{train.lr:g}: {batch_size * train.accumulate} samples per step, meant for "
        f"{train.lr_base_batch}"
    ]


def resolve_options(
    models: Sequence[str], options: TrainOptions
) -> tuple[Resolved, Path | None, list[str]]:
    """Return the configuration of a run, its folder where it is known, and what to tell.

    Args:
        models: One name, or none with `resume`.
        options: Of `train`.

    Raises:
        UsageError: Options or names do not fit together, or several runs are asked for.
        ConfigError: The configuration is wrong.
    """
    given = {name: options.get(name) for name in TRAIN_KEYS}
    out = Path(str(options["out"])) if options.get("out") else None
    if options.get("resume"):
        return _resolve_resumed(Path(str(options["resume"])), models, options, given)
    if len(models) != 1 or options.get("seeds") or options.get("folds"):
        if not models:
            raise UsageError("no MODEL was named", hint="see `neuro models list`")
        raise UsageError(
            "several models, seeds or folds are an experiment and not one run",
            hint="call neurocli.run_experiment with the same arguments",
        )
    preset, notes = options.get("preset"), []
    nothing_named = not (preset or options.get("config"))
    if nothing_named and not options.get("data") and not {DATA_KEY, JOIN_KEY} & _keys(options):
        room, _ = find_model(models[0])
        preset = f"{room.name}/tiny"
        notes.append(f"no --data: built-in cohort with preset {preset}")
    layers: dict[str, Any] = {
        "model": models[0],
        "preset": preset,
        "config": options.get("config"),
        "settings": options.get("set") or (),
        "flags": flag_layer(given),
    }
    resolved = resolve_config(**layers)
    start = resolved.config.train.init_from
    if start is not None:
        fixed, more = weights_layer(Path(start), resolved.config)
        resolved = resolve_config(**layers, weights=fixed)
        notes += more
    return resolved, out, notes


def _keys(options: TrainOptions) -> set[str]:
    return {text.partition("=")[0].strip() for text in options.get("set") or ()}


def _resolve_resumed(
    run_dir: Path, models: Sequence[str], options: TrainOptions, given: Mapping[str, Any]
) -> tuple[Resolved, Path, list[str]]:
    run_folder.check_resumable(run_dir)
    config = run_folder.read_config(run_dir)
    # Other processes may go on with a run, in another way.
    sharing = given.get("parallel")
    given = {name: value for name, value in given.items() if name != "parallel"}
    extra = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    extra += [f"--{name}" for name in ("preset", "config", "set", "out") if options.get(name)]
    if extra:
        raise UsageError(
            f"--resume goes on with a run as it is, so {', '.join(extra)} cannot change it",
            where="--resume",
            hint="drop these; or drop --resume: --init-from CKPT starts a new run from weights",
        )
    if models and list(models) != [config.model.name]:
        raise UsageError(
            f"the run trains {config.model.name}, not {' '.join(models)}", where=str(run_dir)
        )
    origins = {"model.name": str(run_dir / "config.yaml")}
    if sharing is not None:
        train = config.train.model_copy(update={"parallel": sharing})
        config = config.model_copy(update={"train": train})
        origins["train.parallel"] = "--parallel"
    return Resolved(config, origins), run_dir, []


def _check_objective(model: str, tasks: Sequence[str], objective: str) -> None:
    if objective not in tasks:
        raise UsageError(
            f"{model} is not trained for '{objective}'",
            hint=f"{model} takes {', '.join(tasks)}; see `neuro models show {model}`",
        )


def _resume_state(run_dir: Path, data: RunData, listener: Listener) -> Mapping[str, Any] | None:
    found = load_newest(run_dir / "checkpoints")
    if found is None:
        return None
    _, payload, notes = found
    for note in notes:
        listener(Note(note, "warning"))
    for key, now in (("split_sha256", data.split_sha256), ("fingerprint", data.fingerprint)):
        if payload[key] != now:
            what = "the split" if key == "split_sha256" else "the data"
            raise UsageError(
                f"{what} changed since this run was started",
                where=str(run_dir),
                hint="bring it back, or start a new run with --init-from and another --out",
            )
    return payload


def _checkpoint_head(config: RunConfig, data: RunData) -> dict[str, Any]:
    return {
        "model_name": config.model.name,
        "objective": data.objective,
        "config": config.model_dump(mode="json"),
        "info": dict(data.info),
        "split": dict(data.split),
        "split_sha256": data.split_sha256,
        "fingerprint": data.fingerprint,
        "built_in_data": data.built_in_data,
    }
