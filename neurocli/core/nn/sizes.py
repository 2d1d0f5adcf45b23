"""Sizes that both a model and its closed-form cost follow, without torch.

A cost formula that spelled them again would drift from the model it describes.
"""

from __future__ import annotations

HEAD_SIZES = (64, 32, 16, 8)
"""Head sizes P that Mamba-2 blocks of this package take, the first that divides wins."""
CPU_BLOCK_ELEMENTS = 1 << 18
"""Elements of one block's decay matrices on a CPU: they stay near its cache."""
MAX_BLOCK_CHUNKS = 64
"""Chunks that one block of the scan holds at most."""


def head_size(d_inner: int) -> int | None:
    """Return the largest usual head size that divides `d_inner`, or None.

    >>> head_size(48)
    16
    """
    return next((size for size in HEAD_SIZES if d_inner % size == 0), None)


def block_chunks(n_heads: int, chunk: int, *, batch: int = 1, elements: int) -> int:
    """Return how many chunks one block of the scan holds.

    Args:
        n_heads: Heads H.
        chunk: Tokens per chunk.
        batch: Sequences worked on together.
        elements: Elements of decay matrices that one block may hold.
    """
    return min(max(elements // (batch * n_heads * chunk * chunk), 1), MAX_BLOCK_CHUNKS)
