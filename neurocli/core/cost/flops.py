"""Operations counted by watching a model run: torch's counter, mended.

Torch's counter is right for matrix products and wrong in two places that matter here, so both are
given to it: the backward pass of a grouped convolution, where it forgets the groups, and the
attention kernel of the CPU, which it does not know. Fused multiply-adds, with which the causal
convolution is built, are counted too. Two operations per multiply-add, element-wise work is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_flop_count

from neurocli.core.cost.shadow import build_on_meta

Shape = Sequence[int]
Counts = TypeVar("Counts")


def count_forward(model: nn.Module, example: Tensor) -> int:
    """Return the operations of a forward pass without gradients.

    Args:
        model: The model, in evaluation mode.
        example: Its input, on its device.

    >>> count_forward(nn.Linear(3, 5), torch.zeros(2, 3))
    60
    """
    with torch.no_grad():
        return _counted(lambda: model(example), _MENDED)


def count_train_step(model: nn.Module, example: Tensor) -> int:
    """Return the operations of a forward and a backward pass, recomputation included.

    Args:
        model: The model; its gradients are dropped afterwards.
        example: Its input, on its device.

    >>> count_train_step(nn.Linear(3, 5), torch.zeros(2, 3))
    120
    """
    try:
        return _counted(lambda: torch.autograd.backward(scalar_of(model(example))), _MENDED)
    finally:
        model.zero_grad(set_to_none=True)


def count_modules(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Return the operations of a forward pass by module name; the whole stands under "".

    Args:
        model: The model, in evaluation mode.
        example: Its input, on its device.

    >>> count_modules(nn.Sequential(nn.Linear(3, 5)), torch.zeros(2, 3))
    {'': 60, '0': 60}
    """
    root = type(model).__name__
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_MENDED) as counter:
        model(example)
    found = {"": int(counter.get_total_flops())}
    for name, counts in counter.get_flop_counts().items():
        if name.startswith(f"{root}."):
            found[name.removeprefix(f"{root}.")] = int(sum(counts.values()))
    return found


def on_shapes(
    build: Callable[[], nn.Module],
    example: Callable[[], Tensor],
    work: Callable[[nn.Module, Tensor], Counts],
) -> tuple[Counts, bool]:
    """Return what a count says of a model, and whether shapes alone told it.

    Shapes decide the count of most models, so nothing is computed; a model whose work depends on
    the values of its input is run.

    Args:
        build: Makes the model, in evaluation mode.
        example: Makes its input.
        work: Counts; called a second time, with real tensors, where shapes do not do.
    """
    try:
        return work(build_on_meta(build), torch.empty_like(example(), device="meta")), True
    except (RuntimeError, NotImplementedError):
        return work(build(), example()), False


def count_both(model: nn.Module, example: Tensor, *, mended: bool = True) -> tuple[int, int]:
    """Return the operations of a forward pass and of a training step.

    Args:
        model: The model, in evaluation mode; its gradients are dropped afterwards.
        example: Its input, on its device.
        mended: Correct torch's counter; False is the counter as torch ships it.
    """
    mapping = _MENDED if mended else {}
    with torch.no_grad():
        forward = _counted(lambda: model(example), mapping)
    try:
        step = _counted(lambda: torch.autograd.backward(scalar_of(model(example))), mapping)
    finally:
        model.zero_grad(set_to_none=True)
    return forward, step


def _counted(work: Callable[[], object], mapping: Mapping[Any, Callable[..., int]]) -> int:
    with FlopCounterMode(display=False, custom_mapping=dict(mapping)) as counter:
        work()
    return int(counter.get_total_flops())


def scalar_of(outputs: Any) -> Tensor:
    """Return one scalar that depends on every differentiable output of a model.

    Its backward pass costs what that of a real loss costs, but for element-wise work.

    Args:
        outputs: A tensor, or a mapping or sequence of such.
    """
    total = torch.zeros(())
    for tensor in _tensors(outputs):
        # Masks and inputs that are handed through carry no gradient.
        if tensor.requires_grad:
            total = total.to(tensor.device) + tensor.float().mean()
    return total


def _tensors(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        return [tensor for part in outputs for tensor in _tensors(part)]
    return []


def _conv_backward(grad: Shape, x: Shape, weight: Shape, *rest: Any, out_shape: Any) -> int:
    # The rest are bias, stride, padding, dilation, transposed, output padding, groups and a mask.
    transposed, wanted = bool(rest[4]), rest[7]
    # Both gradients pair the same inputs, taps and outputs as the forward pass does.
    forward = conv_flop_count(list(x), list(weight), list(grad), transposed)
    return int(forward) * (bool(wanted[0]) + bool(wanted[1]))


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(
    _grad: Any, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any
) -> int:
    # Scores are computed again, then five products of the forward's kinds: 2.5 times as much.
    return _attention(query, key, value) * 5 // 2


def _product(_total: Shape, left: Shape, right: Shape, *_: Any, **__: Any) -> int:
    return 2 * prod(left) * right[-1]


def _fused_multiply_add(_x: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * prod(out_shape)


_ATEN = torch.ops.aten
_MENDED: dict[Any, Callable[..., int]] = {
    _ATEN.convolution_backward: _conv_backward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _ATEN.addmm_: _product,
    _ATEN.baddbmm_: _product,
    _ATEN.addcmul: _fused_multiply_add,
    _ATEN.addcmul_: _fused_multiply_add,
}
