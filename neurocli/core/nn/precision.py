"""In which dtype a product is taken, and keeping autocast away from code that chooses itself."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Keep autocast away while the context is open.

    Args:
        device: Where the tensors are.
    """
    if torch.amp.autocast_mode.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


def product_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype in which a product of a tensor is taken here: its own, or autocast's.

    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     product_dtype(torch.zeros(1)), product_dtype(torch.zeros(1).double())
    (torch.bfloat16, torch.float64)
    """
    kind = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.amp.autocast_mode.is_autocast_available(kind):
        return tensor.dtype
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype
