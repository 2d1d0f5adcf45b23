"""What the step sizes of a block give: decays, how long a chunk may be, where states pass.

Decays and their exponentials are taken in float64 (they are few). The notation is `ssd_block`'s:
a sums the log decays dt A from a chunk's start, u = exp(a - a_end/2), e = exp(a_end/2).

Letters: b batch, T tokens of the block, H heads, P head size, G groups, R heads per group,
N state size, c chunks, q chunk size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.sizes import CHUNKS, longest_chunk
from neurocli.core.nn.values import is_true

# Longest |a_end| of a chunk: u and 1/u then reach exp(64) = 6e27, which leaves float32 products
# of any sane size finite and the smallest ones normal.
_LIMIT = {torch.float32: 128.0, torch.float64: 900.0}
# A decay below the precision of the result is as good as none: exp(-20) = 2e-9, exp(-45) = 3e-20.
_FLOOR = {torch.float32: -20.0, torch.float64: -45.0}


class Tokens(NamedTuple):
    """Hold what varies along the sequence; axis 1 of every tensor is the length.

    x (b,T,H,P); dt (b,T,H), final step sizes; B and C (b,T,G,N); segments (b,T+1) or None, the
    segment before the first token and then that of each token.
    """

    x: Tensor
    dt: Tensor
    B: Tensor
    C: Tensor
    segments: Tensor | None


class Sizes(NamedTuple):
    """Hold the sizes of a block."""

    batch: int
    chunks: int
    chunk: int
    groups: int
    per_group: int
    headdim: int
    state: int

    @property
    def width(self) -> int:
        """Return columns of the products: all heads of a group."""
        return self.per_group * self.headdim

    @property
    def products(self) -> int:
        """Return how many products one batch holds."""
        return self.batch * self.chunks * self.groups


class Decays(NamedTuple):
    """Hold what the step sizes give, per token (b,c,q,H) and per chunk.

    u decays and weights dt/u in the working dtype. Of the recurrence over scaled states,
    S0_{c+1} = passes_c S0_c + adds_c B^T X', first is the e (b,G,1,R*P) of the first chunk, and
    adds and passes are (b,c,G,1,R*P). steps dt and inverse 1/u in float64; free is where the floor
    did not hold; borders None or what segments allow.
    """

    u: Tensor
    weights: Tensor
    first: Tensor
    adds: Tensor
    passes: Tensor
    steps: Tensor
    inverse: Tensor
    free: Tensor | None
    borders: Borders | None


class Borders(NamedTuple):
    """Say what crosses the borders of segments, as factors 0 or 1.

    pairs (b*c*G,q,q): token j reaches token i; begin (b,c,1,q,1): the state before the chunk
    reaches the token; end the same: the token reaches the chunk's end; through (b,c,1,1,1).
    """

    pairs: Tensor
    begin: Tensor
    end: Tensor
    through: Tensor


def block_sizes(tokens: Tokens, chunk: int) -> Sizes:
    """Return the sizes of a block of whole chunks."""
    batch, length, n_heads, headdim = tokens.x.shape
    groups, state = tokens.B.shape[2:]
    return Sizes(batch, length // chunk, chunk, groups, n_heads // groups, headdim, state)


def log_decays(dt: Tensor, A: Tensor) -> Tensor:
    """Return the log decays dt A (b,T,H) in float64 (float32 where there is none)."""
    wide = torch.float32 if dt.device.type == "mps" else torch.float64
    return dt.to(wide) * A.to(wide)


def choose_chunk(logs: Tensor, dtype: torch.dtype, chunk_size: int) -> int:
    """Return the longest chunk whose decays stay in the range of a dtype.

    Args:
        logs: Log decays of a block (b,T,H).
        dtype: float32 or float64.
        chunk_size: Upper bound.

    Returns:
        One of `CHUNKS`.
    """
    most = longest_chunk(logs.shape[1], chunk_size)
    span = logs.abs().clamp_(max=-_FLOOR[dtype])
    for size in CHUNKS[CHUNKS.index(most) : -1]:
        padded = F.pad(span, (0, 0, 0, -span.shape[1] % size))
        total = torch.unflatten(padded, 1, (-1, size)).sum(2)
        if not is_true((total > _LIMIT[dtype]).any(), usually=False):
            return size
    return CHUNKS[-1]


def pad_tokens(tokens: Tokens, chunk: int) -> Tokens:
    """Return the tokens padded to whole chunks; steps of 0 change no state."""
    missing = -tokens.x.shape[1] % chunk
    if not missing:
        return tokens
    x, dt, B, C, segments = tokens
    if segments is not None:
        segments = torch.cat([segments, segments[:, -1:].expand(-1, missing)], 1)
    x, dt, B, C = (F.pad(part, (*(0, 0) * (part.ndim - 2), 0, missing)) for part in (x, dt, B, C))
    return Tokens(x, dt, B, C, segments)


def decays_of(tokens: Tokens, A: Tensor, sizes: Sizes, dtype: torch.dtype) -> Decays:
    """Return u, dt/u and e of a block, and where the floor and the borders are."""
    logs = torch.unflatten(log_decays(tokens.dt, A), 1, (sizes.chunks, sizes.chunk))
    is_low = logs < _FLOOR[dtype]
    free = ~is_low if is_true(is_low.any(), usually=False) else None
    if free is not None:
        logs = logs.clamp(min=_FLOOR[dtype])
    summed = logs.cumsum(2)
    middle = summed[:, :, -1:] / 2
    summed -= middle
    u, inverse = summed.exp(), summed.neg_().exp_()
    steps = torch.unflatten(tokens.dt.to(logs.dtype), 1, (sizes.chunks, sizes.chunk))
    borders = None if tokens.segments is None else _borders(tokens.segments, sizes, dtype)
    first, adds, passes = _turns(middle, borders, sizes, dtype)
    weights = (steps * inverse).to(dtype)
    return Decays(u.to(dtype), weights, first, adds, passes, steps, inverse, free, borders)


def _turns(
    middle: Tensor, borders: Borders | None, sizes: Sizes, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors of the recurrence from half the log decay of each chunk (b,c,1,H)."""
    turns = middle.clone()
    turns[:, :-1] += middle[:, 1:]  # out of a chunk and into the next; the last one leads out

    def by_column(logs: Tensor) -> Tensor:
        factors = logs.exp().to(dtype).view(sizes.batch, -1, sizes.groups, 1, sizes.per_group, 1)
        return factors.expand(*factors.shape[:-1], sizes.headdim).flatten(4)

    adds = by_column(turns)
    return by_column(middle[:, :1])[:, 0], adds, adds if borders is None else adds * borders.through


def _borders(segments: Tensor, sizes: Sizes, dtype: torch.dtype) -> Borders | None:
    # Numbers never fall along a row.
    if is_true((segments[:, :1] == segments[:, -1:]).all(), usually=True):
        return None
    own = torch.unflatten(segments[:, 1:], 1, (sizes.chunks, sizes.chunk))
    before = torch.unflatten(segments[:, :-1], 1, (sizes.chunks, sizes.chunk))[:, :, :1]
    last = own[:, :, -1:]
    pairs = (own.unsqueeze(3) == own.unsqueeze(2)).to(dtype).tril_()
    pairs = pairs.unsqueeze(2).expand(-1, -1, sizes.groups, -1, -1).flatten(0, 2)

    def factor(equal: Tensor) -> Tensor:
        return equal.to(dtype)[:, :, None, :, None]

    return Borders(pairs, factor(own == before), factor(own == last), factor(last == before))
