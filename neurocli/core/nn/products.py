"""Float32 matrix products on a CPU through oneDNN, where that costs no precision.

torch sends float32 products to MKL unless told that they need not be exact; told so, it sends
them to oneDNN, which on some processors is half as fast again. On processors with bfloat16
matrix units the same switch means bfloat16 arithmetic, so it is thrown only after a product was
compared with float64 in this process.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

_SIZE = 192
_TOLERANCE = 1.5  # times the error of the exact setting
_EXACT, _FREE = "highest", "medium"


@contextlib.contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Take float32 products the fastest exact way while the context is open.

    Nothing changes on other devices, where the check fails, or where the caller of torch has
    already chosen a setting. The setting is torch's own and belongs to the process; it is put
    back on leaving.

    Args:
        device: Where the products are taken.
    """
    before = torch.get_float32_matmul_precision()
    if device.type != "cpu" or before != _EXACT or not onednn_is_exact():
        yield
        return
    torch.set_float32_matmul_precision(_FREE)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@functools.cache
def onednn_is_exact() -> bool:
    """Return whether products keep their float32 error under the free setting; checked once."""
    # A thread of its own: autocast and counters of the caller must not reach the check.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_check_products).result()


def _check_products() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    gen = torch.Generator().manual_seed(0)
    left, right = (torch.randn(2, _SIZE, _SIZE, generator=gen) for _ in range(2))
    want = left.double() @ right.double()
    before = torch.get_float32_matmul_precision()
    errors = []
    try:
        for setting in (_EXACT, _FREE):
            torch.set_float32_matmul_precision(setting)
            batched = (left @ right - want).abs().max()
            single = (left[0] @ right[0] - want[0]).abs().max()
            errors.append(float(torch.maximum(batched, single)))
    finally:
        torch.set_float32_matmul_precision(before)
    return errors[1] <= _TOLERANCE * errors[0]


def project(x: Tensor, weight: Tensor, out: Tensor) -> None:
    """Write x weight^T where it belongs, without a copy for one sequence.

    Args:
        x: Tokens (b,T,E).
        weight: (F,E), in the dtype of x.
        out: (b,T,F).
    """
    if x.shape[0] == 1 and out.dtype == x.dtype:
        torch.mm(x[0], weight.t(), out=out[0])
    else:
        out.copy_(F.linear(x, weight))


def add_outer(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the sum over tokens of left right^T to a total.

    Args:
        total: (F,E).
        left: Tokens (b,T,F).
        right: Tokens (b,T,E), in the dtype of `left`.
    """
    left, right = left.flatten(0, 1), right.flatten(0, 1)
    if total.dtype == left.dtype:
        torch.addmm(total, left.t(), right, out=total)  # operators in place go uncounted
    else:
        total.add_(left.t() @ right)
