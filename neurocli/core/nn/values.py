"""Questions about the numbers in a tensor, answered by assumption where it has none.

Costs are told over tensors that have shapes but no numbers (torch's meta device, fake tensors). A
model that asks them something must be told the usual answer, or its cost needs a machine on which
it can run.
"""

from __future__ import annotations

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def has_values(tensor: Tensor) -> bool:
    """Return whether numbers stand behind a tensor.

    >>> import torch
    >>> has_values(torch.zeros(2)), has_values(torch.zeros(2, device="meta"))
    (True, False)
    """
    return not (tensor.is_meta or isinstance(tensor, FakeTensor))


def is_true(condition: Tensor, *, usually: bool) -> bool:
    """Return whether a condition holds.

    Args:
        condition: One truth value.
        usually: What is assumed where there are no numbers to ask.

    >>> import torch
    >>> is_true(torch.tensor(True), usually=False)
    True
    """
    return bool(condition) if has_values(condition) else usually
