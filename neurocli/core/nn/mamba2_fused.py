"""A Mamba-2 block with its projections, as one differentiable function.

Projections, convolution, SiLU, step sizes, scan, skip and gated norm go over the sequence in
blocks of about a thousand tokens, so what passes between them stays in the cache, backwards too:
no gradient but those of the input and of the weights ever has the length of the sequence. Training
keeps the input, the projected tokens, the scanned ones, scores and states of the scan where they
are small (`sizes.keeps_states`) and one state per block; the rest is computed again backwards.

The norm's weight w stands before the projection out, so it is one with it: out = unit (w W)^T. The
gradients of both come from one sum over the tokens, M = d_out^T unit: dW = w M, dw = sum W M.

Letters: b batch, L length, E width, I inner width, H heads, G groups, N state size, K taps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurocli.core.nn.mamba2_conv import convolve, convolve_back, convolve_back_before
from neurocli.core.nn.mamba2_parts import (
    Layout,
    Sums,
    Weights,
    activate,
    empty_carry,
    gated_norm,
    gated_norm_back,
    runs_of_steps,
    scan_tokens,
    split_channels,
    steps_back,
    steps_of,
    sums_of,
    with_before,
    with_norm,
    with_skip,
    work_of,
)
from neurocli.core.nn.products import add_outer, fast_products, project
from neurocli.core.nn.sequence_parallel import Carry
from neurocli.core.nn.ssd_backward import Gradients
from neurocli.core.nn.ssd_block import Kept, Work
from neurocli.core.nn.ssd_blocks import row_blocks, scan_block, scan_block_back
from neurocli.core.nn.ssd_decays import (
    Decays,
    DecaySums,
    Run,
    Tokens,
    chunks_of,
    steps_gradient,
)


def fused_block(
    u: Tensor,
    projections: tuple[Tensor, Tensor],
    weights: Weights,
    layout: Layout,
    segments: Tensor | None,
    carry: Carry | None = None,
) -> tuple[Tensor, Carry]:
    """Mix tokens, with gradients.

    A sequence may be mixed piece by piece, each with the carry of the one before it: the outputs
    and, through the carries, the gradients are those of the whole.

    Args:
        u: Tokens (b,L,E).
        projections: Weights of in_proj (2I+2GN+H,E), in the dtype of u, and out_proj (E,I).
        weights: Parameters, float32 or float64.
        layout: Sizes and options.
        segments: Segment numbers that never fall along a row, or None: (b,L), or with a carry
            (b,K-1+L), the tail's first.
        carry: What the tokens before these left; None for a sequence's beginning.

    Returns:
        Tokens (b,L,E) in the dtype of u, and what they leave.
    """
    n_before = 0 if carry is None else layout.taps - 1
    start = empty_carry(u, weights, layout) if carry is None else carry
    out, tail, state = _FusedBlock.apply(  # type: ignore[no-untyped-call]
        u, *projections, *start, *weights, layout, segments, n_before
    )
    return out, Carry(tail, state)


class _Block(NamedTuple):
    """Hold what the blocks' two directions share of one block of T tokens.

    z (b,T,I); padded (b,K-1+T,C), the convolution's input with the tokens before;
    convolved (b,T,C); what the scan reads.
    """

    z: Tensor
    padded: Tensor
    convolved: Tensor
    tokens: Tokens


class _Sequence(NamedTuple):
    """Hold projected tokens (b,K-1+L,2I+2GN) with the tail before them, and how they are mixed."""

    projected: Tensor
    weights: Weights
    layout: Layout
    segments: Tensor | None
    n_before: int
    work: Work

    def rows(self, rows: slice) -> Tensor:
        """View projected tokens (b,T,2I+2GN)."""
        n_tail = self.layout.taps - 1
        return self.projected[:, rows.start + n_tail : rows.stop + n_tail]

    def block(self, rows: slice) -> _Block:
        """Convolve a block."""
        weights, layout, work = self.weights, self.layout, self.work
        z, _ = layout.split(self.rows(rows))
        _, padded = layout.split(self.projected[:, rows.start : rows.stop + layout.taps - 1])
        if padded.dtype != work.dtype:
            padded = work.buffer("padded", *padded.shape, exact=True).copy_(padded)
        start = rows.start + self.n_before
        convolved = convolve(padded, weights, self.segments, start, work)
        segments = with_before(self.segments, rows, self.n_before)
        tokens = scan_tokens(activate(convolved, work), segments, layout)
        return _Block(z, padded, convolved, tokens)


class _FusedBlock(torch.autograd.Function):
    """Run the blocks forward, and backward by hand."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        w_in, w_out, tail, state, *parameters, layout, segments, n_before = arguments
        weights, state = Weights(*parameters), state.clone()
        work, w_mixed = work_of(u, weights), with_norm(w_out, weights, u.dtype)
        batch, length = u.shape[:2]
        n_heads = weights.A.numel()
        projected = u.new_empty(batch, layout.taps - 1 + length, len(w_in) - n_heads)
        raw_dt = u.new_empty(batch, length, n_heads)
        layout.split(projected[:, : layout.taps - 1])[1].copy_(tail)
        sequence = _Sequence(projected, weights, layout, segments, n_before, work)
        out = u.new_empty(batch, length, w_out.shape[0])
        scanned = weights.A.new_empty(batch, length, layout.d_inner)
        states, kept, blocks = [state.clone()], [], row_blocks(u)
        with fast_products(u.device):
            project(u, w_in[-n_heads:], raw_dt)  # of all tokens: their decays are taken at once
            runs = runs_of_steps(steps_of(raw_dt, weights, layout)[0], blocks, weights, layout)
            for decays, rows in _each(runs):
                project(u[:, rows], w_in[:-n_heads], sequence.rows(rows))
                block, y = sequence.block(rows), scanned[:, rows]
                target = y.view(block.tokens.x.shape)
                kept.append(scan_block(block.tokens, decays, state, target, work=work, keep=True))
                states.append(state.clone())
                values = with_skip(y, block.tokens.x, weights, work)
                mixed, _ = gated_norm(values, block.z, layout, work)
                project(mixed.to(u.dtype), w_mixed, out[:, rows])
        ctx.layout, ctx.n_before, ctx.chunks = layout, n_before, chunks_of(runs)
        ctx.is_kept = [scores is not None for scores in kept]
        parts = [part for scores in kept if scores is not None for part in scores]
        ctx.save_for_backward(
            u,
            w_in,
            w_out,
            projected,
            raw_dt,
            scanned,
            torch.stack(states),
            segments,
            *weights,
            *parts,
        )
        ctx.set_materialize_grads(False)
        last = layout.split(projected[:, length:])[1]
        return out, last.to(tail.dtype, copy=True), state

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_out: Tensor | None, d_last: Tensor | None, d_state: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        u, w_in, w_out, projected, raw_dt, scanned, states, segments, *more = ctx.saved_tensors
        weights, parts = Weights(*more[: len(Weights._fields)]), iter(more[len(Weights._fields) :])
        work = work_of(u, weights)
        sequence = _Sequence(projected, weights, ctx.layout, segments, ctx.n_before, work)
        sums = sums_of(weights, w_in if ctx.needs_input_grad[1] else None, w_out)
        kept = [Kept(next(parts), next(parts)) if there else None for there in ctx.is_kept]
        if d_out is None:  # only what the tokens leave was read
            d_out = u.new_zeros(()).expand(*u.shape[:2], w_out.shape[0])
        d_u, w_mixed = u.new_empty(u.shape), with_norm(w_out, weights, u.dtype)
        d_state = torch.zeros_like(states[0]) if d_state is None else d_state.clone()
        ahead = weights.A.new_zeros(u.shape[0], ctx.layout.taps - 1, ctx.layout.channels)
        dt, biased = steps_of(raw_dt, weights, ctx.layout)
        runs = runs_of_steps(dt, row_blocks(u), weights, ctx.layout, ctx.chunks)
        number, d_dt = len(kept), torch.empty_like(dt)
        with fast_products(u.device):
            for run in reversed(runs):
                run_sums = run.sums()
                for rows, chunks in reversed(run.blocks):
                    number -= 1
                    back = _BlockBack(sequence, rows, sums)
                    d_values = back.norm(d_out[:, rows], scanned[:, rows], w_mixed)
                    d_active = back.scan(
                        run.decays.of(chunks),
                        (scanned[:, rows], d_values),
                        (states[number], states[number + 1]),
                        (run_sums.of(chunks), d_state),
                        kept[number],
                    )
                    back.convolution(d_active, ahead)
                    back.entry(u, w_in, d_last, d_u[:, rows])
                d_steps, d_rates = steps_gradient(run_sums, run.decays, weights.A)
                d_dt[:, run.rows] = d_steps[:, : run.rows.stop - run.rows.start]
                sums.rest.A.add_(d_rates)
            _steps_entry(steps_back(d_dt, biased, ctx.layout), u, w_in, d_u, sums)
        d_tail = convolve_back_before(ahead, weights, segments if ctx.n_before else None)
        _add_short_last(d_tail, d_last, u.shape[1])
        d_w_out, d_norm = sums.of_exit(w_out, weights)
        d_weights = [s.to(w.dtype) for s, w in zip(sums.rest, weights, strict=True)][:-1]
        d_w_in = None if sums.into is None else sums.into.to(w_in.dtype)
        return d_u, d_w_in, d_w_out, d_tail, d_state, *d_weights, d_norm, None, None, None


class _BlockBack:
    """Compute one block again and differentiate it, part by part from the exit to the entry."""

    def __init__(self, sequence: _Sequence, rows: slice, sums: Sums) -> None:
        self.weights, self.layout, self.work = sequence.weights, sequence.layout, sequence.work
        self.segments, self.start = sequence.segments, rows.start + sequence.n_before
        self.block, self.sums, self.rows = sequence.block(rows), sums, rows
        # Gates and channels; the step sizes have a way out of their own.
        shape = (*self.block.z.shape[:2], self.layout.d_inner + self.layout.channels)
        self.d_projected = self.work.buffer("d_projected", *shape, exact=True)

    def norm(self, d_out: Tensor, y: Tensor, w_mixed: Tensor) -> Tensor:
        """Go back through the projection out and the gated norm, to y with its skip."""
        z, layout, work = self.block.z, self.layout, self.work
        values = with_skip(y, self.block.tokens.x, self.weights, work)
        mixed, gate = gated_norm(values, z, layout, work)
        add_outer(self.sums.exit, d_out, mixed.to(d_out.dtype))
        d_mixed = work.buffer("d_mixed", *mixed.shape, exact=True)
        project(d_out, w_mixed.t(), d_mixed)
        d_z = layout.split(self.d_projected)[0]
        return gated_norm_back(d_mixed, values, z, gate, layout, d_z, work)

    def scan(
        self,
        decays: Decays,
        outputs: tuple[Tensor, Tensor],
        states: tuple[Tensor, Tensor],
        sums: tuple[DecaySums, Tensor],
        kept: Kept | None,
    ) -> Tensor:
        """Go back through skip and scan; returns the gradient of what SiLU gave."""
        weights, layout, work, tokens = self.weights, self.layout, self.work, self.block.tokens
        y, d_values = outputs
        d_active = work.buffer("d_active", *self.block.convolved.shape, exact=True)
        d_x, d_B, d_C = split_channels(d_active, layout)
        scan_block_back(
            tokens,
            decays,
            states,
            (y.view(tokens.x.shape), d_values.view(tokens.x.shape)),
            Gradients(d_x, d_B, d_C, *sums),
            work=work,
            kept=kept,
        )
        d_active[..., : layout.d_inner].addcmul_(d_values, weights.D)
        scratch = work.buffer("wide 6", *d_values.shape, exact=True)
        products = torch.mul(d_values, tokens.x.flatten(2), out=scratch)
        self.sums.rest.D.add_(products.sum((0, 1)))
        return d_active

    def convolution(self, d_active: Tensor, ahead: Tensor) -> None:
        """Go back through SiLU and convolution; `ahead` holds the next block's first gradients."""
        (batch, length, channels), n_ahead = d_active.shape, ahead.shape[1]
        d_out = self.work.buffer("wide 1", batch, length + n_ahead, channels, exact=True)
        torch.ops.aten.silu_backward.grad_input(
            d_active, self.block.convolved, grad_input=d_out[:, :length]
        )
        d_out[:, length:] = ahead
        ahead.copy_(d_out[:, :n_ahead].clone())
        convolve_back(
            self.block.padded,
            d_out,
            self.weights,
            self.segments,
            self.start,
            (self.sums.rest.taps, self.sums.rest.conv_bias),
            self.layout.split(self.d_projected)[1],
            self.work,
        )

    def entry(self, u: Tensor, w_in: Tensor, d_last: Tensor | None, d_u: Tensor) -> None:
        """Go back through the projection in.

        `d_last` (b,K-1,C), the gradient of what the sequence leaves, belongs to the places from
        L-(K-1) on of tokens that begin at 0.
        """
        rows, width = self.rows, self.d_projected.shape[-1]
        if d_last is not None:
            channels = self.layout.split(self.d_projected)[1]
            n_tail, length = d_last.shape[1], u.shape[1]
            first = max(rows.start, length - n_tail)
            if first < rows.stop:
                here = slice(first - length + n_tail, rows.stop - length + n_tail)
                channels[:, first - rows.start :].add_(d_last[:, here])
        d_projected = self.d_projected.to(u.dtype)
        project(d_projected, w_in[:width].t(), d_u)
        if self.sums.into is not None:
            add_outer(self.sums.into[:width], d_projected, u[:, rows])


def _steps_entry(d_raw_dt: Tensor, u: Tensor, w_in: Tensor, d_u: Tensor, sums: Sums) -> None:
    """Go back from the raw step sizes (b,L,H) of all tokens through the projection in."""
    n_heads = d_raw_dt.shape[-1]
    sums.rest.dt_bias.add_(d_raw_dt.sum((0, 1), dtype=sums.rest.dt_bias.dtype))
    d_raw_dt = d_raw_dt.to(u.dtype)
    flat = d_u.view(-1, d_u.shape[-1])
    torch.addmm(flat, d_raw_dt.flatten(0, 1), w_in[-n_heads:], out=flat)
    if sums.into is not None:
        add_outer(sums.into[-n_heads:], d_raw_dt, u)


def _each(runs: list[Run]) -> Iterator[tuple[Decays, slice]]:
    """Yield the decays and the tokens of each block."""
    for run in runs:
        for rows, chunks in run.blocks:
            yield run.decays.of(chunks), rows


def _add_short_last(d_tail: Tensor, d_last: Tensor | None, length: int) -> None:
    """Add the gradient of what a sequence shorter than the tail leaves of the tail itself."""
    n_kept = d_tail.shape[1] - length
    if d_last is not None and n_kept > 0:
        d_tail[:, length:].add_(d_last[:, :n_kept])
