"""Sizes that both a model and its closed-form cost follow, without torch.

A cost formula that spelled them again would drift from the model it describes.
"""

from __future__ import annotations

HEAD_SIZES = (64, 32, 16, 8)
"""Head sizes P that Mamba-2 blocks of this package take, the first that divides wins."""
CHUNKS = (64, 32, 16, 8, 4)
"""Tokens per chunk that the scan takes, the longest whose decays stay in range."""
BLOCK_TOKENS = 1024
"""Tokens, over the batch, of one block of the scan on a CPU: its buffers stay near the cache."""
SELECTIVE_CHUNK = 32
"""Tokens that a chunk of the selective scan takes one after another."""
SELECTIVE_BLOCK_ELEMENTS = 1 << 20
"""States that one block of the selective scan holds on a CPU."""


def head_size(d_inner: int) -> int | None:
    """Return the largest usual head size that divides `d_inner`, or None.

    >>> head_size(48)
    16
    """
    return next((size for size in HEAD_SIZES if d_inner % size == 0), None)


def longest_chunk(length: int, chunk_size: int) -> int:
    """Return the longest chunk that the scan takes in a block, where no decay is too strong.

    Args:
        length: Tokens of the block; a chunk that none of them fills would only be padding.
        chunk_size: Upper bound; the shortest of `CHUNKS` is taken where it is shorter still.

    >>> longest_chunk(1024, 256), longest_chunk(5, 256), longest_chunk(1024, 1)
    (64, 8, 4)
    """
    enough = next((size for size in reversed(CHUNKS) if size >= length), CHUNKS[0])
    return next((size for size in CHUNKS if size <= min(enough, chunk_size)), CHUNKS[-1])


def keeps_states(chunk: int, state: int) -> bool:
    """Say whether training keeps the states between chunks rather than compute them again.

    It does where they take no more memory than the scanned tokens.

    Args:
        chunk: Tokens per chunk.
        state: State size N.

    >>> keeps_states(64, 32), keeps_states(16, 32)
    (True, False)
    """
    return state <= chunk


def block_length(*, batch: int = 1, tokens: int = BLOCK_TOKENS) -> int:
    """Return the tokens along one sequence that a block of the scan holds.

    Args:
        batch: Sequences worked on together.
        tokens: Tokens of a block over the batch.

    Returns:
        A multiple of every chunk.

    >>> block_length(), block_length(batch=3)
    (1024, 320)
    """
    return max(tokens // batch // CHUNKS[0], 1) * CHUNKS[0]


def selective_block(states: int, *, elements: int) -> int:
    """Return how many tokens one block of the selective scan holds, in whole chunks.

    Args:
        states: Numbers of the state after one token, over the batch.
        elements: Numbers that the states of one block may hold.

    >>> selective_block(2048, elements=1 << 20)
    512
    """
    return max(elements // (states * SELECTIVE_CHUNK), 1) * SELECTIVE_CHUNK


def dt_rank(d_model: int) -> int:
    """Return the rank of a Mamba-1 block's step sizes, ceil(E / 16).

    >>> dt_rank(24)
    2
    """
    return -(-d_model // 16)
