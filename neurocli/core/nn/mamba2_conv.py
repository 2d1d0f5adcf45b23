"""The short convolution inside a Mamba-2 block, a block of tokens at a time, without autograd.

Forward, backward, and backward to the tokens before a sequence, by hand in buffers that stay in the
cache.

Letters: b batch, L length, T tokens of the block, C channels (x, B and C), K taps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurocli.core.nn.mamba2_parts import Weights
from neurocli.core.nn.ssd_block import Work
from neurocli.core.nn.values import is_true


def same_segment(segments: Tensor | None, start: int, length: int, lag: int) -> Tensor | None:
    """Say which tokens are in the segment of the token `lag` before them.

    Args:
        segments: Segment numbers (b,L), or None.
        start: First token.
        length: Tokens T.
        lag: How far back, >= 1.

    Returns:
        (b,T,1) bool, or None when all are. Tokens without one before them count as in it: what
        they would read is zero.
    """
    if segments is None:
        return None
    here = segments[:, start : start + length]
    places = torch.arange(start - lag, start + length - lag, device=segments.device).clamp_(min=0)
    same = here == segments[:, places]
    return None if is_true(same.all(), usually=True) else same.unsqueeze(-1)


def convolve(
    padded: Tensor, weights: Weights, segments: Tensor | None, start: int, work: Work
) -> Tensor:
    """Convolve a block.

    Args:
        padded: The block with the K-1 tokens before it (b,K-1+T,C); zeros before the first.
        weights: Parameters.
        segments: Segment numbers (b,L) of the whole sequence, or None.
        start: Place of the block's first token.
        work: Buffers.

    Returns:
        Convolved tokens before SiLU (b,T,C).
    """
    n_taps = weights.taps.shape[0]
    batch, length, channels = padded.shape
    length -= n_taps - 1
    out = work.buffer("convolved", batch, length, channels, exact=True)
    torch.addcmul(weights.conv_bias, padded[:, n_taps - 1 :], weights.taps[-1], out=out)
    for lag in range(1, n_taps):
        read = padded[:, n_taps - 1 - lag : n_taps - 1 - lag + length]
        same = same_segment(segments, start, length, lag)
        out.addcmul_(read if same is None else read * same, weights.taps[-1 - lag])
    return out


def convolve_back(
    padded: Tensor,
    d_out: Tensor,
    weights: Weights,
    segments: Tensor | None,
    start: int,
    grads: tuple[Tensor, Tensor],
    d_in: Tensor,
    work: Work,
) -> None:
    """Differentiate `convolve`.

    Args:
        padded: As it was convolved.
        d_out: Gradient of the block and of the K-1 tokens after it (b,T+K-1,C).
        weights: Parameters.
        segments: As in `convolve`.
        start: Place of the block's first token.
        grads: Gradients of taps (K,C) and bias (C,), added to.
        d_in: Where the gradient of the block's input (b,T,C) goes.
        work: Buffers.
    """
    n_taps = weights.taps.shape[0]
    length = d_out.shape[1] - (n_taps - 1)
    own = d_out[:, :length]
    torch.mul(own, weights.taps[-1], out=d_in)
    scratch = work.buffer("wide 2", *own.shape, exact=True)
    torch.mul(own, padded[:, n_taps - 1 :], out=scratch)
    grads[0][-1] += scratch.sum((0, 1))
    grads[1].add_(own.sum((0, 1)))
    for lag in range(1, n_taps):
        read = padded[:, n_taps - 1 - lag : n_taps - 1 - lag + length]
        torch.mul(own, read, out=scratch)
        same = same_segment(segments, start, length, lag)
        if same is not None:
            scratch.mul_(same)
        grads[0][-1 - lag] += scratch.sum((0, 1))
        reached = d_out[:, lag : lag + length]
        after = _reaches(segments, start, length, lag)
        d_in.addcmul_(reached if after is None else reached * after, weights.taps[-1 - lag])


def _reaches(segments: Tensor | None, start: int, length: int, lag: int) -> Tensor | None:
    """Say which tokens are in the segment of the token `lag` after them, as `same_segment`."""
    if segments is None:
        return None
    last = segments.shape[1] - 1
    places = torch.arange(start + lag, start + length + lag, device=segments.device)
    same = segments[:, start : start + length] == segments[:, places.clamp_(max=last)]
    return None if is_true(same.all(), usually=True) else same.unsqueeze(-1)


def convolve_back_before(ahead: Tensor, weights: Weights, segments: Tensor | None) -> Tensor:
    """Differentiate `convolve` to the tokens before a sequence.

    Args:
        ahead: Gradient of the first K-1 convolved tokens (b,K-1,C), zero where there are fewer.
        weights: Parameters.
        segments: Segment numbers (b,K-1+L), those of the tokens before it first; None for one.

    Returns:
        Gradient of the K-1 tokens before it (b,K-1,C).
    """
    n_before = ahead.shape[1]
    d_before = torch.zeros_like(ahead)
    for lag in range(1, n_before + 1):
        reached = ahead[:, :lag]
        if segments is not None:
            here = segments[:, n_before : n_before + lag]
            same = here == segments[:, n_before - lag : n_before - lag + here.shape[1]]
            reached = reached[:, : here.shape[1]] * same.unsqueeze(-1)
        n_read = reached.shape[1]
        first = n_before - lag
        d_before[:, first : first + n_read].addcmul_(reached, weights.taps[-1 - lag])
    return d_before
