"""One block of the state-space-dual scan: the maths of `ssd`, differentiated by autograd.

A block is a few chunks of one length. Inside a chunk tokens reach later tokens through a causal,
decay-weighted attention; chunks reach later chunks through their states. Conventions:

- Log decays are in base 2 (exp2 is faster than exp and has no slow range near underflow) and are
  summed and subtracted in float64: float32 sums over a long chunk of large steps lose the small
  differences that matter.
- They are masked before the exponential: masking after it gives inf * 0 = NaN backwards.

Letters: b batch, L length, H heads, P head size, G groups, N state size, c chunks, q chunk size.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Tokens(NamedTuple):
    """Hold what varies along the sequence; axis 1 of every tensor is the length."""

    x: Tensor
    dt: Tensor
    B: Tensor
    C: Tensor
    z: Tensor | None
    segments: Tensor | None


class Carry(NamedTuple):
    """Hold what crosses from block to block: the state (b,H,P,N) and the last segment (b,1)."""

    state: Tensor
    segment: Tensor | None


def scan_block(
    block: Tokens, A: Tensor, D: Tensor | None, carry: Carry, chunk: int
) -> tuple[Tensor, Carry]:
    """Scan one block: y (b,L,H,P) in the dtype of x, and what goes on to the next block."""
    length, dtype = block.x.shape[1], A.dtype
    x, dt = _chunked(block.x.to(dtype), chunk), _chunked(block.dt, chunk)
    B, C = (_chunked(maps.to(dtype), chunk).transpose(2, 3) for maps in (block.B, block.C))
    segments = None
    if block.segments is not None and carry.segment is not None:
        # The padded tail continues the last segment; its dt is 0, so it changes no state.
        tail = block.segments[:, -1:].expand(-1, -length % chunk)
        segments = _chunked(torch.cat([block.segments, tail], 1), chunk)

    rate = A.to(_wide(A.device)) * math.log2(math.e)
    log2_decay = (dt.to(rate.dtype) * rate).cumsum(2).transpose(2, 3)
    xdt = x * dt.unsqueeze(-1)
    y = _within_chunks(xdt, log2_decay, B, C, segments)
    added = _chunk_states(xdt, log2_decay, B, segments)
    states = _states_between(added, log2_decay[..., -1], carry, segments)
    y = y + _from_states(states[:, :-1], log2_decay, C, carry, segments)
    if D is not None:
        y = y + x * (D if D.ndim == 2 else D.unsqueeze(-1)).to(dtype)
    y = y.flatten(1, 2)[:, :length]
    if block.z is not None:
        y = y * F.silu(block.z.to(dtype))
    last = None if block.segments is None else block.segments[:, -1:]
    return y.to(block.x.dtype), Carry(states[:, -1], last)


def _within_chunks(
    xdt: Tensor, log2_decay: Tensor, B: Tensor, C: Tensor, segments: Tensor | None
) -> Tensor:
    """Return what tokens of a chunk give to later tokens of the same chunk, (b,c,q,H,P)."""
    chunk, n_heads = xdt.shape[2:4]
    mask = torch.ones(chunk, chunk, dtype=torch.bool, device=xdt.device).tril()
    if segments is not None:
        mask = mask & (segments.unsqueeze(-1) == segments.unsqueeze(-2)).unsqueeze(2)
    decay = _decay_matrix(log2_decay, mask, xdt.dtype)
    scores = C @ B.transpose(-1, -2)
    weights = torch.unflatten(decay, 2, (-1, n_heads // B.shape[2])) * scores.unsqueeze(3)
    return (weights.flatten(2, 3) @ xdt.transpose(2, 3)).transpose(2, 3)


def _chunk_states(xdt: Tensor, log2_decay: Tensor, B: Tensor, segments: Tensor | None) -> Tensor:
    """Return what each chunk adds to the state at its end, (b,c,H,P,N)."""
    decay = (log2_decay[..., -1:] - log2_decay).exp2().to(xdt.dtype).transpose(2, 3)
    if segments is not None:
        decay = decay * (segments == segments[..., -1:]).unsqueeze(-1)
    weighted = _by_group(xdt * decay.unsqueeze(-1), B.shape[2])
    states = weighted.transpose(-1, -2) @ B
    return torch.unflatten(states.flatten(2, 3), 2, xdt.shape[3:])


def _states_between(
    added: Tensor, log2_decay: Tensor, carry: Carry, segments: Tensor | None
) -> Tensor:
    """Return the state before each chunk and after the last one, (b,c+1,H,P,N)."""
    n_states, size = added.shape[1] + 1, added.shape[-2:]
    mask = torch.ones(n_states, n_states, dtype=torch.bool, device=added.device).tril()
    if segments is not None and carry.segment is not None:
        ends = torch.cat([carry.segment, segments[..., -1]], 1)
        mask = mask & (ends.unsqueeze(-1) == ends.unsqueeze(-2)).unsqueeze(1)
    sums = F.pad(log2_decay.cumsum(1), (0, 0, 1, 0)).transpose(1, 2)
    decay = _decay_matrix(sums, mask, added.dtype)
    sources = torch.cat([carry.state.unsqueeze(1), added], 1).flatten(3).transpose(1, 2)
    return torch.unflatten((decay @ sources).transpose(1, 2), -1, size)


def _from_states(
    states: Tensor, log2_decay: Tensor, C: Tensor, carry: Carry, segments: Tensor | None
) -> Tensor:
    """Return what the state before each chunk gives to the chunk's tokens, (b,c,q,H,P)."""
    headdim = states.shape[3]
    decay = log2_decay.exp2().to(states.dtype).transpose(2, 3)
    if segments is not None and carry.segment is not None:
        before = torch.cat([carry.segment, segments[:, :-1, -1]], 1)
        decay = decay * (segments == before.unsqueeze(-1)).unsqueeze(-1)
    grouped = torch.unflatten(states, 2, (C.shape[2], -1)).flatten(3, 4)
    y = torch.unflatten((C @ grouped.transpose(-1, -2)).transpose(2, 3), -1, (-1, headdim))
    return y.flatten(3, 4) * decay.unsqueeze(-1)


class _DecayMatrix(torch.autograd.Function):
    """Compute 2^(a_i - a_j) where allowed and 0 elsewhere, from log2 decays a (..., q)."""

    @staticmethod
    def forward(ctx: Any, log2_decay: Tensor, penalty: Tensor) -> Tensor:
        differences = log2_decay.unsqueeze(-1) - log2_decay.unsqueeze(-2)
        decay = differences.to(penalty.dtype).add_(penalty).exp2_()
        ctx.save_for_backward(decay)
        return decay

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (decay,) = ctx.saved_tensors
        weighted = grad * decay
        wide = _wide(grad.device)
        # Row and column sums nearly cancel, so they are taken in float64 from the same numbers.
        log_grad = weighted.sum(-1, dtype=wide) - weighted.sum(-2, dtype=wide)
        return log_grad * math.log(2.0), None


def _decay_matrix(log2_decay: Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 2^(a_i - a_j) where the mask allows it and 0 elsewhere."""
    penalty = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, -math.inf
    )
    decay: Tensor = _DecayMatrix.apply(log2_decay, penalty)  # type: ignore[no-untyped-call]
    return decay


def _chunked(tokens: Tensor, chunk: int) -> Tensor:
    """Pad the length (axis 1) with zeros to whole chunks and split it into (c, q)."""
    missing = -tokens.shape[1] % chunk
    if missing:
        tokens = F.pad(tokens, (*(0, 0) * (tokens.ndim - 2), 0, missing))
    return torch.unflatten(tokens, 1, (-1, chunk))


def _by_group(tokens: Tensor, n_groups: int) -> Tensor:
    """Turn (b,c,q,H,P) into (b,c,G,q,H/G*P): one matrix product then serves all heads."""
    return torch.unflatten(tokens, 3, (n_groups, -1)).flatten(4).transpose(2, 3)


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple GPUs have no float64
