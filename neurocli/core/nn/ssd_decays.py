"""What the step sizes of a block give: decays, how long a chunk may be, where states pass.

Decays and their exponentials are taken in float64 (they are few). The notation is `ssd_block`'s:
a sums the log decays dt A from a chunk's start, u = exp(a - a_end/2), e = exp(a_end/2).

Letters: b batch, T tokens of the block, H heads, P head size, G groups, R heads per group,
N state size, c chunks, q chunk size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
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

_MOST_BLOCKS = 8  # of a run: enough to share its operations, few enough for its float64 to be small


class Tokens(NamedTuple):
    """Hold what varies along the sequence; axis 1 of every tensor is the length.

    x (b,T,H,P); B and C (b,T,G,N); segments (b,T+1) or None, the segment before the first token and
    then that of each token.
    """

    x: Tensor
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
    """Hold what the step sizes of neighbouring chunks give, per token (b,c,q,H) and per chunk.

    u decays and weights dt/u in the working dtype. Of the recurrence over scaled states,
    S0_{c+1} = adds_c (S0_c + B^T X'), ends e and adds are (b,c,G,1,R*P); the last add of a block
    leads out of it, to a state that is not scaled. steps dt and inverse 1/u in float64; free is
    where the floor did not hold.
    """

    u: Tensor
    weights: Tensor
    ends: Tensor
    adds: Tensor
    steps: Tensor
    inverse: Tensor
    free: Tensor | None

    @property
    def chunk(self) -> int:
        """Return tokens per chunk."""
        return self.u.shape[2]

    def of(self, chunks: slice) -> Decays:
        """Return those of some chunks."""
        parts = {name: part for name, part in self._asdict().items() if part is not None}
        return self._replace(**{name: part[:, chunks] for name, part in parts.items()})


class DecaySums(NamedTuple):
    """Hold the sums that gradients of decays are made of, in float64.

    inputs sum_p dX' x and outputs sum_p dY Y per token (b,c,q,H); ends sum dS S of the state after
    each chunk (b,c,H).
    """

    inputs: Tensor
    outputs: Tensor
    ends: Tensor

    def of(self, chunks: slice) -> DecaySums:
        """Return those of some chunks."""
        return DecaySums(*(part[:, chunks] for part in self))


class Run(NamedTuple):
    """Hold neighbouring blocks of one chunk size: their decays, computed for all at once.

    rows are the tokens of the run; blocks the tokens of each block, and its chunks in the run.
    """

    rows: slice
    decays: Decays
    blocks: list[tuple[slice, slice]]

    def sums(self) -> DecaySums:
        """Return room for the sums of the run."""
        steps = self.decays.steps
        ends = steps.new_empty(steps.shape[0], steps.shape[1], steps.shape[3])
        return DecaySums(torch.empty_like(steps), torch.empty_like(steps), ends)


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
    """Return the tokens padded to whole chunks; their steps of 0 change no state."""
    missing = -tokens.x.shape[1] % chunk
    if not missing:
        return tokens
    x, B, C, segments = tokens
    if segments is not None:
        segments = torch.cat([segments, segments[:, -1:].expand(-1, missing)], 1)
    x, B, C = (F.pad(part, (0, 0, 0, 0, 0, missing)) for part in (x, B, C))
    return Tokens(x, B, C, segments)


def runs_of(
    dt: Tensor,
    A: Tensor,
    blocks: list[slice],
    layout: tuple[int, int],
    *,
    dtype: torch.dtype,
    chunk_size: int | Sequence[int],
) -> list[Run]:
    """Return the decays of a sequence, and the blocks that they belong to.

    Args:
        dt: Final step sizes (b,L,H).
        A: Decay rates (H,).
        blocks: Where the blocks begin and end.
        layout: Groups G and head size P.
        dtype: The working dtype.
        chunk_size: Tokens per chunk at most, or how many each block has.

    Returns:
        Runs from the first token to the last.
    """
    logs = log_decays(dt, A)
    chunks = chunk_size
    if isinstance(chunks, int):
        chunks = _choose_chunks(logs, dtype, blocks, chunks)
    runs = []
    numbered = enumerate(zip(chunks, blocks, strict=True))
    groups = groupby(numbered, key=lambda item: (item[1][0], item[0] // _MOST_BLOCKS))
    for (chunk, _), members in groups:
        own = [rows for _, (_, rows) in members]
        rows, size = slice(own[0].start, own[-1].stop), -(-(own[0].stop - own[0].start) // chunk)
        decays = _decays_of(dt[:, rows], logs[:, rows], chunk, size, layout, dtype)
        starts = [(here.start - rows.start) // chunk for here in own]
        places = [slice(start, start + size) for start in starts]
        runs.append(Run(rows, decays, list(zip(own, places, strict=True))))
    return runs


def chunks_of(runs: list[Run]) -> list[int]:
    """Return how many tokens a chunk of each block has."""
    return [run.decays.chunk for run in runs for _ in run.blocks]


def _choose_chunks(
    logs: Tensor, dtype: torch.dtype, blocks: list[slice], chunk_size: int
) -> list[int]:
    longest = [longest_chunk(rows.stop - rows.start, chunk_size) for rows in blocks]
    n_same = longest.count(longest[0])  # all but a ragged last one
    # Most sequences have no strong decay anywhere: one look at all.
    if choose_chunk(logs[:, : blocks[n_same - 1].stop], dtype, longest[0]) == longest[0]:
        chunks = longest[:n_same]
    else:
        chunks = [choose_chunk(logs[:, rows], dtype, chunk_size) for rows in blocks[:n_same]]
    rest = blocks[n_same:]
    return chunks + [choose_chunk(logs[:, rows], dtype, chunk_size) for rows in rest]


def _decays_of(
    dt: Tensor,
    logs: Tensor,
    chunk: int,
    chunks_per_block: int,
    layout: tuple[int, int],
    dtype: torch.dtype,
) -> Decays:
    """Return u, dt/u and e of blocks, and where the floor held."""
    missing = -dt.shape[1] % chunk
    if missing:
        dt, logs = (F.pad(part, (0, 0, 0, missing)) for part in (dt, logs))
    logs = torch.unflatten(logs, 1, (-1, chunk))
    is_low = logs < _FLOOR[dtype]
    free = ~is_low if is_true(is_low.any(), usually=False) else None
    if free is not None:
        logs = logs.clamp(min=_FLOOR[dtype])
    summed = logs.cumsum(2)
    middle = summed[:, :, -1:] / 2
    summed -= middle
    u, inverse = summed.exp(), summed.neg_().exp_()
    steps = torch.unflatten(dt.to(logs.dtype), 1, (-1, chunk))
    turns = middle.clone()
    turns[:, :-1] += middle[:, 1:]  # out of a chunk and into the next
    last = slice(chunks_per_block - 1, None, chunks_per_block)
    turns[:, last] = middle[:, last]
    turns[:, -1] = middle[:, -1]
    groups, headdim = layout

    def by_column(halves: Tensor) -> Tensor:
        factors = halves.exp().to(dtype).view(*halves.shape[:2], groups, 1, -1, 1)
        return factors.expand(*factors.shape[:-1], headdim).flatten(4)

    weights = (steps * inverse).to(dtype)
    return Decays(u.to(dtype), weights, by_column(middle), by_column(turns), steps, inverse, free)


def steps_gradient(sums: DecaySums, decays: Decays, A: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of the step sizes (b,L',H), padding included, and of A, in float64."""
    direct = sums.inputs * decays.inverse
    d_log = sums.outputs - direct * decays.steps
    # What a log decay holds back is all that later tokens, and the state after the chunk, read of
    # earlier ones: sums from the end, exactly zero where nothing later is read.
    d_logs = d_log.flip(2).cumsum(2).flip(2) + sums.ends.unsqueeze(2)
    if decays.free is not None:
        d_logs *= decays.free
    d_dt = direct + d_logs * A.to(d_logs.dtype)
    return d_dt.flatten(1, 2), (d_logs * decays.steps).sum((0, 1, 2))


def borders_of(tokens: Tokens, sizes: Sizes, dtype: torch.dtype) -> Borders | None:
    """Return what the segments of a block allow; None where it holds one only."""
    segments = tokens.segments
    if segments is None:
        return None
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
