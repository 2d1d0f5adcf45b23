"""Who counts operations: the closed formula, torch's counter, or other people's packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from neurocli.core.cost.target import Target
from neurocli.core.errors import MissingDependencyError


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
        tokens_total: Tokens of the whole sample, background included; None without tokens.
        work: Training operations of a clip, a step, an epoch and a run, and what they follow from;
            None for what is not known.
        engines: One row per engine where all were asked: its figures, its share of the formula's
            operations, and why it differs.
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
    tokens_total: int | None = None
    work: Mapping[str, int | None] = field(default_factory=dict)
    engines: list[dict[str, Any]] = field(default_factory=list)


_TOKENS_NOTE = (
    "all tokens are counted; where background is dropped, cost falls with the tokens kept "
    "(--tokens-kept)"
)
_ALIKE = "agrees"


def _by_formula(target: Target) -> FlopsResult:
    cost = target.formula()
    notes = list(cost.get("notes", [_TOKENS_NOTE] if cost["tokens"] == _total(cost) else []))
    return _flops(target, "formula", cost["macs"], cost["flops_train_step"], cost, notes)


def _by_torch(target: Target) -> FlopsResult:
    from neurocli.core.cost.flops import count_both, on_shapes

    (forward, train, params), is_shape = on_shapes(
        target.build, target.example, lambda model, x: (*count_both(model, x), _n_numbers(model))
    )
    how = "counted by shapes, without computing" if is_shape else "counted on random input"
    note = f"{how}; element-wise work is not counted"
    return _flops(target, "torch", forward // 2, train, {"params": params}, [note])


def _by_thop(target: Target) -> FlopsResult:
    from neurocli.core.cost.flops import on_shapes
    from neurocli.core.cost.peers import count_with_thop

    (params, (macs, seen, why)), _ = on_shapes(
        # Counted first: thop leaves buffers of its own in the model.
        target.build,
        target.example,
        lambda model, x: (_n_numbers(model), count_with_thop(model, x)),
    )
    notes = [
        f"against torch's counter: {why}",
        f"thop sees {seen} of the {params} parameters",
        "thop does not count training steps; three forward passes are assumed",
    ]
    return _flops(target, "thop", macs, 6 * macs, {"params": params}, notes)


def _by_deepspeed(target: Target) -> FlopsResult:
    from neurocli.core.cost.peers import count_with_deepspeed, load_deepspeed

    load_deepspeed()
    # Run for real: without numbers torch takes linear layers apart, and they would count twice.
    flops, macs, params, why = count_with_deepspeed(target.build(), target.example())
    notes = [
        f"against torch's counter: {why}",
        "deepspeed does not count training steps; three forward passes are assumed",
    ]
    found = _flops(target, "deepspeed", macs, 3 * flops, {"params": params}, notes)
    return replace(found, flops=flops)


ENGINES: Mapping[str, Callable[[Target], FlopsResult]] = {
    "formula": _by_formula,
    "torch": _by_torch,
    "thop": _by_thop,
    "deepspeed": _by_deepspeed,
}


def compare_engines(target: Target) -> FlopsResult:
    """Return the formula's record with a row of every engine in it.

    An engine whose package is absent has a row that says how to get it.

    Args:
        target: The model.
    """
    formula = _by_formula(target)
    rows = []
    for name, count in ENGINES.items():
        try:
            found = formula if name == "formula" else count(target)
        except MissingDependencyError as error:
            rows.append(_row(name, None, f"{error.message}; {error.hint}", formula))
            continue
        rows.append(_row(name, found, _reason(name, found, formula, target), formula))
    return replace(formula, engines=rows)


def _reason(name: str, found: FlopsResult, formula: FlopsResult, target: Target) -> str:
    if name == "formula":
        return "closed form: products of the model as this package computes them"
    if name != "torch":
        return f"{found.notes[0].partition(': ')[2]}; training assumed three times forward"
    from neurocli.core.cost.flops import count_both, on_shapes

    (forward, train), _ = on_shapes(
        target.build, target.example, lambda model, x: count_both(model, x, mended=False)
    )
    raw = (forward / found.flops, train / found.flops_train_step)
    words = [_ALIKE] if abs(found.flops - formula.flops) <= 1e-4 * formula.flops else [
        f"runs what it counts: {found.flops / formula.flops - 1:+.2%} forward"
    ]  # fmt: skip
    if max(abs(ratio - 1) for ratio in raw) > 1e-4:
        words.append(
            "attention on a CPU, groups of convolutions backward and fused multiply-adds are "
            f"mended; as shipped it says {raw[0]:.3g}x forward, {raw[1]:.3g}x for a training step"
        )
    return "; ".join(words)


def _row(name: str, found: FlopsResult | None, why: str, formula: FlopsResult) -> dict[str, Any]:
    keys = ("params", "macs", "flops", "flops_train_step")
    figures = {key: None if found is None else getattr(found, key) for key in keys}
    share = None if found is None else found.flops / formula.flops
    return {"engine": name, **figures, "share": share, "why": why}


def _n_numbers(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _total(cost: Mapping[str, Any]) -> Any:
    return cost.get("tokens_total", cost["tokens"])


def _flops(
    target: Target,
    engine: str,
    macs: int,
    train: int,
    found: Mapping[str, Any],
    notes: list[str],
) -> FlopsResult:
    formula = found if "tokens" in found else target.formula()
    return FlopsResult(
        model=target.name,
        params=int(found["params"]),
        macs=macs,
        flops=2 * macs,
        flops_train_step=train,
        tokens=formula["tokens"],
        engine=engine,
        input_shape=list(target.input_shape),
        notes=notes,
        components=found.get("components", {}),
        tokens_total=_total(formula),
    )
