"""Checkpoints: one sealed `.pth` of tensors and plain values, two generations and the best.

Writing never endangers what is there: the new file is built and synced before the old one moves
to `last.prev.pth`, and reading falls back to that one, saying so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from neurocli.core.engine.torch_file import read_torch_file, write_torch_file
from neurocli.core.engine.weights import (
    BEST_MODEL,
    SCHEMA,
    LoadReport,
    export_safetensors,
    load_weights,
    read_weights,
)
from neurocli.core.errors import InputError, NeuroError
from neurocli.core.paths import durable_path

__all__ = [
    "BEST",
    "LAST",
    "PREVIOUS",
    "SCHEMA",
    "LoadReport",
    "check_plain",
    "export_safetensors",
    "load_checkpoint",
    "load_latest",
    "load_weights",
    "read_weights",
    "save_checkpoint",
]

LAST, PREVIOUS, BEST = "last.pth", "last.prev.pth", "best.pth"
_PLAIN = (type(None), bool, int, float, str, torch.Tensor, torch.nn.Parameter)


def check_plain(value: Any, *, where: str) -> None:
    """Refuse what a checkpoint must not hold, before hours of work end in a file nobody can read.

    Exact types only: a NumPy scalar passes for a float, but is read back as an object.

    Args:
        value: Tensors, None, bool, int, float, str, nested in dict, list, tuple.
        where: Dotted place of `value`, for the error.

    Raises:
        NeuroError: Something else is inside; its place is named.
    """
    if type(value) in (list, tuple):
        for index, item in enumerate(value):
            check_plain(item, where=f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if type(key) not in (str, int):
                raise NeuroError(f"a checkpoint key is a {type(key).__name__}", where=where)
            check_plain(item, where=f"{where}.{key}")
    elif type(value) not in _PLAIN:
        raise NeuroError(
            f"a checkpoint cannot hold a {type(value).__name__}, only tensors and plain values",
            where=where,
            hint="convert it with float(), int(), str() or .tolist()",
        )


def save_checkpoint(path: Path, payload: Mapping[str, Any], *, keep_previous: bool = False) -> Path:
    """Write a checkpoint whole or not at all.

    The same payload gives the same bytes.

    Args:
        path: The target.
        payload: Tensors and plain values; `schema` is added.
        keep_previous: Whether a file already there becomes `NAME.prev.pth`.

    Returns:
        `path`.

    Raises:
        NeuroError: The payload holds other objects, or the disk refuses; older files are intact.
    """
    content = {"schema": SCHEMA, **payload}
    check_plain(content, where=path.name)
    with durable_path(path) as temporary:
        write_torch_file(temporary, content)
        if keep_previous and path.exists():
            _keep(path)
    return path


def _keep(path: Path) -> None:
    previous = path.with_name(f"{path.stem}.prev{path.suffix}")
    spare = previous.with_name(f"{previous.name}.part-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        spare.unlink()
    try:
        # A second name for the old file, so that no moment is without a newest checkpoint.
        os.link(path, spare)
        spare.replace(previous)
    except OSError:
        path.replace(previous)  # a file system without hard links


def load_checkpoint(path: Path, *, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Return the payload of a checkpoint that `save_checkpoint` wrote.

    Args:
        path: The file.
        map_location: Device of the tensors.

    Raises:
        InputError: It is damaged, foreign, of another version, or holds no run.
    """
    content = read_torch_file(path, map_location=map_location)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema is None:
        raise InputError(
            path,
            "holds weights of another program, without the configuration of a run",
            _instead(path),
        )
    if schema != SCHEMA:
        raise InputError(
            path,
            f"its schema is '{schema}', this version reads '{SCHEMA}'",
            "read it with the version of neuro that wrote it",
        )
    if not isinstance(content.get("state_dict"), dict):
        raise InputError(path, "has no 'state_dict'", "give a checkpoint of `neuro train`")
    return dict(content)


def _instead(path: Path) -> str:
    """Return what to do with a file that holds no run."""
    model = path.with_name(BEST_MODEL)
    if path.name != BEST_MODEL and model.is_file():
        return f"judge {model}, the model of the same run"
    return "give it with --init-from"


def load_latest(checkpoints_dir: Path) -> tuple[Path, dict[str, Any], list[str]] | None:
    """Return the newest sound checkpoint of a run.

    Args:
        checkpoints_dir: Folder `checkpoints` of a run.

    Returns:
        Its path, its payload, and a sentence for each newer one that could not be read; None when
        nothing was saved yet.

    Raises:
        InputError: There are some, and none can be read.
    """
    notes: list[str] = []
    for name in (LAST, PREVIOUS):
        path = checkpoints_dir / name
        if not path.exists():
            continue
        try:
            return path, load_checkpoint(path), notes
        except InputError as error:
            notes.append(f"{name} {error.message}; the run goes on from the one saved before it")
    if not notes:
        return None
    findings = "; ".join(note.partition(";")[0] for note in notes)
    raise InputError(
        checkpoints_dir, f"no checkpoint can be read: {findings}", "start the run anew with --force"
    )
