"""What lies around the scan inside a Mamba-2 block, a block of tokens at a time, without autograd.

Convolution with SiLU, step sizes, the skip and the gated norm, each forward and backward by hand
over a few hundred tokens in buffers that stay in the cache. `mamba2_fused` strings them together.

Letters: b batch, T tokens of the block, C channels of the convolution (x, B and C), K taps,
I inner width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.sequence_parallel import Carry
from neurocli.core.nn.ssd_block import Work
from neurocli.core.nn.ssd_decays import Run, Tokens, log_decays, runs_of


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

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """View projected tokens (...,2I+2GN) as gates and channels."""
        return projected[..., : self.d_inner], projected[..., self.d_inner :]


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


class Sums(NamedTuple):
    """Add gradients up over blocks: of in_proj, M of out_proj, and of the rest in float64."""

    into: Tensor | None
    exit: Tensor
    rest: Weights

    def of_exit(self, w_out: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
        """Return the gradients of out_proj (E,I) and of the norm before it (I,)."""
        wide = self.rest.norm.dtype
        d_norm = (self.exit.to(wide) * w_out.to(wide)).sum(0)
        return (self.exit * weights.norm).to(w_out.dtype), d_norm.to(weights.norm.dtype)


def sums_of(weights: Weights, w_in: Tensor | None, w_out: Tensor) -> Sums:
    """Return sums of nothing yet; w_in is None where its gradient is not wanted."""
    wide, zeros = log_decays(weights.A, weights.A).dtype, weights.A.new_zeros
    rest = Weights(*(torch.zeros_like(part, dtype=wide) for part in weights))
    return Sums(None if w_in is None else zeros(w_in.shape), zeros(w_out.shape), rest)


def empty_carry(like: Tensor, weights: Weights, layout: Layout) -> Carry:
    """Return what stands before the first token of sequences (b,L,...): zeros."""
    tail = weights.A.new_zeros(like.shape[0], layout.taps - 1, layout.channels)
    width = layout.d_inner // layout.groups
    return Carry(tail, weights.A.new_zeros(like.shape[0], layout.groups, layout.state, width))


def work_of(u: Tensor, weights: Weights) -> Work:
    """Return buffers for tokens of a dtype: bfloat16 ones take products of it, too."""
    dtype = weights.A.dtype
    product = torch.bfloat16 if u.dtype == torch.bfloat16 else dtype
    return Work(dtype, product, u.device)


def with_norm(w_out: Tensor, weights: Weights, dtype: torch.dtype) -> Tensor:
    """Return out_proj (E,I) with the norm's weight, which stands right before it."""
    return (w_out.to(weights.norm.dtype) * weights.norm).to(dtype)


def with_before(segments: Tensor | None, rows: slice, n_before: int) -> Tensor | None:
    """Return a block's segments behind that of the token before it."""
    if segments is None:
        return None
    first, last = rows.start + n_before, rows.stop + n_before
    before = segments[:, max(first - 1, 0)].unsqueeze(1)
    return torch.cat([before, segments[:, first:last]], 1)


def activate(convolved: Tensor, work: Work) -> Tensor:
    """Return SiLU of convolved tokens (b,T,C)."""
    active = work.buffer("active", *convolved.shape, exact=True)
    torch.ops.aten.silu.out(convolved, out=active)
    return active


def scan_tokens(active: Tensor, segments: Tensor | None, layout: Layout) -> Tokens:
    """View channels (b,T,C) behind SiLU as what the scan reads."""
    x, B, C = split_channels(active, layout)
    return Tokens(x, B, C, segments)


def steps_of(raw_dt: Tensor, weights: Weights, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return the final step sizes (b,T,H) of raw ones, and the biased ones before softplus."""
    biased = raw_dt.to(weights.dt_bias.dtype) + weights.dt_bias
    return F.softplus(biased).clamp_(*layout.dt_limit), biased


def runs_of_steps(
    dt: Tensor,
    blocks: list[slice],
    weights: Weights,
    layout: Layout,
    chunks: Sequence[int] | None = None,
) -> list[Run]:
    """Return the decays of step sizes by block; `chunks` as they were chosen before."""
    return runs_of(
        dt,
        weights.A,
        blocks,
        (layout.groups, layout.headdim),
        dtype=weights.A.dtype,
        chunk_size=layout.chunk_size if chunks is None else chunks,
    )


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


def with_skip(y: Tensor, x: Tensor, weights: Weights, work: Work) -> Tensor:
    """Return scanned tokens (b,T,I) with D x."""
    values = work.buffer("wide 1", *y.shape, exact=True)
    return torch.addcmul(y, x.flatten(2), weights.D, out=values)


def gated_norm(values: Tensor, z: Tensor, layout: Layout, work: Work) -> tuple[Tensor, Gate]:
    """Gate and norm a block. The norm's weight is left to the projection behind it.

    Args:
        values: Scanned tokens with their skip (b,T,I).
        z: Gates (b,T,I).
        layout: Sizes.
        work: Buffers.

    Returns:
        Normed tokens (b,T,I), and what the backward pass needs.
    """
    opened, unit = (work.buffer(name, *values.shape, exact=True) for name in ("wide 2", "wide 3"))
    torch.ops.aten.silu.out(z if z.dtype == opened.dtype else opened.copy_(z), out=opened)
    if layout.norm_before_gate:
        unit.copy_(values)
    else:
        torch.mul(values, opened, out=unit)
    grouped = torch.unflatten(unit, -1, (-1, layout.norm_group))
    squares = torch.linalg.vector_norm(grouped, dim=-1, keepdim=True).square_()
    inverse = squares.div_(layout.norm_group).add_(layout.norm_eps).rsqrt_()
    grouped.mul_(inverse)
    out = unit
    if layout.norm_before_gate:
        out = torch.mul(unit, opened, out=work.buffer("wide 4", *values.shape, exact=True))
    return out, Gate(opened, unit, inverse)


def gated_norm_back(
    d_out: Tensor, values: Tensor, z: Tensor, gate: Gate, layout: Layout, d_z: Tensor, work: Work
) -> Tensor:
    """Differentiate `gated_norm`.

    Args:
        d_out: Gradient of the normed tokens (b,T,I); becomes that of `values`.
        values: Scanned tokens with their skip, before the gate (b,T,I).
        z: Gates.
        gate: From `gated_norm`.
        layout: Sizes.
        d_z: Where the gradient of z goes.
        work: Buffers.

    Returns:
        Gradient of `values`.
    """
    opened, unit, inverse = gate
    d_gate, scratch = (work.buffer(n, *unit.shape, exact=True) for n in ("wide 5", "wide 6"))
    if layout.norm_before_gate:
        torch.mul(d_out, unit, out=d_gate)
        d_out.mul_(opened)
    groups = (-1, layout.norm_group)
    means = torch.unflatten(torch.mul(d_out, unit, out=scratch), -1, groups).mean(-1, keepdim=True)
    units, d_units = torch.unflatten(unit, -1, groups), torch.unflatten(d_out, -1, groups)
    d_units.addcmul_(units, means, value=-1).mul_(inverse)
    if not layout.norm_before_gate:
        torch.mul(d_out, values, out=d_gate)
        d_out.mul_(opened)
    if d_z.dtype == d_gate.dtype == z.dtype:
        torch.ops.aten.silu_backward.grad_input(d_gate, z, grad_input=d_z)
    else:
        d_z.copy_(torch.ops.aten.silu_backward(d_gate, z.to(d_gate.dtype)))
    return d_out
