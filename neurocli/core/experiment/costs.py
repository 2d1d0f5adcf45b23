"""What each model of an experiment costs, measured once and kept in `profile.json`.

Memory is followed over tensors without numbers where the model allows it, which is exact and needs
no memory; else it is watched. Latency is that of real forward passes on the device of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocli.core.cost.command import profile
from neurocli.core.errors import NeuroError
from neurocli.core.experiment.records import PROFILE, read_profile
from neurocli.core.paths import durable_json

SCHEMA = "neuro/profile/1"
_RUNS = 5


def measure_model(out: Path, model: str, checkpoint: Path) -> str | None:
    """Add a model to the experiment's `profile.json`, unless it is there.

    Args:
        out: The experiment's folder.
        model: Its name.
        checkpoint: Of one of its runs: it tells configuration and data.

    Returns:
        A sentence when the model could not be measured, else None.

    Raises:
        NeuroError: The file cannot be written.
    """
    known = read_profile(out)
    if model in known:
        return None
    try:
        record = _measured(checkpoint)
    except NeuroError as error:
        # Tables keep their rows without it; a run must not fail for the want of a measurement.
        return f"{model}: its cost is not told ({error.message})"
    durable_json(
        out / PROFILE,
        {"schema": SCHEMA, "models": [*known.values(), {**record, "model": model}]},
    )
    return None


def _measured(checkpoint: Path) -> Mapping[str, Any]:
    timed = profile(checkpoint, mode="inference", runs=_RUNS).models[0]
    try:
        memory = profile(checkpoint, fake=True, stage_wise=True).models[0]
    except NeuroError:
        return profile(checkpoint, stage_wise=True, runs=_RUNS).models[0]
    kept = ("pam_train_bytes", "pam_inference_bytes", "stages", "memory_method")
    return {**timed, **{name: memory[name] for name in kept}}
