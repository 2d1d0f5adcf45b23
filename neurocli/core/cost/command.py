"""What a model costs before it is trained: the functions behind `neuro flops` and `profile`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from neurocli.core.catalog import models, rooms
from neurocli.core.cost.engines import ENGINES, FlopsResult, compare_engines
from neurocli.core.cost.tables import write_tables
from neurocli.core.cost.target import expand_names, find_target, is_checkpoint
from neurocli.core.cost.work import samples_of_run, work_of
from neurocli.core.errors import UsageError
from neurocli.core.events import Listener, ignore
from neurocli.core.names import lookup

__all__ = ["ENGINES", "MODES", "FlopsResult", "ProfileResult", "count_flops", "profile"]

MODES = {
    "train": "a forward and a backward pass",
    "inference": "a forward pass",
    "both": "one after the other",
}


_FAKE_NOTE = "nothing was computed: memory is that of a float32 pass on a CPU, and nothing is timed"


@dataclass(frozen=True)
class ProfileResult:
    """Hold what was measured.

    Args:
        models: One record per model: model, params, macs, latency_ms, pam_train_bytes,
            pam_inference_bytes, stages, and how it was measured.
        left_out: (name, reason) of models that could not be measured.
        notes: Sentences the user should read.
        files: Tables and traces that were written.
    """

    models: list[dict[str, Any]]
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


class ProfileOptions(TypedDict, total=False):
    """Name every option of `profile`; they equal the flags of `neuro profile`."""

    runs: int
    mode: str
    device: str
    input_shape: Sequence[int] | None
    set: Sequence[str]
    preset: str | None
    config: str | Path | None
    stage_wise: bool
    fake: bool
    room: str | None
    jobs: int
    threads: int | None
    warmup: int
    trace: str | Path | None
    out: str | Path | None
    listener: Listener


def count_flops(
    name_or_checkpoint: str | Path,
    *,
    input_shape: Sequence[int] | None = None,
    engine: str = "formula",
    tokens_kept: int | None = None,
    clips: int | None = None,
    preset: str | None = None,
    config: str | Path | None = None,
    set: Sequence[str] = (),
) -> FlopsResult:
    """Count what one sample costs, forward and in a training step.

    Args:
        name_or_checkpoint: Model name, preset name or checkpoint.
        input_shape: Shape of one sample; None takes the checkpoint's or the default grid.
        engine: formula (closed form), torch (watches the model and counts), thop, deepspeed, or
            all, which sets them side by side.
        tokens_kept: Tokens left of a clip when its background is dropped; None counts all.
        clips: Training samples of an epoch; None takes those of the run a checkpoint lies in.
        preset: Preset to start from.
        config: Configuration file.
        set: `KEY=VALUE` texts.

    Returns:
        Operations, multiply-adds, parameters and tokens.

    Raises:
        UsageError: An unknown name, engine or shape.
        MissingDependencyError: The engine's package is absent.
    """
    count = lookup("engine", engine, {**ENGINES, "all": compare_engines})
    target = find_target(
        name_or_checkpoint,
        input_shape=input_shape,
        preset=preset,
        config=config,
        settings=set,
    )
    if tokens_kept is not None:
        if engine != "formula":
            raise UsageError(
                f"{engine} counts samples without background, so every token is kept",
                where="--tokens-kept",
                hint="use --engine formula",
            )
        target = target.keeping(tokens_kept)
    samples = {} if clips is None else {"train": clips}
    if clips is None and is_checkpoint(name_or_checkpoint):
        samples = samples_of_run(Path(name_or_checkpoint))
    found = count(target)
    work = work_of(target.config, samples, forward=found.flops, train_step=found.flops_train_step)
    return replace(found, work=work)


def profile(*names: str | Path, **options: Unpack[ProfileOptions]) -> ProfileResult:
    """Measure latency and peak activation memory of models on one sample.

    Peaks are what a pass holds at its worst moment beyond parameters, their gradients and input.

    Args:
        *names: Model names or patterns, presets, checkpoints; `all` is every model.
        **options: The flags of `neuro profile`: runs (5), mode (both), device (auto), input_shape,
            set, preset, config; room narrows patterns; stage_wise also tells the memory of each
            stage; fake follows memory over tensors without numbers, on any machine, and times
            nothing, in several processes with jobs; threads and warmup (2) are of the times;
            trace is a file for torch's own trace; out is a folder for tables.

    Returns:
        One record per model, in order; models that failed are listed with the reason.

    Raises:
        UsageError: An unknown name, mode or shape.
        NeuroError: No model could be measured.
    """
    mode, fake = options.get("mode", "both"), options.get("fake", False)
    lookup("mode", mode, MODES)
    targets = [
        find_target(
            name,
            input_shape=options.get("input_shape"),
            preset=options.get("preset"),
            config=options.get("config"),
            settings=options.get("set", ()),
        )
        for name in _checked_names(names, options)
    ]
    # Imported late: a wrong name or shape is told without waiting for torch.
    from neurocli.core.cost.latency import N_WARMUP
    from neurocli.core.cost.measure import Plan, measure_all
    from neurocli.core.engine.runtime import pick_device, set_threads

    trace, out = options.get("trace"), options.get("out")
    plan = Plan(
        runs=options.get("runs", 5),
        mode=mode,
        device=pick_device("cpu" if fake else options.get("device", "auto")),
        fake=fake,
        stage_wise=options.get("stage_wise", False),
        n_warmup=options.get("warmup", N_WARMUP),
        trace=None if trace is None else Path(trace),
    )
    set_threads(options.get("threads"))
    measured, left_out = measure_all(
        targets, plan, jobs=options.get("jobs", 1), listener=options.get("listener", ignore)
    )
    files = [] if out is None else write_tables(Path(out), measured)
    files += [] if plan.trace is None else [plan.trace]
    return ProfileResult(measured, left_out, [_FAKE_NOTE] if fake else [], files)


def _checked_names(names: Sequence[str | Path], options: ProfileOptions) -> list[str | Path]:
    """Return the names with patterns replaced, once all options fit together."""
    fake, room, jobs = options.get("fake", False), options.get("room"), options.get("jobs", 1)
    if options.get("runs", 5) < 1:
        raise UsageError(
            f"{options.get('runs')} runs measure nothing", where="--runs", hint="1 or more"
        )
    if jobs < 1 or options.get("warmup", 0) < 0:
        raise UsageError("--jobs is at least 1, --warmup at least 0")
    if not names:
        raise UsageError("no model was named", hint="see `neuro models list`")
    found = expand_names(names)
    if room is not None:
        lookup("room", room, rooms())
        found = [n for n in found if str(n) not in models() or models()[str(n)][0].name == room]
        if not found:
            raise UsageError(f"none of these models is in the room {room}", where="--room")
    if jobs > 1 and not fake:
        raise UsageError(
            "models measured at the same time would slow each other",
            where="--jobs",
            hint="use it with --fake, which times nothing",
        )
    if options.get("trace") is not None and (fake or len(found) > 1):
        raise UsageError(
            "a trace is of one model that runs", where="--trace", hint="name one, without --fake"
        )
    return found
