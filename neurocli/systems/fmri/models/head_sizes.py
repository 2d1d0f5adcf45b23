"""Sizes of the heads, without torch, for the modules and for their closed-form cost."""

from __future__ import annotations

CONV_LAYERS = 4
CONV_TAPS = 10
CONV_STRIDE = 2
CONV_PADDING = 1
MAMBA_LAYERS = 3
MAMBA_TAPS = 4
MAMBA_EXPAND = 2


def conv_length(n_tokens: int) -> int:
    """Return how many places one convolution of the conv head leaves.

    >>> conv_length(106)
    50
    """
    return (n_tokens + 2 * CONV_PADDING - CONV_TAPS) // CONV_STRIDE + 1


def shortest_conv_input() -> int:
    """Return the fewest tokens that leave one place after all convolutions.

    >>> shortest_conv_input()
    106
    """
    n_tokens = 1
    for _ in range(CONV_LAYERS):
        n_tokens = (n_tokens - 1) * CONV_STRIDE + CONV_TAPS - 2 * CONV_PADDING
    return n_tokens


def head_state_size(embed_dim: int) -> int:
    """Return the states per channel of a Mamba-1 layer in a head, E // 16 and at least 1.

    >>> head_state_size(64)
    4
    """
    return max(1, embed_dim // 16)
