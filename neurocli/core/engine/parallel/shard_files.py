"""Checkpoints in shards: every rank writes what it holds, so that no rank holds it all.

A folder `last.shards` has one safetensors file per rank, written by torch.distributed.checkpoint,
and `head.pth` with all that is no shard, which is written last: without it the folder is nothing.
It is built beside its name and renamed. Nothing in it is read by pickle. Any number of ranks, or
one process, reads it back as the payload of an ordinary checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from neurocli.core.engine.checkpoint import load_checkpoint, load_latest, save_checkpoint
from neurocli.core.engine.parallel.team import Team
from neurocli.core.errors import InputError, NeuroError
from neurocli.core.paths import sync_folder

SHARDS = "last.shards"
_HEAD, _PART, _OLD = "head.pth", ".part", ".old"
_MARK = "in shards: "


def _dcp() -> Any:
    # Imported where shards are: it takes as long as half of torch, and most runs have none. Its
    # names are exported without being declared.
    import torch.distributed.checkpoint

    return torch.distributed.checkpoint


def save_shards(folder: Path, payload: Mapping[str, Any], team: Team) -> None:
    """Write a checkpoint of which every rank holds a part; all ranks call it.

    Args:
        folder: The target; what is there is replaced at the end.
        payload: Tensors, sharded or not, and plain values.
        team: The ranks.

    Raises:
        NeuroError: The disk refuses; what was there is intact.
    """
    draft = folder.with_name(folder.name + _PART)
    shards: dict[str, torch.Tensor] = {}
    head = _split(dict(payload), "", shards)
    head["shards"] = {name: list(value.shape) for name, value in shards.items()}
    team.first_does(lambda: shutil.rmtree(draft, ignore_errors=True))
    problem: NeuroError | None = None
    try:
        writer = _dcp().HuggingFaceStorageWriter(str(draft), save_distributed=True)
        _dcp().save(shards, storage_writer=writer, no_dist=team.is_alone)
    except Exception as error:
        problem = NeuroError(
            f"cannot write: {error.__cause__ or error}",
            where=str(draft),
            hint="free space; the checkpoint before it is intact",
        )
    team.share_problem(problem)

    def publish() -> None:
        save_checkpoint(draft / _HEAD, head)
        old = folder.with_name(folder.name + _OLD)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
        sync_folder(folder.parent)
        shutil.rmtree(old, ignore_errors=True)

    team.first_does(publish)


def load_shards(folder: Path) -> dict[str, Any] | None:
    """Return the payload of a checkpoint in shards, in one piece; None when there is none.

    Args:
        folder: What `save_shards` wrote.

    Raises:
        InputError: It is damaged.
    """
    found = next((f for f in (folder, folder.with_name(folder.name + _OLD)) if f.is_dir()), None)
    if found is None or not (found / _HEAD).is_file():
        return None
    head = load_checkpoint(found / _HEAD)
    try:
        reader = _dcp().HuggingFaceStorageReader(str(found))
        known = reader.read_metadata().state_dict_metadata
        shards = {
            name: torch.empty(shape, dtype=_whole(known[name], shape).properties.dtype)
            for name, shape in head.pop("shards").items()
        }
        _dcp().load(shards, storage_reader=reader, no_dist=True)
        joined: dict[str, Any] = _join(head, shards)
    except Exception as error:
        raise InputError(
            found,
            f"a shard is damaged or missing ({error})",
            "resume without it: delete the folder",
        ) from error
    return joined


def _whole(about: Any, shape: list[int]) -> Any:
    # A file that is missing would leave its rows out, and nobody else counts them.
    held = sum(chunk.sizes.numel() for chunk in about.chunks)
    if list(about.size) != shape or held != torch.Size(shape).numel():
        raise ValueError(f"{held} of {torch.Size(shape).numel()} numbers of a tensor are there")
    return about


def load_newest(checkpoints_dir: Path) -> tuple[Path, dict[str, Any], list[str]] | None:
    """Return the newest sound state of a run, in one file or in shards.

    Args:
        checkpoints_dir: Folder `checkpoints` of a run.

    Returns:
        As `load_latest`.

    Raises:
        InputError: There are checkpoints, and none can be read, or shards are damaged.
    """
    found, shards = load_latest(checkpoints_dir), load_shards(checkpoints_dir / SHARDS)
    if shards is None:
        return found
    if found is not None and found[1]["progress"]["step"] >= shards["progress"]["step"]:
        return found
    return checkpoints_dir / SHARDS, shards, []


def remove_shards(folder: Path) -> None:
    """Remove a checkpoint in shards, if there is one."""
    for name in (folder, *(folder.with_name(folder.name + end) for end in (_PART, _OLD))):
        shutil.rmtree(name, ignore_errors=True)


def _split(value: Any, path: str, shards: dict[str, torch.Tensor]) -> Any:
    from torch.distributed.tensor import DTensor

    if isinstance(value, DTensor):
        shards[path] = value
        return _MARK + path
    if isinstance(value, dict):
        return {key: _split(item, f"{path}/{key}", shards) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_split(item, f"{path}/{n}", shards) for n, item in enumerate(value))
    return value


def _join(value: Any, shards: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(_MARK):
        return shards[value.removeprefix(_MARK)]
    if isinstance(value, dict):
        return {key: _join(item, shards) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_join(item, shards) for item in value)
    return value
