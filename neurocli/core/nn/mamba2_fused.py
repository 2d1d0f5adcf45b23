"""The inside of a Mamba-2 block between its two projections, as one differentiable function.

Convolution, SiLU, step sizes, scan, skip and gated norm go over the sequence in blocks of about a
thousand tokens, so what passes between them stays in the cache. Training keeps the projected
input, the scanned tokens and one state per block; all else is computed again backwards. Without
gradients `stream_block` does the projections block by block too, and nothing of the length of the
sequence exists but its input and its output.

Letters: b batch, L length, E width, I inner width, H heads, G groups, N state size.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurocli.core.nn.mamba2_parts import (
    Layout,
    Weights,
    convolve,
    convolve_back,
    convolve_back_before,
    gated_norm,
    gated_norm_back,
    scan_tokens,
    split_channels,
    steps_back,
)
from neurocli.core.nn.products import fast_products
from neurocli.core.nn.sequence_parallel import Carry
from neurocli.core.nn.ssd_backward import Gradients
from neurocli.core.nn.ssd_block import Tokens, Work, choose_chunk, log_decays
from neurocli.core.nn.ssd_blocks import row_blocks, scan_block, scan_block_back


def empty_carry(like: Tensor, weights: Weights, layout: Layout) -> Carry:
    """Return what stands before the first token of sequences (b,L,...): zeros."""
    tail = weights.A.new_zeros(like.shape[0], layout.taps - 1, layout.channels)
    width = layout.d_inner // layout.groups
    return Carry(tail, weights.A.new_zeros(like.shape[0], layout.groups, layout.state, width))


def fused_inner(
    projected: Tensor,
    weights: Weights,
    layout: Layout,
    segments: Tensor | None,
    carry: Carry | None = None,
) -> tuple[Tensor, Carry]:
    """Mix projected tokens: everything of a Mamba-2 block between its projections.

    A sequence may be mixed piece by piece, each with the carry of the one before it: the outputs
    and, through the carries, the gradients are those of the whole.

    Args:
        projected: in_proj's output (b,L,2I+2GN+H): gate z, channels xBC, raw step sizes dt.
        weights: Parameters, float32 or float64.
        layout: Sizes and options.
        segments: Segment numbers that never fall along a row, or None: (b,L), or with a carry
            (b,K-1+L), the tail's first.
        carry: What the tokens before these left; None for a sequence's beginning.

    Returns:
        Tokens (b,L,I) for out_proj, in the dtype of `projected`, and what they leave.
    """
    n_before = 0 if carry is None else layout.taps - 1
    start = empty_carry(projected, weights, layout) if carry is None else carry
    out, tail, state = _FusedInner.apply(  # type: ignore[no-untyped-call]
        projected, *start, *weights, layout, segments, n_before
    )
    return out, Carry(tail, state)


class _FusedInner(torch.autograd.Function):
    """Run the blocks forward, and backward by hand."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        tail, state, *parameters, layout, segments, n_before = arguments
        weights, state = Weights(*parameters), state.clone()
        work = _work(projected, weights)
        batch, length = projected.shape[:2]
        out = projected.new_empty(batch, length, layout.d_inner)
        scanned = weights.A.new_empty(batch, length, layout.d_inner)
        states, chunks = [state.clone()], []
        with fast_products(projected.device):
            for rows in row_blocks(projected):
                padded = _padded(projected, tail, rows, layout, work)
                convolved = convolve(padded, weights, segments, rows.start + n_before, work)
                raw_dt = projected[:, rows, layout.d_inner + layout.channels :]
                tokens, _ = scan_tokens(convolved, raw_dt, weights, layout, work)
                tokens = tokens._replace(segments=_with_before(segments, rows, n_before))
                y = scanned[:, rows]
                chunks.append(_scan(tokens, weights, layout, state, y, work))
                states.append(state.clone())
                values = _with_skip(y, tokens.x, weights, work)
                z = projected[:, rows, : layout.d_inner]
                out[:, rows] = gated_norm(values, z, weights, layout)[0]
        ctx.save_for_backward(projected, tail, *weights, segments, scanned, torch.stack(states))
        ctx.layout, ctx.chunks, ctx.n_before = layout, chunks, n_before
        return out, _last_inputs(tail, projected, layout), state

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_out: Tensor, d_last: Tensor, d_state: Tensor
    ) -> tuple[Tensor | None, ...]:
        projected, tail, *parameters, segments, scanned, states = ctx.saved_tensors
        weights, layout = Weights(*parameters), ctx.layout
        work = _work(projected, weights)
        wide = log_decays(weights.A, weights.A).dtype
        sums = Weights(*(torch.zeros_like(part, dtype=wide) for part in weights))
        d_projected, d_state = torch.empty_like(projected), d_state.clone()
        ahead = torch.zeros_like(tail)  # of the first outputs of the block behind
        with fast_products(projected.device):
            for number, rows in reversed(list(enumerate(row_blocks(projected)))):
                padded = _padded(projected, tail, rows, layout, work)
                block = _BlockBack(
                    projected, padded, rows, weights, layout, (segments, ctx.n_before), work
                )
                d_tokens, d_raw_dt = block.scan(
                    d_out[:, rows],
                    scanned[:, rows],
                    (states[number], states[number + 1]),
                    d_state,
                    sums,
                    chunk=ctx.chunks[number],
                    d_z=d_projected[:, rows, : layout.d_inner],
                )
                d_projected[:, rows, layout.d_inner + layout.channels :] = d_raw_dt
                d_projected[:, rows, layout.d_inner : layout.d_inner + layout.channels] = (
                    block.convolution(d_tokens, ahead, sums)
                )
        known = segments if ctx.n_before else None
        d_tail = convolve_back_before(ahead, weights, known)
        _add_last(d_tail, d_projected, d_last, layout)
        d_weights = [total.to(part.dtype) for total, part in zip(sums, weights, strict=True)]
        return d_projected, d_tail, d_state, *d_weights, None, None, None


class _BlockBack:
    """Compute one block again and differentiate it."""

    def __init__(
        self,
        projected: Tensor,
        padded: Tensor,
        rows: slice,
        weights: Weights,
        layout: Layout,
        segments: tuple[Tensor | None, int],
        work: Work,
    ) -> None:
        self.weights, self.layout, self.work = weights, layout, work
        (self.segments, n_before), self.padded = segments, padded
        self.start = rows.start + n_before
        self.z = projected[:, rows, : layout.d_inner]
        self.convolved = convolve(padded, weights, self.segments, self.start, work)
        raw_dt = projected[:, rows, layout.d_inner + layout.channels :]
        tokens, self.biased = scan_tokens(self.convolved, raw_dt, weights, layout, work)
        self.tokens = tokens._replace(segments=_with_before(self.segments, rows, n_before))

    def scan(
        self,
        d_out: Tensor,
        y: Tensor,
        states: tuple[Tensor, Tensor],
        d_state: Tensor,
        sums: Weights,
        *,
        chunk: int,
        d_z: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Go back through norm, skip and scan; returns the gradients of channels and raw dt."""
        weights, layout, work, x = self.weights, self.layout, self.work, self.tokens.x
        values = _with_skip(y, x, weights, work)
        before_gate = values.clone()
        d_out = d_out.to(values.dtype)
        _, gate = gated_norm(values, self.z, weights, layout)
        d_values, d_gate = gated_norm_back(
            d_out, before_gate, self.z, gate, weights, layout, sums.norm
        )
        d_z.copy_(d_gate)
        d_active = work.buffer("d_active", *self.convolved.shape, exact=True)
        d_x, d_B, d_C = split_channels(d_active, layout)
        d_dt = torch.empty_like(self.tokens.dt)
        grads = Gradients(x=d_x, dt=d_dt, B=d_B, C=d_C, A=sums.A, state=d_state)
        scan_block_back(
            self.tokens,
            weights.A,
            states,
            (y.view_as(x), d_values.view_as(x)),
            grads,
            work=work,
            chunk=chunk,
        )
        d_x, x = d_active[..., : layout.d_inner], x.flatten(2)
        d_x.addcmul_(d_values, weights.D)
        sums.D.add_((d_values * x).sum((0, 1)))
        d_raw_dt = steps_back(d_dt, self.biased, layout)
        sums.dt_bias.add_(d_raw_dt.sum((0, 1), dtype=sums.dt_bias.dtype))
        return d_active, d_raw_dt

    def convolution(self, d_active: Tensor, ahead: Tensor, sums: Weights) -> Tensor:
        """Go back through SiLU and convolution; `ahead` holds the next block's first gradients."""
        length, n_ahead = d_active.shape[1], ahead.shape[1]
        shape = (d_active.shape[0], length + n_ahead, d_active.shape[2])
        d_out = self.work.buffer("d_out", *shape, exact=True)
        d_out[:, :length] = torch.ops.aten.silu_backward(d_active, self.convolved)
        d_out[:, length:] = ahead
        ahead.copy_(d_out[:, :n_ahead].clone())
        return convolve_back(
            self.padded,
            d_out,
            self.weights,
            self.segments,
            self.start,
            (sums.taps, sums.conv_bias),
            self.work,
        )


def stream_block(
    u: Tensor,
    projections: tuple[Tensor, Tensor],
    weights: Weights,
    layout: Layout,
    segments: Tensor | None,
    carry: Carry | None = None,
) -> tuple[Tensor, Carry]:
    """Mix whole sequences without gradients in memory that does not grow with their length.

    Args:
        u: Tokens (b,L,E).
        projections: Weights of in_proj (2I+2GN+H,E) and out_proj (E,I).
        weights: Parameters, float32 or float64.
        layout: Sizes and options.
        segments: As in `fused_inner`.
        carry: What the tokens before these left; None for a sequence's beginning.

    Returns:
        Tokens (b,L,E), and what they leave.
    """
    n_heads = weights.A.numel()
    parts = torch.split(projections[0], [layout.d_inner, layout.channels, n_heads])
    work, out = _work(F.linear(u[:, :1], parts[2]), weights), None
    n_before, n_known = layout.taps - 1, 0 if carry is None else layout.taps - 1
    start = empty_carry(u, weights, layout) if carry is None else carry
    tail, state = (part.clone() for part in start)
    with fast_products(u.device):
        for rows in row_blocks(u, share=2):  # its projections need room, too
            here = u[:, rows]
            z, channels, raw_dt = (F.linear(here, part) for part in parts)
            shape = (u.shape[0], n_before + here.shape[1], layout.channels)
            padded = work.buffer("padded", *shape, exact=True)
            padded[:, :n_before], padded[:, n_before:] = tail, channels
            tail.copy_(padded[:, here.shape[1] :])
            convolved = convolve(padded, weights, segments, rows.start + n_known, work)
            tokens, _ = scan_tokens(convolved, raw_dt, weights, layout, work)
            tokens = tokens._replace(segments=_with_before(segments, rows, n_known))
            y = work.buffer("y", *z.shape, exact=True)
            _scan(tokens, weights, layout, state, y, work)
            values = _with_skip(y, tokens.x, weights, work)
            mixed = gated_norm(values, z, weights, layout)[0].to(z.dtype)
            mixed = F.linear(mixed, projections[1])
            out = u.new_empty(u.shape, dtype=mixed.dtype) if out is None else out
            out[:, rows] = mixed
    assert out is not None  # a sequence holds at least one token
    return out, Carry(tail, state)


def _work(projected: Tensor, weights: Weights) -> Work:
    dtype = weights.A.dtype
    product = torch.bfloat16 if projected.dtype == torch.bfloat16 else dtype
    return Work(dtype, product, projected.device)


def _padded(projected: Tensor, tail: Tensor, rows: slice, layout: Layout, work: Work) -> Tensor:
    """Copy a block's channels behind those of the K-1 tokens before it."""
    n_before = layout.taps - 1
    shape = (projected.shape[0], n_before + rows.stop - rows.start, layout.channels)
    padded = work.buffer("padded", *shape, exact=True)
    first = max(rows.start - n_before, 0)
    n_missing = n_before - (rows.start - first)
    channels = slice(layout.d_inner, layout.d_inner + layout.channels)
    padded[:, :n_missing] = tail[:, n_before - n_missing :]
    padded[:, n_missing:] = projected[:, first : rows.stop, channels]
    return padded


def _last_inputs(tail: Tensor, projected: Tensor, layout: Layout) -> Tensor:
    """Return the convolution's last K-1 inputs (b,K-1,C), some of the tail's where L is short."""
    n_before = layout.taps - 1
    own = projected[:, -n_before:, layout.d_inner : layout.d_inner + layout.channels]
    return torch.cat([tail, own.to(tail.dtype)], 1)[:, own.shape[1] :]


def _add_last(d_tail: Tensor, d_projected: Tensor, d_last: Tensor, layout: Layout) -> None:
    """Add the gradient of `_last_inputs` to those of the tail and of the projected tokens."""
    n_before = layout.taps - 1
    own = d_projected[:, -n_before:, layout.d_inner : layout.d_inner + layout.channels]
    n_own = own.shape[1]
    own.add_(d_last[:, n_before - n_own :].to(own.dtype))
    d_tail[:, n_own:].add_(d_last[:, : n_before - n_own])


def _with_before(segments: Tensor | None, rows: slice, n_before: int) -> Tensor | None:
    """Return a block's segments behind that of the token before it."""
    if segments is None:
        return None
    first, last = rows.start + n_before, rows.stop + n_before
    before = segments[:, max(first - 1, 0)].unsqueeze(1)
    return torch.cat([before, segments[:, first:last]], 1)


def _scan(
    tokens: Tokens, weights: Weights, layout: Layout, state: Tensor, y: Tensor, work: Work
) -> int:
    logs = log_decays(tokens.dt, weights.A)
    chunk = choose_chunk(logs, weights.A.dtype, layout.chunk_size)
    target = torch.unflatten(y, -1, (-1, layout.headdim))
    scan_block(tokens, weights.A, state, target, work=work, chunk=chunk)
    return chunk


def _with_skip(y: Tensor, x: Tensor, weights: Weights, work: Work) -> Tensor:
    values = work.buffer("values", *y.shape, exact=True)
    return torch.addcmul(y, x.flatten(2), weights.D, out=values)
