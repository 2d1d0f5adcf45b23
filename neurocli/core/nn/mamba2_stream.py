"""A Mamba-2 block without gradients: nothing of the sequence's length but its input and output.

The same parts as in `mamba2_fused`, a block of tokens at a time.

Letters: b batch, L length, E width, I inner width, H heads, G groups, N state size, K taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.mamba2_conv import convolve
from neurocli.core.nn.mamba2_parts import (
    Layout,
    Weights,
    activate,
    empty_carry,
    gated_norm,
    runs_of_steps,
    scan_tokens,
    steps_of,
    with_before,
    with_norm,
    with_skip,
    work_of,
)
from neurocli.core.nn.products import fast_products, project
from neurocli.core.nn.sequence_parallel import Carry
from neurocli.core.nn.ssd_blocks import row_blocks, scan_block


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
        projections: Weights of in_proj (2I+2GN+H,E), in the dtype of u, and out_proj (E,I).
        weights: Parameters, float32 or float64.
        layout: Sizes and options.
        segments: As in `mamba2_fused.fused_block`.
        carry: What the tokens before these left; None for a sequence's beginning.

    Returns:
        Tokens (b,L,E), and what they leave.
    """
    n_heads = weights.A.numel()
    parts = torch.split(projections[0], [layout.d_inner, layout.channels, n_heads])
    work, out = work_of(u, weights), u.new_empty(u.shape)
    w_mixed = with_norm(projections[1], weights, u.dtype)
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
            before = with_before(segments, rows, n_known)
            tokens = scan_tokens(activate(convolved, work), before, layout)
            y = work.buffer("y", *z.shape, exact=True)
            dt, _ = steps_of(raw_dt, weights, layout)
            (run,) = runs_of_steps(dt, [slice(0, dt.shape[1])], weights, layout)
            target = torch.unflatten(y, -1, (-1, layout.headdim))
            scan_block(tokens, run.decays, state, target, work=work)
            mixed, _ = gated_norm(with_skip(y, tokens.x, weights, work), z, layout, work)
            project(mixed.to(u.dtype), w_mixed, out[:, rows])
    return out, Carry(tail, state)
