"""Encode a batch chunk by chunk and train as if it had gone through whole.

Only the encoded vectors of a batch are kept. Once the loss over all of them has been
differentiated, every chunk is encoded a second time, with the random state of the first, and takes
its share of the gradient (gradient caching, arXiv 2101.06983). Memory is that of one chunk, the
gradient that of the whole batch, the price one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Encoder = Callable[..., tuple[Tensor, ...]]


def encode_in_chunks(
    encode: Encoder, inputs: Sequence[Tensor | None], chunk: int | None
) -> tuple[Tensor, ...]:
    """Return what an encoder gives for a batch.

    The encoder must treat every row by itself: no batch statistics, and no randomness that depends
    on how rows are grouped.

    Args:
        encode: Takes the inputs, returns tensors with a row per row.
        inputs: Tensors with one row per sample; None is handed on.
        chunk: Rows at once; None or a whole batch encodes in one piece and keeps everything.
    """
    n = next(len(value) for value in inputs if value is not None)
    if chunk is None or chunk >= n or not torch.is_grad_enabled():
        return encode(*inputs)
    found: list[tuple[Tensor, ...]] = []
    for first in range(0, n, chunk):
        at = slice(first, min(first + chunk, n))
        part = [None if value is None else value[at] for value in inputs]
        found.append(checkpoint(encode, *part, use_reentrant=False))
    return tuple(torch.cat(column) for column in zip(*found, strict=True))
