"""Weights for other programs: under the names that a family's own code gives them.

The formats are those the code of others reads without asking: a Lightning-style `.ckpt`, a bare
state dict `.pth`, `.safetensors`. Tensors are those of the checkpoint, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from neurocli.core.catalog import RoomCard, find_model, resolve, rooms
from neurocli.core.engine.torch_file import write_torch_file
from neurocli.core.engine.weights import export_safetensors, find_weights, read_weights
from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.names import choices_text
from neurocli.core.paths import durable_path

FORMATS = (".ckpt", ".pth", ".safetensors")
# Readers of Lightning files look for the key; any 2.x migrates nothing in a file like this.
_LIGHTNING = "2.0.0"


@dataclass(frozen=True)
class OfficialWeights:
    """Hold weights under a family's own names.

    Args:
        bare: As its model names them.
        wrapped: As its Lightning module does.
        hyper_parameters: Sizes by the names of its command line.
        left_out: Tensors that its code has no place for.
        notes: What a user of them should know.
    """

    bare: Mapping[str, torch.Tensor]
    wrapped: Mapping[str, torch.Tensor]
    hyper_parameters: Mapping[str, Any]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportResult:
    """Hold what was written.

    Args:
        checkpoint: Where the weights came from.
        out: The file.
        model: Name of the model; None when the file did not tell.
        tensors: How many were written.
        left_out: Names that the family's code has no place for.
        notes: Sentences the user should read.
        plan: What would be done, when nothing was done.
    """

    checkpoint: Path
    out: Path
    model: str | None
    tensors: int
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    plan: Mapping[str, Any] | None = None


def export_weights(
    checkpoint: str | Path, out: str | Path, *, force: bool = False, dry_run: bool = False
) -> ExportResult:
    """Write the weights of a checkpoint under the names of the family's own code.

    Args:
        checkpoint: A checkpoint of ours (the averaged weights where there is an average), any file
            of the family, or a run folder.
        out: The target: `.ckpt` (Lightning), `.pth` (state dict) or `.safetensors`.
        force: Replace an existing file.
        dry_run: Write nothing.

    Raises:
        UsageError: The ending is another, or the file exists.
        InputError: The checkpoint cannot be read.
        NeuroError: It is of no model that has official names, or the disk refuses.
    """
    target = Path(out)
    if target.suffix not in FORMATS:
        raise UsageError(
            f"'{target.suffix or target.name}' is no format of weights",
            where="--out",
            hint=f"end the name with {choices_text(FORMATS)}",
        )
    if target.exists() and not force:
        raise UsageError("the file exists", where=str(target), hint="--force replaces it")
    path, told = find_weights(Path(checkpoint))
    weights, head = read_weights(path)
    name = head.get("model_name")
    door = _door(name, path)
    official: OfficialWeights = resolve(door)(weights, head.get("config", {}), head.get("info", {}))
    notes = [*([told] if told else []), *official.notes]
    if head.get("config", {}).get("train", {}).get("ema") is not None:
        notes.append("the weights are the moving average, as `neuro evaluate` uses them")
    chosen = official.wrapped if target.suffix == ".ckpt" else official.bare
    plan = {"would_write": str(target), "tensors": len(chosen)} if dry_run else None
    if plan is None:
        _write(target, official, head)
    return ExportResult(path, target, name, len(chosen), list(official.left_out), notes, plan=plan)


def _door(name: str | None, path: Path) -> str:
    room: RoomCard | None = None
    if name is not None:
        room, _ = find_model(name)
    else:  # a foreign file: the first room that has names for others can tell whether it is its own
        room = next((each for each in rooms().values() if each.official_names), None)
    if room is None or room.official_names is None:
        raise NeuroError(
            f"{name or 'these weights'} have no official names to be exported under",
            where=str(path),
            hint="use the checkpoint as it is",
        )
    return room.official_names


def _write(target: Path, official: OfficialWeights, head: Mapping[str, Any]) -> None:
    if target.suffix == ".safetensors":
        export_safetensors(target, official.bare, {"format": "pt"})
        return
    content: dict[str, Any] = dict(official.bare)
    if target.suffix == ".ckpt":
        progress = head.get("progress") or {}
        content = {
            "epoch": int(progress.get("epoch", 0)),
            "global_step": int(progress.get("step", 0)),
            "pytorch-lightning_version": _LIGHTNING,
            "state_dict": dict(official.wrapped),
            "hyper_parameters": dict(official.hyper_parameters),
        }
    with durable_path(target) as partial:
        write_torch_file(partial, content)
