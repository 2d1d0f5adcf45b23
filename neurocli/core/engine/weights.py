"""Weights apart from runs: read them from any common file, fit them to a model, export them.

Names are compared, never guessed: what does not fit is reported with at most five names of each
kind, on one line.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neurocli.core.engine.torch_file import open_regular, read_torch_file
from neurocli.core.errors import InputError, NeuroError
from neurocli.core.paths import durable_write

BEST_MODEL = "best_model.pt"
"""The model of a run without steps, and of programs that call their best one so."""

SCHEMA = "neuro/checkpoint/1"
_WRAPPERS = ("_forward_module.", "module.", "model.", "_orig_mod.")
_MAX_HEADER = 100_000_000
_DIGEST = "sha256"
_SHOWN = 5
_DEEPSPEED = "mp_rank_00_model_states.pt"
_STATE = frozenset({"state_dict", "optimizer", "scaler", "ema", "rng"})


@dataclass(frozen=True)
class Recognised:
    """Tell what foreign weights are of.

    Args:
        model: Name of the model.
        sizes: Keys of its config block that the shapes give, and `n_outputs` of a head.
        missing: What a caller must add, each key with what the shapes say about it.
        weights: The tensors under the model's own names.
        untold: Keys of the config block that no shape tells and that change what the weights mean.
        notes: What was taken for granted.
    """

    model: str
    sizes: Mapping[str, Any]
    missing: Mapping[str, str]
    weights: Mapping[str, torch.Tensor]
    untold: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadReport:
    """Tell what a state dict did to a model: names by what happened to them."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]


def load_weights(
    model: nn.Module, state_dict: Mapping[str, Any], *, strict: bool = True, label: str
) -> LoadReport:
    """Copy weights into a model, all or (not strict) those that fit.

    Args:
        model: The model, on any device.
        state_dict: Name -> tensor.
        strict: Whether every name must fit; otherwise what does not is reported.
        label: Where the weights came from, for the error.

    Returns:
        What was loaded, missing, unexpected and of another shape.

    Raises:
        NeuroError: Something does not fit (strict), nothing fits, or a weight is not finite.
    """
    own = model.state_dict()
    shared = [name for name in state_dict if name in own]
    misshapen = [n for n in shared if _shape(state_dict[n]) != tuple(own[n].shape)]
    fitting = {n: state_dict[n] for n in shared if n not in set(misshapen)}
    missing = [name for name in own if name not in state_dict]
    unexpected = [name for name in state_dict if name not in own]
    if (strict and (missing or unexpected or misshapen)) or not fitting:
        shapes = [f"{n} {_shape(state_dict[n])} for {tuple(own[n].shape)}" for n in misshapen]
        findings = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        found = "; ".join(listed(kind, names) for kind, names in findings if names)
        raise NeuroError(
            f"the weights do not fit {type(model).__name__}: {found or 'there are none'}",
            where=label,
            hint="build the model with the configuration the weights were trained with",
        )
    _check_values(fitting, own, label)
    # Names were compared above, with a message of one line.
    model.load_state_dict(fitting, strict=False)
    return LoadReport(tuple(fitting), tuple(missing), tuple(unexpected), tuple(misshapen))


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__


def listed(kind: str, names: Collection[str]) -> str:
    """Return how many names there are of a kind, and the first of them.

    >>> listed("missing", ["a", "b"]), listed("unexpected", [])
    ('2 missing (a, b)', '0 unexpected')
    """
    if not names:
        return f"0 {kind}"
    shown = ", ".join(list(names)[:_SHOWN])
    return f"{len(names)} {kind} ({shown}{', ...' if len(names) > _SHOWN else ''})"


def _check_values(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], label: str
) -> None:
    for name, value in weights.items():
        if value.is_floating_point() != own[name].is_floating_point():
            raise NeuroError(
                f"{name} is {value.dtype}, the model holds {own[name].dtype}",
                where=label,
                hint="the file was written by another program or is damaged",
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NeuroError(
                f"{name} holds NaN or infinity",
                where=label,
                hint="take an earlier checkpoint: the training that wrote this one diverged",
            )


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the weights of a checkpoint of ours, a state dict, Lightning or safetensors.

    Names of foreign files lose the prefixes that wrappers add (`_forward_module.`, `module.`,
    `model.`, `_orig_mod.`), unless two names would become one.

    Args:
        path: The file; what it is is read from its content.

    Returns:
        Name -> tensor on the CPU; and what else the file tells: all that a checkpoint of ours says
        of its run (config, info, split), or the `hyper_parameters` of a foreign one.

    Raises:
        InputError: The file is damaged, of another kind, or holds no weights.
    """
    if _is_safetensors(path):
        return _unwrapped(_read_safetensors(path)), {}
    content = read_torch_file(path)
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        head = {key: value for key, value in content.items() if key not in _STATE}
        return _tensors(path, content.get("state_dict")), head
    told = _hyper_parameters(content)
    # Lightning and most others keep the weights one level down, DeepSpeed under its own name.
    while isinstance(content, dict) and (inner := _inner(content)) is not None:
        content = inner
    return _unwrapped(_tensors(path, content)), told


def _inner(content: dict[str, Any]) -> dict[str, Any] | None:
    found = (content.get(key) for key in ("state_dict", "module"))
    return next((inner for inner in found if isinstance(inner, dict)), None)


def _hyper_parameters(content: Any) -> dict[str, Any]:
    told = content.get("hyper_parameters") if isinstance(content, dict) else None
    if isinstance(told, argparse.Namespace):
        told = vars(told)
    return {"hyper_parameters": dict(told)} if isinstance(told, dict) else {}


def find_weights(path: Path) -> tuple[Path, str | None]:
    """Return the file of weights that a path means, and a sentence when it is not the path.

    Args:
        path: A file; or a run folder, for its best checkpoint; or a DeepSpeed checkpoint folder.

    Raises:
        InputError: Nothing of the kind is there.
    """
    if not path.is_dir():
        return path, None
    candidates = [path / "checkpoints" / name for name in ("best.pth", "last.pth")]
    candidates.append(path / BEST_MODEL)
    candidates += sorted(path.rglob(_DEEPSPEED), reverse=True)
    for file in candidates:
        if file.is_file():
            return file, f"{path} is a folder: {file.relative_to(path)} is taken"
    raise InputError(
        path, "is a folder without a checkpoint", "name a .pth, .ckpt or .safetensors file"
    )


def _is_safetensors(path: Path) -> bool:
    with open_regular(path) as handle:
        head = handle.read(9)
    return head[8:9] == b"{" or (path.suffix == ".safetensors" and not head.startswith(b"PK"))


def _tensors(path: Path, content: Any) -> dict[str, torch.Tensor]:
    found = (
        {str(n): v for n, v in content.items() if isinstance(v, torch.Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not found:
        raise InputError(
            path,
            f"holds no weights (a {type(content).__name__} without tensors by name)",
            "give a checkpoint, or a file with the state_dict of a model",
        )
    return found


def _unwrapped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    # Two names that become one belong to different things; then none is touched.
    renamed = {_strip(name): value for name, value in weights.items()}
    return renamed if len(renamed) == len(weights) else weights


def _strip(name: str) -> str:
    # Wrappers stand around each other in any order.
    while prefix := next((wrapper for wrapper in _WRAPPERS if name.startswith(wrapper)), None):
        name = name.removeprefix(prefix)
    return name


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    # Checked here: the claim decides how much a reader allocates.
    with open_regular(path) as handle:
        n_header = int.from_bytes(handle.read(8), "little")
    if n_header > min(_MAX_HEADER, path.stat().st_size):
        raise InputError(path, f"claims a header of {n_header} bytes", "restore it from a copy")
    try:
        with safe_open(path, framework="pt", device="cpu") as archive:
            digest = (archive.metadata() or {}).get(_DIGEST)
            weights = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, MemoryError) as error:
        raise InputError(path, f"is no sound safetensors file: {error}", "restore it") from error
    if digest is not None and digest != weights_sha256(weights):
        raise InputError(path, "is damaged: its weights do not match their SHA-256", "restore it")
    return _tensors(path, weights)


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """Return one hash over names, shapes, kinds and bytes of weights, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def export_safetensors(
    path: Path, state_dict: Mapping[str, torch.Tensor], meta: Mapping[str, str]
) -> Path:
    """Write weights as safetensors, with their hash in its metadata.

    Args:
        path: The target, ending in .safetensors.
        state_dict: Name -> tensor; tied weights are written once per name.
        meta: Texts to keep beside them, such as the model's name.

    Returns:
        `path`.

    Raises:
        NeuroError: The file cannot be written.
    """
    from safetensors.torch import save

    # The format refuses tensors that share memory.
    weights = {n: v.detach().cpu().contiguous().clone() for n, v in state_dict.items()}
    return durable_write(path, save(weights, {**meta, _DIGEST: weights_sha256(weights)}))
