"""What lies around the scan inside a Mamba-2 block, a block of tokens at a time, without autograd.

Convolution with SiLU, step sizes, the skip and the gated norm, each forward and backward by hand
over a few hundred tokens in buffers that stay in the cache. `mamba2_fused` strings them together.

Letters: b batch, T tokens of the block, C channels of the convolution (x, B and C), K taps,
I inner width, H heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.ssd_block import Tokens, Work
from neurocli.core.nn.values import is_true


class Layout(NamedTuple):
    """Hold the sizes and options of a block."""

    d_inner: int
    headdim: int
    groups: int
    state: int
    taps: int
    norm_group: int
    norm_eps: float
    norm_before_gate: bool
    dt_limit: tuple[float, float]
    chunk_size: int

    @property
    def channels(self) -> int:
        """Return channels of the convolution."""
        return self.d_inner + 2 * self.groups * self.state


class Weights(NamedTuple):
    """Hold the parameters in the working dtype: taps (K,C), A negative, D (I,)."""

    taps: Tensor
    conv_bias: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor
    norm: Tensor


class Gate(NamedTuple):
    """Keep what the gated norm's backward pass needs: SiLU(z), the unit rows, 1/rms per row."""

    opened: Tensor
    unit: Tensor
    inverse: Tensor


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
    work: Work,
) -> Tensor:
    """Differentiate `convolve`.

    Args:
        padded: As it was convolved.
        d_out: Gradient of the block and of the K-1 tokens after it (b,T+K-1,C).
        weights: Parameters.
        segments: As in `convolve`.
        start: Place of the block's first token.
        grads: Gradients of taps (K,C) and bias (C,), added to.
        work: Buffers.

    Returns:
        Gradient of the block's input (b,T,C).
    """
    n_taps = weights.taps.shape[0]
    length = d_out.shape[1] - (n_taps - 1)
    own = d_out[:, :length]
    d_in = work.buffer("d_convolved", *own.shape, exact=True)
    torch.mul(own, weights.taps[-1], out=d_in)
    scratch = work.buffer("conv_scratch", *own.shape, exact=True)
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
    return d_in


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


def scan_tokens(
    convolved: Tensor, raw_dt: Tensor, weights: Weights, layout: Layout, work: Work
) -> tuple[Tokens, Tensor]:
    """Turn convolved channels and raw step sizes into what the scan reads.

    Args:
        convolved: Tokens before SiLU (b,T,C).
        raw_dt: Step sizes (b,T,H) before the bias.
        weights: Parameters.
        layout: Sizes.
        work: Buffers.

    Returns:
        The scan's tokens, without segments, and the biased step sizes before softplus.
    """
    active = work.buffer("active", *convolved.shape, exact=True)
    torch.ops.aten.silu.out(convolved, out=active)
    biased = raw_dt.to(weights.dt_bias.dtype) + weights.dt_bias
    dt = F.softplus(biased).clamp_(*layout.dt_limit)
    x, B, C = split_channels(active, layout)
    return Tokens(x, dt, B, C, None), biased


def split_channels(active: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """View channels (b,T,C) as x (b,T,H,P), B and C (b,T,G,N)."""
    grouped = layout.groups * layout.state
    x, B, C = torch.split(active, [layout.d_inner, grouped, grouped], -1)
    maps = (layout.groups, layout.state)
    return (
        torch.unflatten(x, -1, (-1, layout.headdim)),
        torch.unflatten(B, -1, maps),
        torch.unflatten(C, -1, maps),
    )


def steps_back(d_dt: Tensor, biased: Tensor, layout: Layout) -> Tensor:
    """Return the gradient of the biased step sizes from that of the final ones, (b,T,H)."""
    low, high = layout.dt_limit
    free = F.softplus(biased)
    inside = (free >= low) & (free <= high)
    return d_dt * torch.sigmoid(biased) * inside


def gated_norm(values: Tensor, z: Tensor, weights: Weights, layout: Layout) -> tuple[Tensor, Gate]:
    """Gate and norm a block.

    Args:
        values: Scanned tokens with their skip (b,T,I); overwritten.
        z: Gates (b,T,I).
        weights: Parameters.
        layout: Sizes.

    Returns:
        Normed tokens (b,T,I), and what the backward pass needs.
    """
    opened = F.silu(z.to(values.dtype))
    if not layout.norm_before_gate:
        values.mul_(opened)
    grouped = torch.unflatten(values, -1, (-1, layout.norm_group))
    squares = torch.linalg.vector_norm(grouped, dim=-1, keepdim=True).square_()
    inverse = squares.div_(layout.norm_group).add_(layout.norm_eps).rsqrt_()
    unit = grouped.mul_(inverse).flatten(-2)
    out = unit * weights.norm
    if layout.norm_before_gate:
        out.mul_(opened)
    return out, Gate(opened, unit, inverse)


def gated_norm_back(
    d_out: Tensor,
    values: Tensor,
    z: Tensor,
    gate: Gate,
    weights: Weights,
    layout: Layout,
    d_norm: Tensor,
) -> tuple[Tensor, Tensor]:
    """Differentiate `gated_norm`.

    Args:
        d_out: Gradient of the normed tokens (b,T,I).
        values: Scanned tokens with their skip, before the gate (b,T,I).
        z: Gates.
        gate: From `gated_norm`.
        weights: Parameters.
        layout: Sizes.
        d_norm: Gradient of the norm's weight (I,), added to.

    Returns:
        Gradients of `values` and of z.
    """
    opened, unit, inverse = gate
    if layout.norm_before_gate:
        d_gate = d_out * unit * weights.norm
        d_out = d_out * opened
    d_norm.add_((d_out * unit).sum((0, 1)))
    d_unit = torch.unflatten(d_out * weights.norm, -1, (-1, layout.norm_group))
    units = torch.unflatten(unit, -1, (-1, layout.norm_group))
    mean = (d_unit * units).mean(-1, keepdim=True)
    d_values = d_unit.addcmul_(units, mean, value=-1).mul_(inverse).flatten(-2)
    if not layout.norm_before_gate:
        d_gate = d_values * values
        d_values = d_values * opened
    return d_values, torch.ops.aten.silu_backward(d_gate, z.to(d_gate.dtype))
