"""The state-space-dual scan of Mamba-2 in plain torch: exact, any length, any device.

Per head: h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T and y_t = h_t C_t + D x_t (Dao and Gu 2024,
arXiv 2405.21060). The chunked form turns it into matrix products: inside a chunk a causal,
decay-weighted attention, between chunks a recurrence over their states. Conventions:

- Chunks are worked on in blocks of bounded size, forward (`ssd_block`) and backward
  (`ssd_backward`), in buffers that the blocks share. Training keeps inputs, outputs and one state
  per block, and computes the rest again: time and memory are linear in length.
- The state is float32 (float64 for float64 inputs), whatever the inputs or autocast say.

Letters: b batch, L length, H heads, P head size, G groups, N state size, c chunks, q chunk size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from neurocli.core.nn.precision import full_precision
from neurocli.core.nn.products import fast_products
from neurocli.core.nn.shapes import ShapeError, expect_shape
from neurocli.core.nn.ssd_backward import Gradients
from neurocli.core.nn.ssd_block import Work
from neurocli.core.nn.ssd_blocks import (
    block_of,
    inner_state,
    outer_state,
    row_blocks,
    scan_block,
    scan_block_back,
)
from neurocli.core.nn.ssd_decays import Run, Tokens, chunks_of, runs_of, steps_gradient


def ssd_scan(  # the published signature, kept whole
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    seq_idx: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    return_final_states: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan a sequence with the state-space-dual recurrence of Mamba-2.

    The arguments mean what they mean in mamba-ssm's `mamba_chunk_scan_combined`. The result does
    not depend on `chunk_size` (beyond rounding), which only bounds the size of the matrix products.

    Args:
        x: Inputs (b,L,H,P), float, L >= 1.
        dt: Step sizes (b,L,H), before `dt_bias`, softplus and `dt_limit`.
        A: Decay rate per head (H,), negative.
        B: Input maps (b,L,G,N); head h reads group h // (H/G).
        C: Output maps (b,L,G,N).
        chunk_size: Tokens per chunk at most, >= 1; never more than 64 are taken, and fewer where
            decays are too strong for one.
        D: Skip weights (H,) or (H,P); None for no skip.
        z: Gate like x; y is multiplied by SiLU(z). None for no gate.
        dt_bias: Bias per head (H,) added to dt.
        initial_states: State before the first token (b,H,P,N); None for zero. With `seq_idx` it
            belongs to each row's first segment.
        seq_idx: Segment of each token (b,L), integer; the state restarts where it changes.
        dt_softplus: Apply softplus to dt after the bias.
        dt_limit: Range that dt is clamped to at last.
        return_final_states: Also return the state after the last token.

    Returns:
        y (b,L,H,P) in the dtype of x; with `return_final_states` also the states (b,H,P,N) in
        float32 (float64 when an input is float64).

    Raises:
        ShapeError: An argument's shape, dtype or range does not fit; it is named.

    >>> one = torch.ones(1, 3, 1, 1)
    >>> ssd_scan(one, torch.ones(1, 3, 1), torch.zeros(1), one, one, 2).flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    _check_tokens(x, dt, B, C, z)
    _check_heads(x, A, D, dt_bias)
    _check_states(x, B, initial_states, seq_idx)
    _check_options(chunk_size, dt_limit)
    dtype = torch.float32
    for tensor in (x, dt, A, B, C):
        dtype = torch.promote_types(dtype, tensor.dtype)
    # Tokens of reduced precision take products of it, too; decays and states never do.
    product = torch.bfloat16 if x.dtype == torch.bfloat16 else dtype
    with full_precision(x.device), fast_products(x.device):
        steps = step_sizes(dt.to(dtype), dt_bias, softplus=dt_softplus, limit=dt_limit)
        segments = None if seq_idx is None else _with_start(segment_ids(seq_idx))
        if initial_states is None:
            initial_states = x.new_zeros(*_state_shape(x, B), dtype=dtype)
        wide = (x.to(dtype), steps, A.to(dtype), B.to(dtype), C.to(dtype))
        y, states = _Scan.apply(  # type: ignore[no-untyped-call]
            *wide, initial_states.to(dtype), segments, chunk_size, product
        )
        if D is not None:
            y = torch.addcmul(y, wide[0], (D if D.ndim == 2 else D.unsqueeze(-1)).to(dtype))
        if z is not None:
            y = y * F.silu(z.to(dtype))
        y = y.to(x.dtype)
    return (y, states) if return_final_states else y


def step_sizes(
    dt: Tensor, dt_bias: Tensor | None, *, softplus: bool, limit: tuple[float, float]
) -> Tensor:
    """Return the step sizes that the recurrence uses: clamp(softplus(dt + bias)).

    Args:
        dt: Raw step sizes (..., H).
        dt_bias: Bias (H,), or None.
        softplus: Apply softplus.
        limit: Range to clamp to.

    Returns:
        Step sizes (..., H) in the dtype of dt.

    >>> step_sizes(torch.tensor([-1.0, 3.0]), None, softplus=False, limit=(0.0, 2.0)).tolist()
    [0.0, 2.0]
    """
    if dt_bias is not None:
        dt = dt + dt_bias.to(dt.dtype)
    if softplus:
        dt = F.softplus(dt)
    return dt.clamp(*limit)


def segment_ids(seq_idx: Tensor) -> Tensor:
    """Number the segments of each row 0, 1, 2, ... wherever `seq_idx` changes.

    Equality of these numbers means "the same segment" even when a value of `seq_idx` comes back
    later in the row.

    Args:
        seq_idx: Segment of each token (b,L), integer.

    Returns:
        Segment numbers (b,L), int32, never falling along a row.

    >>> segment_ids(torch.tensor([[7, 7, 2, 7]])).tolist()
    [[0, 0, 1, 2]]
    """
    changes = (seq_idx[:, 1:] != seq_idx[:, :-1]).to(torch.int32)
    return F.pad(changes.cumsum(1, dtype=torch.int32), (1, 0))


class _Scan(torch.autograd.Function):
    """Scan block by block, keeping the inputs, the outputs and one state per block."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, state, segments, chunk_size, product = arguments
        tokens = Tokens(x, B, C, segments)
        work = Work(A.dtype, product, x.device)
        inner = inner_state(state, B.shape[2])
        y, states = torch.empty_like(x), [inner.clone()]
        runs = _runs(x, dt, A, B, chunk_size)
        for run in runs:
            for rows, chunks in run.blocks:
                here = run.decays.of(chunks)
                scan_block(block_of(tokens, rows), here, inner, y[:, rows], work=work)
                states.append(inner.clone())
        ctx.save_for_backward(x, dt, A, B, C, segments, y, torch.stack(states))
        ctx.chunks, ctx.product = chunks_of(runs), product
        return y, outer_state(inner, x.shape[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, segments, y, states = ctx.saved_tensors
        tokens = Tokens(x, B, C, segments)
        work = Work(A.dtype, ctx.product, x.device)
        d_x, d_dt, d_B, d_C = (torch.empty_like(part) for part in (x, dt, B, C))
        d_A, d_state = torch.zeros_like(A), inner_state(d_last, B.shape[2]).clone()
        number = len(states) - 1
        for run in reversed(_runs(x, dt, A, B, ctx.chunks)):
            sums = run.sums()
            for rows, chunks in reversed(run.blocks):
                number -= 1
                grads = (d_x[:, rows], d_B[:, rows], d_C[:, rows], sums.of(chunks), d_state)
                with fast_products(x.device):
                    scan_block_back(
                        block_of(tokens, rows),
                        run.decays.of(chunks),
                        (states[number], states[number + 1]),
                        (y[:, rows], dy[:, rows]),
                        Gradients(*grads),
                        work=work,
                    )
            d_steps, d_rates = steps_gradient(sums, run.decays, A)
            n_tokens = run.rows.stop - run.rows.start
            d_dt[:, run.rows] = d_steps[:, :n_tokens]
            d_A += d_rates
        return d_x, d_dt, d_A, d_B, d_C, outer_state(d_state, x.shape[2]), None, None, None


def _runs(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, chunk_size: int | Sequence[int]
) -> list[Run]:
    layout = (B.shape[2], x.shape[3])
    return runs_of(dt, A, row_blocks(x), layout, dtype=A.dtype, chunk_size=chunk_size)


def _with_start(segments: Tensor) -> Tensor:
    # A state handed in belongs to each row's first segment.
    return torch.cat([segments[:, :1], segments], 1)


def _state_shape(x: Tensor, B: Tensor) -> tuple[int, int, int, int]:
    return x.shape[0], x.shape[2], x.shape[3], B.shape[3]


def _check_tokens(x: Tensor, dt: Tensor, B: Tensor, C: Tensor, z: Tensor | None) -> None:
    expect_shape("x", x, dict.fromkeys(("batch", "length", "heads", "headdim")), "the scan")
    batch, length, n_heads, headdim = x.shape
    fits = f"x {tuple(x.shape)}"
    expect_shape("dt", dt, {"batch": batch, "length": length, "heads": n_heads}, fits)
    maps = {"batch": batch, "length": length, "groups": None, "state": None}
    expect_shape("B", B, maps, fits)
    maps |= {"groups": B.shape[2], "state": B.shape[3]}
    expect_shape("C", C, maps, f"B {tuple(B.shape)}")
    if n_heads % B.shape[2]:
        raise ShapeError(
            f"B has {B.shape[2]} groups, which do not divide the {n_heads} heads of {fits}",
            where="B",
        )
    if z is not None:
        sizes = {"batch": batch, "length": length, "heads": n_heads, "headdim": headdim}
        expect_shape("z", z, sizes, fits)
    for name, tensor in {"x": x, "dt": dt, "B": B, "C": C}.items():
        if not tensor.is_floating_point():
            raise ShapeError(f"{name} has dtype {tensor.dtype}, expected a float type", where=name)


def _check_heads(x: Tensor, A: Tensor, D: Tensor | None, dt_bias: Tensor | None) -> None:
    n_heads, headdim = x.shape[2:]
    fits = f"x {tuple(x.shape)}"
    expect_shape("A", A, {"heads": n_heads}, fits)
    if D is not None:
        sizes = {"heads": n_heads} | ({"headdim": headdim} if D.ndim == 2 else {})
        expect_shape("D", D, sizes, fits)
    if dt_bias is not None:
        expect_shape("dt_bias", dt_bias, {"heads": n_heads}, fits)


def _check_states(x: Tensor, B: Tensor, states: Tensor | None, seq_idx: Tensor | None) -> None:
    fits = f"x {tuple(x.shape)} and B {tuple(B.shape)}"
    if states is not None:
        sizes = dict(zip(("batch", "heads", "headdim", "state"), _state_shape(x, B), strict=True))
        expect_shape("initial_states", states, sizes, fits)
    if seq_idx is not None:
        expect_shape("seq_idx", seq_idx, {"batch": x.shape[0], "length": x.shape[1]}, fits)
        if seq_idx.is_floating_point() or seq_idx.is_complex():
            raise ShapeError(
                f"seq_idx has dtype {seq_idx.dtype}, expected integers", where="seq_idx"
            )


def _check_options(chunk_size: int, dt_limit: tuple[float, float]) -> None:
    if chunk_size < 1:
        raise ShapeError(f"chunk_size is {chunk_size}, expected at least 1", where="chunk_size")
    if not dt_limit[0] <= dt_limit[1]:
        raise ShapeError(f"dt_limit {dt_limit} is not a range (low, high)", where="dt_limit")
