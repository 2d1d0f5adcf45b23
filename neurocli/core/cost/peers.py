"""Operations as other people's packages count them, and what they miss or count more than once.

thop counts by the type of modules and deepspeed by patched functions, so each sees only what it
knows. What they say is compared, module by module or as a whole, with torch's counter.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neurocli.core.cost.flops import count_modules
from neurocli.core.errors import MissingDependencyError

_SAME = 0.005  # of the whole; what is nearer is not worth a word
_N_NAMED = 3


def count_with_thop(model: nn.Module, example: Tensor) -> tuple[int, int, str]:
    """Return (multiply-adds, parameters, what they miss or overstate) by the package thop.

    Args:
        model: A model that nobody uses afterwards: thop leaves its hooks' buffers in it.
        example: Its input.

    Raises:
        MissingDependencyError: thop is absent or does not load.
    """
    try:
        from thop import profile
        from thop.profile import register_hooks
    except ImportError as error:
        raise MissingDependencyError(
            f"thop does not load: {error}", where="--engine thop", hint="pip install thop"
        ) from error
    ours = count_modules(model, example)
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    with torch.no_grad():
        kin = _known_kin(model, register_hooks)
        macs, parameters, tree = profile(
            model, inputs=(example,), custom_ops=kin, verbose=False, ret_layer_info=True
        )
    return int(macs), int(parameters), _explain_modules(dict(_leaves(tree)), kinds, ours)


def _known_kin(model: nn.Module, known: Mapping[type, Any]) -> dict[type, Any]:
    """Return thop's rule for each class whose parent it knows: it looks at exact types only."""
    found: dict[type, Any] = {}
    for kind in {type(module) for module in model.modules()} - set(known):
        parent = next((base for base in kind.__mro__ if base in known), None)
        if parent is not None and known[parent] is not None:
            found[kind] = known[parent]
    return found


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, (macs, _, below) in tree.items():
        if below:
            yield from _leaves(below, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", float(macs)


def _explain_modules(
    theirs: Mapping[str, float], kinds: Mapping[str, str], ours: Mapping[str, int]
) -> str:
    """Say, kind by kind, where multiply-adds per module differ from half the operations of ours."""
    whole = ours[""] / 2
    told: dict[str, float] = defaultdict(float)
    right: dict[str, float] = defaultdict(float)
    seen = 0.0
    for name, macs in theirs.items():
        own = ours.get(name, 0) / 2
        told[kinds[name]] += macs
        right[kinds[name]] += own
        seen += own if macs else 0
    wrong = sorted(told, key=lambda kind: -abs(told[kind] - right[kind]))
    words = [
        f"{kind} counted {told[kind] / right[kind]:.3g}x"
        for kind in wrong
        if right[kind] and told[kind] and abs(told[kind] - right[kind]) > _SAME * whole
    ][:_N_NAMED]
    free = sum(told[kind] for kind in told if not right[kind])
    if free > _SAME * whole:
        words.append(f"element-wise work of layers counted, +{free / whole:.1%}")
    if whole - seen > _SAME * whole:
        words.append(f"products written as functions not seen, -{1 - seen / whole:.1%}")
    return "; ".join(words) or "agrees"


def count_with_deepspeed(model: nn.Module, example: Tensor) -> tuple[int, int, int, str]:
    """Return (operations, multiply-adds, parameters, what they miss) by deepspeed's profiler.

    Args:
        model: The model, in evaluation mode.
        example: Its input.

    Raises:
        MissingDependencyError: deepspeed is absent or does not load.
    """
    profile_of = load_deepspeed()
    whole = count_modules(model, example)[""]
    with contextlib.redirect_stdout(io.StringIO()):
        profiler = profile_of(model)
        profiler.start_profile()
        try:
            with torch.no_grad():
                model(example)
            flops, macs = int(profiler.get_total_flops()), int(profiler.get_total_macs())
            parameters = int(profiler.get_total_params())
        finally:
            profiler.end_profile()
    words = []
    if flops - 2 * macs > _SAME * whole:
        words.append(f"element-wise work counted, +{(flops - 2 * macs) / whole:.1%}")
    share = 2 * macs / whole
    if share < 1 - _SAME:
        words.append(f"products inside custom functions and einsum not seen, -{1 - share:.1%}")
    elif share > 1 + _SAME:
        words.append(f"products counted more than once, +{share - 1:.1%}")
    return flops, macs, parameters, "; ".join(words) or "agrees"


def load_deepspeed() -> Any:
    """Return the class of deepspeed's profiler.

    Raises:
        MissingDependencyError: deepspeed is absent or does not load.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        # Its logger writes to the stream that stands as stdout when it is imported.
        with contextlib.redirect_stdout(io.StringIO()):
            from deepspeed.profiling.flops_profiler import FlopsProfiler
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"deepspeed does not load: {error}",
            where="--engine deepspeed",
            hint="pip install 'neurocli[deepspeed]', or use --engine torch",
        ) from error
    return FlopsProfiler
