"""One block of the state-space-dual scan forward: a few chunks as three batched products.

Inside a chunk the decay from token j to token i splits into exp(a_i - a_j) = u_i / u_j with
u = exp(a - a_end/2), where a sums the log decays dt A from the chunk's start. So one masked
product G = tril(C B^T) serves all heads of a group, and with X' = (dt/u) x, S0 = e S and
e = exp(a_end/2)

    Y = u ([G | C] [X' ; S0])        S_next = e (S0 + B^T X')

(after Dao and Gu 2024, arXiv 2405.21060; the skip D x is added outside, where its size cannot
blur the small sums that the gradients of decays are made of). u spans exp(-+|a_end|/2), so the
split holds only while a chunk's decays stay in the float range: `choose_chunk` takes the longest
chunk for which they do, and a token's log decay ends at a floor below the precision of the
result. Decays and their exponentials are taken in float64 (they are few), products in the dtype
of the work buffers.

Letters: b batch, T tokens of the block, H heads, P head size, G groups, R heads per group,
N state size, c chunks, q chunk size. States are (b,G,N,R*P) here, (b,H,P,N) outside.
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

    u decays and weights dt/u in the working dtype; ends e (b,c,G,1,R*P); steps dt and inverse
    1/u in float64; free is where the floor did not hold; borders None or what segments allow.
    """

    u: Tensor
    weights: Tensor
    ends: Tensor
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


class Work:
    """Keep the buffers of one scan, so that its blocks do not allocate."""

    def __init__(self, dtype: torch.dtype, product: torch.dtype, device: torch.device) -> None:
        self.dtype, self.product, self.device = dtype, product, device
        self._kept: dict[str, Tensor] = {}

    def buffer(self, name: str, *shape: int, exact: bool = False) -> Tensor:
        """Return an uninitialised buffer; the same name gives the same memory again.

        Args:
            name: What it is for; two live buffers have two names.
            *shape: Its shape.
            exact: Take the working dtype even where products are taken in a smaller one.
        """
        n_elements = torch.Size(shape).numel()
        flat = self._kept.get(name)
        if flat is None or flat.numel() < n_elements:
            dtype = self.dtype if exact else self.product
            flat = self._kept[name] = torch.empty(n_elements, dtype=dtype, device=self.device)
        return flat[:n_elements].view(shape)


class Factors(NamedTuple):
    """Hold the operands of a block's products; the first axis runs over (b,c,G).

    left (.,q,q+N) is [G | C], right (.,q+N,R*P) is [X' ; S0], inputs (.,q,N) is B and outputs C
    (masked by segment borders in `left`, not here), into (.,q,N) is B where it reaches the end.
    """

    left: Tensor
    right: Tensor
    inputs: Tensor
    into: Tensor
    outputs: Tensor


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


def block_sizes(tokens: Tokens, chunk: int) -> Sizes:
    """Return the sizes of a block of whole chunks."""
    batch, length, n_heads, headdim = tokens.x.shape
    groups, state = tokens.B.shape[2:]
    return Sizes(batch, length // chunk, chunk, groups, n_heads // groups, headdim, state)


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
    ends = middle.exp().to(dtype).view(sizes.batch, sizes.chunks, sizes.groups, 1, -1, 1)
    ends = ends.expand(*ends.shape[:-1], sizes.headdim).flatten(4)
    borders = None if tokens.segments is None else _borders(tokens.segments, sizes, dtype)
    return Decays(u.to(dtype), (steps * inverse).to(dtype), ends, steps, inverse, free, borders)


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


def tokens_by_group(values: Tensor, sizes: Sizes) -> Tensor:
    """View (b,T,H,P) as (b,c,G,q,R,P)."""
    parts = torch.unflatten(values, 2, (sizes.groups, sizes.per_group))
    return torch.unflatten(parts, 1, (sizes.chunks, sizes.chunk)).transpose(2, 3)


def heads_by_group(values: Tensor, sizes: Sizes) -> Tensor:
    """View (b,c,q,H) as (b,c,G,q,R,1), to multiply what `tokens_by_group` gives."""
    return torch.unflatten(values, 3, (sizes.groups, sizes.per_group)).transpose(2, 3).unsqueeze(-1)


def factors_of(tokens: Tokens, decays: Decays, sizes: Sizes, work: Work) -> Factors:
    """Fill the operands of a block's products, all but the states in `right`."""
    n, q, state = sizes.products, sizes.chunk, sizes.state
    left = work.buffer("left", n, q, q + state)
    right = work.buffer("right", n, q + state, sizes.width)
    inputs, outputs = work.buffer("inputs", n, q, state), work.buffer("outputs", n, q, state)
    shape = (sizes.batch, sizes.chunks, sizes.groups, q, state)
    for buffer, maps in ((inputs, tokens.B), (outputs, tokens.C)):
        chunks = torch.unflatten(maps, 1, (sizes.chunks, q)).transpose(2, 3)
        buffer.view(shape).copy_(chunks)
    scores = torch.bmm(outputs, inputs.mT, out=work.buffer("scores", n, q, q))
    into, borders = inputs, decays.borders
    if borders is None:
        torch.mul(scores, _causal(q, work), out=left[:, :, :q])
        left[:, :, q:].copy_(outputs)
    else:
        torch.mul(scores, borders.pairs, out=left[:, :, :q])
        left[:, :, q:].copy_((outputs.view(shape) * borders.begin).view_as(outputs))
        into = work.buffer("into", n, q, state)
        torch.mul(inputs.view(shape), borders.end, out=into.view(shape))
    x = tokens_by_group(tokens.x, sizes)
    scaled = right[:, :q].view(*x.shape[:4], sizes.per_group, sizes.headdim)
    torch.mul(x, heads_by_group(decays.weights, sizes), out=scaled)
    return Factors(left, right, inputs, into, outputs)


def _causal(q: int, work: Work) -> Tensor:
    return torch.ones(q, q, dtype=work.product, device=work.device).tril_()


def pass_states(factors: Factors, decays: Decays, sizes: Sizes, state: Tensor, work: Work) -> None:
    """Fill the scaled state before each chunk into `right`; `state` becomes the block's last."""
    q, shape = sizes.chunk, (sizes.batch, sizes.chunks, sizes.groups, sizes.state, sizes.width)
    added = work.buffer("added", sizes.products, sizes.state, sizes.width)
    torch.bmm(factors.into.mT, factors.right[:, :q], out=added)
    before = factors.right.view(*shape[:3], -1, sizes.width)[:, :, :, q:]
    through = None if decays.borders is None else decays.borders.through.unbind(1)
    chunks = zip(before.unbind(1), added.view(shape).unbind(1), decays.ends.unbind(1), strict=True)
    for number, (scaled, new, end) in enumerate(chunks):
        if scaled.dtype == state.dtype:
            torch.mul(state, end, out=scaled)
            kept = scaled
        else:  # the state itself never leaves the working dtype
            kept = state * end
            scaled.copy_(kept)
        if through is None:
            torch.add(kept, new, out=state)
        else:
            torch.addcmul(new.to(state.dtype), kept, through[number], out=state)
        state.mul_(end)


def forward_block(
    tokens: Tokens, A: Tensor, state: Tensor, y: Tensor, *, work: Work, chunk: int
) -> None:
    """Scan one block of whole chunks.

    Args:
        tokens: The block; its length is a multiple of `chunk`.
        A: Decay rates (H,).
        state: State before the block (b,G,N,R*P) in the working dtype; becomes the one after it.
        y: Where the outputs (b,T,H,P) go.
        work: Buffers.
        chunk: Tokens per chunk, from `choose_chunk`.
    """
    sizes = block_sizes(tokens, chunk)
    decays = decays_of(tokens, A, sizes, work.dtype)
    factors = factors_of(tokens, decays, sizes, work)
    pass_states(factors, decays, sizes, state, work)
    products = work.buffer("products", sizes.products, sizes.chunk, sizes.width)
    torch.bmm(factors.left, factors.right, out=products)
    target = tokens_by_group(y, sizes)
    torch.mul(products.view(target.shape), heads_by_group(decays.u, sizes), out=target)
