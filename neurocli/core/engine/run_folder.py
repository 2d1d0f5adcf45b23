"""The run folder: what every training run leaves behind, written whole and readable without torch.

`config.yaml` (resolved), `config.sources.json` (origin of every value), `environment.json`,
`data.json`, `split.json`, `log.jsonl`, `metrics.csv`, `checkpoints/{last,best}.pth`, `card.md`
and, once it ended, `result.json`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from neurocli.core.config.load import Resolved, config_from_plain
from neurocli.core.config.nodes import read_yaml, to_plain
from neurocli.core.config.run import RunConfig
from neurocli.core.engine.runtime import environment_record
from neurocli.core.engine.task import RunData
from neurocli.core.errors import InputError, UsageError
from neurocli.core.paths import LOCK_NAME, clear_leftovers, durable_json, durable_write, runs_dir

# How processes share a model changes nothing of what is trained.
_SHARING = {"parallel": "none", "zero_stage": 0, "sequence_parallel": 1}


def new_run_dir(model: str, objective: str) -> Path:
    """Return a fresh folder name under the runs folder: model, objective, UTC time, six letters."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return runs_dir() / f"{model}-{objective}-{stamp}-{secrets.token_hex(3)}"


def claim(run_dir: Path, config: RunConfig, *, force: bool) -> bool:
    """Decide whether a folder may be used for a run of `config`.

    Args:
        run_dir: The folder; it may be missing.
        config: The run's configuration.
        force: Replace what another run left.

    Returns:
        True when the folder holds the same run, which is to be resumed.

    Raises:
        UsageError: The folder holds something else.
    """
    if run_dir.is_dir():
        clear_leftovers(run_dir)
    if not run_dir.exists() or all(entry.name == LOCK_NAME for entry in run_dir.iterdir()):
        return False
    if (run_dir / "config.yaml").is_file() and not force and is_same_run(run_dir, config):
        return (run_dir / "checkpoints").is_dir()
    if not force:
        raise UsageError(
            "the output folder is not empty and belongs to another run",
            where=str(run_dir),
            hint="choose another --out, or --force to replace that run",
        )
    _remove_run(run_dir)
    return False


def is_same_run(run_dir: Path, config: RunConfig) -> bool:
    """Return whether a folder holds a run of this configuration, shared in whatever way.

    Raises:
        InputError: The folder holds no run.
        ConfigError: Its configuration does not fit this version.
    """
    pair = [
        each.model_copy(update={"train": each.train.model_copy(update=_SHARING)})
        for each in (read_config(run_dir), config)
    ]
    return pair[0] == pair[1]


def _remove_run(run_dir: Path) -> None:
    # Only what a run writes is removed: a mistyped --out must not cost a user's own files.
    names = ("config.yaml", "config.sources.json", "environment.json", "data.json", "split.json")
    for name in (*names, "log.jsonl", "metrics.csv", "card.md", "result.json"):
        (run_dir / name).unlink(missing_ok=True)
    for folder in ("checkpoints", "evaluations", "tensorboard", "ranks"):
        for path in sorted((run_dir / folder).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def read_config(run_dir: Path) -> RunConfig:
    """Return the configuration of a run folder.

    Raises:
        InputError: The folder holds no run.
        ConfigError: Its configuration does not fit this version.
    """
    path = run_dir / "config.yaml"
    if not path.is_file():
        raise InputError(run_dir, "no run folder: config.yaml is missing", "name a folder of train")
    return config_from_plain(to_plain(read_yaml(path)), str(path))


def check_resumable(run_dir: Path) -> None:
    """Explain what `--resume` takes when it was given something else.

    Args:
        run_dir: What was given.

    Raises:
        UsageError: It is a file, or no folder at all.
    """
    if run_dir.is_file():
        inside = run_dir.parent.name == "checkpoints"
        hint = f"neuro train --resume {run_dir.parent.parent}; or " if inside else ""
        raise UsageError(
            "--resume goes on with a run and takes its folder, not a file",
            where=str(run_dir),
            hint=f"{hint}--init-from {run_dir.name} starts a new run from its weights",
        )
    if not run_dir.is_dir():
        raise UsageError(
            "there is no such run to go on with",
            where=str(run_dir),
            hint="name the folder that `neuro train` wrote",
        )


def write_head(run_dir: Path, resolved: Resolved, data: RunData) -> None:
    """Write what is known before the first step: configuration, environment, data, split."""
    text = yaml.safe_dump(resolved.config.model_dump(mode="json"), sort_keys=False)
    durable_write(run_dir / "config.yaml", text)
    durable_json(run_dir / "config.sources.json", resolved.origins)
    durable_json(run_dir / "environment.json", environment_record())
    durable_json(run_dir / "data.json", data_record(data))
    durable_json(
        run_dir / "split.json",
        {
            "schema": "neuro/split/1",
            "seed": resolved.config.run.seed,
            "parts": dict(data.split),
            "method": "as used by this run",
        },
    )


def data_record(data: RunData) -> dict[str, Any]:
    """Return what a run used as plain values."""
    parts = {
        part: {"participants": len(data.split[part]), "samples": len(samples)}
        for part, samples in data.parts.items()
    }
    return {
        "schema": "neuro/run-data/1",
        "objective": data.objective,
        "built_in_data": data.built_in_data,
        "parts": parts,
        "info": dict(data.info),
        "left_out": [list(row) for row in data.left_out],
        "notes": data.notes,
        "fingerprint": data.fingerprint,
        "split_sha256": data.split_sha256,
    }


def write_result(run_dir: Path, result: Mapping[str, Any], data: RunData) -> None:
    """Write `result.json` and `card.md` once a run has ended."""
    durable_json(run_dir / "result.json", result)
    best = result["best"]
    lines = [
        f"# {result['model']}, {data.objective}",
        "",
        f"- best {best['part']} {best['metric']}: {best['value']:.6g} (epoch {best['epoch']})",
        f"- parameters: {result['n_parameters']}",
        f"- steps: {result['steps']} in {result['epochs']} epochs, {result['seconds']:.1f} s",
        *(f"- {part}: {len(people)} participants" for part, people in data.split.items()),
        *(f"- note: {note}" for note in data.notes),
        "",
        "For research. Not a medical device; not validated for any clinical use.",
    ]
    durable_write(run_dir / "card.md", "\n".join(lines) + "\n")


def read_result(run_dir: Path) -> dict[str, Any] | None:
    """Return `result.json` of a run that has ended, or None.

    Raises:
        InputError: The file is damaged.
    """
    path = run_dir / "result.json"
    if not path.is_file():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, "not JSON", "delete it and resume the run") from error
    return result
