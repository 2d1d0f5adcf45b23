"""Models without numbers: shapes and types only, so that any model fits any machine.

On torch's meta device tensors have no storage at all: right for counting operations. Fake tensors
pretend to lie on a real device and take the paths that it takes: right for following memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

_META = torch.device("meta")


def build_on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model on the meta device; nothing is allocated where its builder allows that.

    Args:
        build: Makes the model.
    """
    try:
        with _META:
            return build()
    # Some builders read a value back while they build; only then is the model made for real.
    except (RuntimeError, NotImplementedError):
        return build().to(_META)


def shadow_of(
    build: Callable[[], nn.Module], example: Callable[[], Tensor]
) -> tuple[FakeTensorMode, nn.Module, Tensor]:
    """Return a mode, and a model and its input that hold no numbers while it is on.

    Args:
        build: Makes the model.
        example: Makes its input.
    """
    # Sizes stay plain numbers; without this a shape that depends on values would be guessed.
    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    try:
        with mode:
            return mode, build(), example()
    except (RuntimeError, NotImplementedError):
        return mode, _faked(build(), mode), mode.from_tensor(example(), static_shapes=True)


def _faked(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            fake: Any = mode.from_tensor(weight, static_shapes=True)
            module.register_parameter(name, nn.Parameter(fake, weight.requires_grad))
        for name, value in module.named_buffers(recurse=False):
            module._buffers[name] = mode.from_tensor(value, static_shapes=True)
    return model
