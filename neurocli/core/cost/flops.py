"""Operations counted by watching a model run: torch's counter, mended, and thop's.

Torch's counter is right for matrix products and wrong in two places that matter here, so both are
given to it: the backward pass of a grouped convolution, where it forgets the groups, and the
attention kernel of the CPU, which it does not know. Fused multiply-adds, with which the causal
convolution is built, are counted too. Two operations per multiply-add, element-wise work is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_flop_count

from neurocli.core.cost.shadow import build_on_meta
from neurocli.core.errors import MissingDependencyError

Shape = Sequence[int]


def count_forward(model: nn.Module, example: Tensor) -> int:
    """Return the operations of a forward pass without gradients.

    Args:
        model: The model, in evaluation mode.
        example: Its input, on its device.

    >>> count_forward(nn.Linear(3, 5), torch.zeros(2, 3))
    60
    """
    with torch.no_grad():
        return _counted(lambda: model(example))


def count_train_step(model: nn.Module, example: Tensor) -> int:
    """Return the operations of a forward and a backward pass, recomputation included.

    Args:
        model: The model; its gradients are dropped afterwards.
        example: Its input, on its device.

    >>> count_train_step(nn.Linear(3, 5), torch.zeros(2, 3))
    120
    """
    try:
        return _counted(lambda: torch.autograd.backward(scalar_of(model(example))))
    finally:
        model.zero_grad(set_to_none=True)


def count_on(
    build: Callable[[], nn.Module], example: Callable[[], Tensor]
) -> tuple[int, int, int, str]:
    """Return operations forward and in a training step, parameters, and how they were counted.

    Shapes alone decide the count of most models, so nothing is computed; a model whose work
    depends on the values of its input is run.

    Args:
        build: Makes the model, in evaluation mode.
        example: Makes its input.
    """
    try:
        model, x = build_on_meta(build), torch.empty_like(example(), device="meta")
        forward, train = count_forward(model, x), count_train_step(model, x)
        how = "counted by shapes, without computing"
    except (RuntimeError, NotImplementedError):
        model, x = build(), example()
        forward, train = count_forward(model, x), count_train_step(model, x)
        how = "counted while running on random input"
    params = sum(parameter.numel() for parameter in model.parameters())
    return forward, train, params, f"{how}; element-wise work is not counted"


def _counted(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False, custom_mapping=_MENDED) as counter:
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


def count_with_thop(model: nn.Module, example: Tensor) -> tuple[int, int]:
    """Return (multiply-adds, parameters) as the package thop counts them.

    Thop counts by the type of modules, so products written as functions are missed.

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
    with torch.no_grad():
        kin = _known_kin(model, register_hooks)
        macs, parameters = profile(model, inputs=(example,), custom_ops=kin, verbose=False)
    return int(macs), int(parameters)


def _known_kin(model: nn.Module, known: Mapping[type, Any]) -> dict[type, Any]:
    """Return thop's rule for each class whose parent it knows: it looks at exact types only."""
    found: dict[type, Any] = {}
    for kind in {type(module) for module in model.modules()} - set(known):
        parent = next((base for base in kind.__mro__ if base in known), None)
        if parent is not None and known[parent] is not None:
            found[kind] = known[parent]
    return found


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


def _fused_multiply_add(_x: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * prod(out_shape)


_ATEN = torch.ops.aten
_MENDED: dict[Any, Callable[..., int]] = {
    _ATEN.convolution_backward: _conv_backward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _ATEN.addcmul: _fused_multiply_add,
    _ATEN.addcmul_: _fused_multiply_add,
}
