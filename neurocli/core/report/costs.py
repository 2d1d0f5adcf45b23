"""What a model of a run costs: counted by formula here, memory and time as `profile` measured them.

Nothing is measured by a report. Memory and latency come from what `neuro profile --json` wrote:
into `profile.json` of the run folder or of the folder around it, or into a file that was named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neurocli.core.catalog import find_model, resolve
from neurocli.core.config.load import config_from_plain
from neurocli.core.errors import NeuroError
from neurocli.core.report.collect import Run
from neurocli.core.report.records import RecordReader, as_mapping, as_number

PROFILE_FILE = "profile.json"
PROFILE_SCHEMA = "neuro/profile/1"
FORMULA = "formula over config.yaml and data.json"


@dataclass(frozen=True)
class Profile:
    """Hold the records of one profile by model, and the name of its file."""

    source: str
    models: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Costs:
    """Hold what one sample costs; None where it is not known.

    Args:
        params: Learned numbers.
        flops: Floating-point operations of a forward pass.
        pam_train: Peak activation memory of a training step in bytes.
        pam_inference: The same of a forward pass.
        latency_ms: Mean time of a forward pass.
        stages: Memory by stage, as `profile --stage-wise` gives it.
        sources: Field -> where it comes from.
    """

    params: float | None = None
    flops: float | None = None
    pam_train: float | None = None
    pam_inference: float | None = None
    latency_ms: float | None = None
    stages: Sequence[Mapping[str, Any]] = ()
    sources: Mapping[str, str] = field(default_factory=dict)


def profile_of(record: Mapping[str, Any], source: str) -> Profile:
    """Return a profile from the object that `neuro profile --json` printed."""
    rows = record.get("models")
    found = [as_mapping(row) for row in rows] if isinstance(rows, list) else []
    return Profile(source, {str(row.get("model")): row for row in found})


def own_profiles(run: Run) -> list[Profile]:
    """Return the profiles that lie in a run folder and in the folder around it."""
    found = []
    for folder, prefix in ((run.folder, ""), (run.folder.parent, "../")):
        record = RecordReader(folder).mapping(PROFILE_FILE)
        if record.get("schema") == PROFILE_SCHEMA:
            found.append(profile_of(record, f"{prefix}{PROFILE_FILE}"))
    return found


def costs_of(run: Run, profiles: Sequence[Profile] = ()) -> Costs:
    """Return what one sample costs a run's model.

    Args:
        run: The run.
        profiles: Profiles that were named; those beside the run come first.
    """
    params = run.result.get("n_parameters")
    counted = _formula(run)
    sources = {} if params is None else {"params": "result.json"}
    if params is None and counted:
        params, sources["params"] = counted.get("params"), FORMULA
    if counted:
        sources["flops"] = FORMULA
    row, source = _measured(run, [*own_profiles(run), *profiles])
    flops = as_number(counted.get("flops"))
    if flops is None and (flops := as_number(row.get("flops"))) is not None:
        sources["flops"] = source
    known: dict[str, float | None] = {
        "pam_train": as_number(as_mapping(row.get("pam_train_bytes")).get("mean")),
        "pam_inference": as_number(as_mapping(row.get("pam_inference_bytes")).get("mean")),
        "latency_ms": as_number(as_mapping(row.get("latency_ms")).get("mean")),
    }
    sources |= {name: source for name, value in known.items() if value is not None}
    stages = row.get("stages")
    return Costs(
        as_number(params),
        flops,
        **known,
        stages=[as_mapping(stage) for stage in stages] if isinstance(stages, list) else [],
        sources=sources,
    )


def _measured(run: Run, profiles: Sequence[Profile]) -> tuple[Mapping[str, Any], str]:
    for profile in profiles:
        if run.model in profile.models:
            row = profile.models[run.model]
            shape = row.get("input_shape")
            size = "x".join(map(str, shape)) if isinstance(shape, list) else "unknown"
            return row, f"{profile.source} (input {size})"
    return {}, ""


def _formula(run: Run) -> Mapping[str, Any]:
    """Return the closed form of a run's clip, or nothing where its room or version has none."""
    info = as_mapping(run.data.get("info"))
    if run.method != run.model:
        return {}  # a closed form was solved in place of the model
    try:
        room, _ = find_model(run.model)
        if room.cost is None or not info or not run.settings:
            return {}
        config = config_from_plain(nested(run.settings), "config.yaml")
        cost: Mapping[str, Any] = resolve(room.cost)(config, info)
    # A run of another version may lack what the formula asks for; the cell stays empty.
    except (NeuroError, KeyError, TypeError, ValueError):
        return {}
    return cost


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested mappings.

    >>> nested({"model.name": "fmamba", "run.seed": 1})
    {'model': {'name': 'fmamba'}, 'run': {'seed': 1}}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        block, _, name = key.partition(".")
        if not name:
            found[key] = value
        else:
            found.setdefault(block, {})[name] = value
    return {
        key: nested(value) if isinstance(value, dict) and any("." in k for k in value) else value
        for key, value in found.items()
    }
