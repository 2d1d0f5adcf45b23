"""Who counts operations: the closed formula, torch's counter, or other people's packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from neurocli.core.cost.target import Target
from neurocli.core.errors import MissingDependencyError, NotBuiltYetError


@dataclass(frozen=True)
class FlopsResult:
    """Hold the cost of one sample.

    Args:
        model: Model name.
        params: Learned numbers.
        macs: Multiply-adds of a forward pass.
        flops: Operations of a forward pass, two per multiply-add.
        flops_train_step: Operations forward and backward.
        tokens: Tokens that are read; None where the engine does not know.
        engine: Who counted.
        input_shape: Shape of the sample.
        notes: Sentences the user should read.
        components: Forward operations by part, where the engine knows them.
    """

    model: str
    params: int
    macs: int
    flops: int
    flops_train_step: int
    tokens: int | None
    engine: str
    input_shape: list[int]
    notes: list[str] = field(default_factory=list)
    components: Mapping[str, int] = field(default_factory=dict)


_TOKENS_NOTE = (
    "all tokens are counted; where background is dropped, cost falls with the tokens kept"
)


def _by_formula(target: Target) -> FlopsResult:
    cost = target.formula()
    notes = list(cost.get("notes", [_TOKENS_NOTE]))
    return _flops(target, "formula", cost["macs"], cost["flops_train_step"], cost, notes)


def _by_torch(target: Target) -> FlopsResult:
    from neurocli.core.cost.flops import count_on

    forward, train, params, note = count_on(target.build, target.example)
    return _flops(target, "torch", forward // 2, train, {"params": params}, [note])


def _by_thop(target: Target) -> FlopsResult:
    from neurocli.core.cost.flops import count_with_thop

    # Counted first: thop leaves buffers of its own in the model.
    model = target.build()
    params = sum(parameter.numel() for parameter in model.parameters())
    macs, seen = count_with_thop(model, target.example())
    notes = [
        "thop counts by module type: products written as functions, such as the scan, are missed",
        f"thop sees {seen} of the {params} parameters",
        "thop does not count training steps; three forward passes are assumed",
    ]
    return _flops(target, "thop", macs, 6 * macs, {"params": params}, notes)


def _by_deepspeed(target: Target) -> FlopsResult:
    if find_spec("deepspeed") is None:
        raise MissingDependencyError(
            "deepspeed is not installed",
            where="--engine deepspeed",
            hint="pip install 'neurocli[deepspeed]', or use --engine torch",
        )
    raise NotBuiltYetError(
        "counting with deepspeed is not in this version", hint="use --engine torch"
    )


ENGINES: Mapping[str, Callable[[Target], FlopsResult]] = {
    "formula": _by_formula,
    "torch": _by_torch,
    "thop": _by_thop,
    "deepspeed": _by_deepspeed,
}


def _flops(
    target: Target,
    engine: str,
    macs: int,
    train: int,
    found: Mapping[str, Any],
    notes: list[str],
) -> FlopsResult:
    return FlopsResult(
        model=target.name,
        params=int(found["params"]),
        macs=macs,
        flops=2 * macs,
        flops_train_step=train,
        tokens=found.get("tokens", target.formula()["tokens"]),
        engine=engine,
        input_shape=list(target.input_shape),
        notes=notes,
        components=found.get("components", {}),
    )
