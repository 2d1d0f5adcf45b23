"""Memory stage by stage: what is alive while each part of a model runs, and what it keeps.

A stage is a direct child of the model that is called (a wrapper around one child is opened, a list
of modules is taken apart). Its peak is the most that is alive at once while it runs, what earlier
stages left for later ones included; what it keeps is saved for the backward pass, each storage
told once, by the stage that saves it first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from neurocli.core.cost.memory import StorageMeter

Row = dict[str, Any]


def stages_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the stages of a model by name.

    >>> list(stages_of(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))
    ['0', '1']
    """
    found: dict[str, nn.Module] = {}
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            found |= {f"{name}.{part}": module for part, module in child.named_children()}
        else:
            found[name] = child
    if len(found) == 1:
        only = next(iter(found.values()))
        return stages_of(only) or found
    return found


def stage_rows(
    model: nn.Module,
    example: Tensor,
    *,
    training: bool,
    resident: Iterable[Tensor] = (),
) -> list[Row]:
    """Return one row per stage of a forward pass, in the order in which stages first run.

    Args:
        model: The model, in the mode that is measured.
        example: Its input.
        training: Keep what the backward pass needs; else without gradients.
        resident: Tensors that were there before and do not count.

    Returns:
        Rows with stage_name, mode (train or inference), pam_mean and pam_std (peak bytes alive
        while the stage runs; one pass, so no spread), num_runs, output_bytes and saved_bytes.
    """
    rows: dict[str, Row] = {}
    mode = "train" if training else "inference"
    kept = list(resident)
    meter = StorageMeter(kept)
    with torch.set_grad_enabled(training), meter, _watched(stages_of(model), meter, rows, mode):
        model(example)
    if training:
        # In a pass of its own: what is counted here is held by the count, not by the pass.
        with torch.enable_grad(), _saved(stages_of(model), kept, rows):
            model(example)
    return list(rows.values())


@contextmanager
def _watched(
    stages: dict[str, nn.Module], meter: StorageMeter, rows: dict[str, Row], mode: str
) -> Iterator[None]:
    hooks = []
    for name, stage in stages.items():

        def begin(*_: Any) -> None:
            meter.mark()

        def end(_module: Any, _inputs: Any, output: Any, name: str = name) -> None:
            row = rows.setdefault(
                name,
                {
                    "stage_name": name,
                    "mode": mode,
                    "pam_mean": 0.0,
                    "pam_std": 0.0,
                    "num_runs": 1,
                    "output_bytes": 0,
                    "saved_bytes": 0,
                },
            )
            row["pam_mean"] = max(row["pam_mean"], float(meter.since))
            row["output_bytes"] += sum(map(_n_bytes, tree_leaves(output)))

        hooks += [stage.register_forward_pre_hook(begin), stage.register_forward_hook(end)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _saved(
    stages: dict[str, nn.Module], resident: list[Tensor], rows: dict[str, Row]
) -> Iterator[None]:
    seen = {tensor.untyped_storage()._cdata for tensor in resident}
    held: list[Tensor] = []
    running: list[str] = []

    def pack(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if running and running[-1] in rows and key not in seen:
            seen.add(key)
            rows[running[-1]]["saved_bytes"] += tensor.untyped_storage().nbytes()
        # Held, so that its address is not given to another tensor meanwhile.
        held.append(tensor.detach())
        return tensor.detach()

    hooks = []
    for name, stage in stages.items():
        hooks.append(stage.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        hooks.append(stage.register_forward_hook(lambda *_: running.pop() and None))
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _n_bytes(leaf: Any) -> int:
    return leaf.numel() * leaf.element_size() if isinstance(leaf, Tensor) else 0
