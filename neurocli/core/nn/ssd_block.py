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
from torch import Tensor

from neurocli.core.nn.sizes import keeps_states
from neurocli.core.nn.ssd_decays import Borders, Decays, Sizes, Tokens, block_sizes, borders_of


class Work:
    """Keep the buffers of one scan, so that its blocks do not allocate.

    Wide buffers that are never alive together share a number from "wide 1" to "wide 6": what one
    block touches has to stay in the cache, or every pass over it waits for the memory.
    """

    def __init__(self, dtype: torch.dtype, product: torch.dtype, device: torch.device) -> None:
        self.dtype, self.product, self.device = dtype, product, device
        self._kept: dict[tuple[str, bool], Tensor] = {}
        self._views: dict[tuple[str, bool, tuple[int, ...]], Tensor] = {}

    def buffer(self, name: str, *shape: int, exact: bool = False) -> Tensor:
        """Return an uninitialised buffer; the same name gives the same memory again.

        Args:
            name: What it is for; two live buffers have two names.
            *shape: Its shape.
            exact: Take the working dtype even where products are taken in a smaller one.
        """
        view = self._views.get((name, exact, shape))
        if view is not None:
            return view
        key, n_elements = (name, exact), torch.Size(shape).numel()
        flat = self._kept.get(key)
        if flat is None or flat.numel() < n_elements:
            self._views = {of: view for of, view in self._views.items() if of[:2] != key}
            dtype = self.dtype if exact else self.product
            flat = self._kept[key] = torch.empty(n_elements, dtype=dtype, device=self.device)
        view = self._views[(*key, shape)] = flat[:n_elements].view(shape)
        return view


class Factors(NamedTuple):
    """Hold the operands of a block's products; the first axis runs over (b,c,G).

    left (.,q,q+N) is [G | C], right (.,q+N,R*P) is [X' ; S0], inputs (.,q,N) is B and outputs C
    (masked by segment borders in `left`, not here), into (.,q,N) is B where it reaches the end.
    passes (b,c,G,1,R*P) is what states pass a chunk with; borders None or what segments allow.
    """

    left: Tensor
    right: Tensor
    inputs: Tensor
    into: Tensor
    outputs: Tensor
    passes: Tensor
    borders: Borders | None


class Kept(NamedTuple):
    """Hold what a backward pass need not compute again.

    left (b*c*G,q,q+N) as in `Factors`; befores (b,c,G,N,R*P), the scaled state before each chunk in
    the working dtype.
    """

    left: Tensor
    befores: Tensor


def tokens_by_group(values: Tensor, sizes: Sizes) -> Tensor:
    """View (b,T,H,P) as (b,c,G,q,R,P)."""
    parts = torch.unflatten(values, 2, (sizes.groups, sizes.per_group))
    return torch.unflatten(parts, 1, (sizes.chunks, sizes.chunk)).transpose(2, 3)


def heads_by_group(values: Tensor, sizes: Sizes) -> Tensor:
    """View (b,c,q,H) as (b,c,G,q,R,1), to multiply what `tokens_by_group` gives."""
    return torch.unflatten(values, 3, (sizes.groups, sizes.per_group)).transpose(2, 3).unsqueeze(-1)


def room_to_keep(sizes: Sizes, work: Work) -> Kept:
    """Return new memory for what a backward pass may use again."""
    states = (sizes.batch, sizes.chunks, sizes.groups, sizes.state, sizes.width)
    left = (sizes.products, sizes.chunk, sizes.chunk + sizes.state)
    return Kept(
        torch.empty(left, dtype=work.product, device=work.device),
        torch.empty(states, dtype=work.dtype, device=work.device),
    )


def buffers_to_keep(sizes: Sizes, work: Work) -> Kept:
    """Return buffers for what no backward pass will use again."""
    states = (sizes.batch, sizes.chunks, sizes.groups, sizes.state, sizes.width)
    left = (sizes.products, sizes.chunk, sizes.chunk + sizes.state)
    return Kept(work.buffer("left", *left), work.buffer("befores", *states, exact=True))


def factors_of(
    tokens: Tokens, decays: Decays, sizes: Sizes, kept: Kept, work: Work, *, ready: bool = False
) -> Factors:
    """Fill the operands of a block's products, all but the states in `right`.

    Args:
        tokens: The block.
        decays: Of the block.
        sizes: Of the block.
        kept: Where `left` goes.
        work: Buffers.
        ready: Whether `left` was filled before.
    """
    n, q, state = sizes.products, sizes.chunk, sizes.state
    right = work.buffer("wide 1", n, q + state, sizes.width)
    inputs, outputs = work.buffer("inputs", n, q, state), work.buffer("outputs", n, q, state)
    shape = (sizes.batch, sizes.chunks, sizes.groups, q, state)
    for buffer, maps in ((inputs, tokens.B), (outputs, tokens.C)):
        chunks = torch.unflatten(maps, 1, (sizes.chunks, q)).transpose(2, 3)
        buffer.view(shape).copy_(chunks)
    into, passes, borders = inputs, decays.adds, borders_of(tokens, sizes, work.dtype)
    if not ready:
        _fill_left(kept.left, inputs, outputs, borders, sizes, work)
    if borders is not None:
        into, passes = work.buffer("into", n, q, state), passes * borders.through
        torch.mul(inputs.view(shape), borders.end, out=into.view(shape))
    x = tokens_by_group(tokens.x, sizes)
    scaled = right[:, :q].view(*x.shape[:4], sizes.per_group, sizes.headdim)
    torch.mul(x, heads_by_group(decays.weights, sizes), out=scaled)
    return Factors(kept.left, right, inputs, into, outputs, passes, borders)


def _fill_left(
    left: Tensor,
    inputs: Tensor,
    outputs: Tensor,
    borders: Borders | None,
    sizes: Sizes,
    work: Work,
) -> None:
    q = sizes.chunk
    scores = torch.bmm(outputs, inputs.mT, out=work.buffer("scores", sizes.products, q, q))
    if borders is None:
        torch.mul(scores, _causal(q, work), out=left[:, :, :q])
        left[:, :, q:].copy_(outputs)
        return
    shape = (sizes.batch, sizes.chunks, sizes.groups, q, sizes.state)
    torch.mul(scores, borders.pairs, out=left[:, :, :q])
    left[:, :, q:].copy_((outputs.view(shape) * borders.begin).view_as(outputs))


def _causal(q: int, work: Work) -> Tensor:
    return torch.ones(q, q, dtype=work.product, device=work.device).tril_()


def pass_states(
    factors: Factors, decays: Decays, sizes: Sizes, state: Tensor, befores: Tensor, work: Work
) -> None:
    """Fill the scaled states before each chunk; `state` becomes the one after the block.

    What a chunk adds is scaled for all of them at once, so each turn of the recurrence is one
    operation.
    """
    q, shape = sizes.chunk, befores.shape
    added = work.buffer("added", sizes.products, sizes.state, sizes.width)
    torch.bmm(factors.into.mT, factors.right[:, :q], out=added)
    own = work.buffer("wide 6", *shape, exact=True)
    torch.mul(added.view(shape), decays.adds, out=own)
    torch.mul(state, decays.ends[:, 0], out=befores[:, 0])
    places = [*befores.unbind(1), state]
    turns = zip(own.unbind(1), factors.passes.unbind(1), places[:-1], places[1:], strict=True)
    for new, factor, here, following in turns:
        torch.addcmul(new, factor, here, out=following)


def states_into(factors: Factors, befores: Tensor, sizes: Sizes) -> None:
    """Copy the scaled states before the chunks to their place in `right`."""
    target = factors.right.view(*befores.shape[:3], -1, sizes.width)[:, :, :, sizes.chunk :]
    target.copy_(befores)


def forward_block(
    tokens: Tokens,
    decays: Decays,
    state: Tensor,
    y: Tensor,
    *,
    work: Work,
    keep: bool = False,
) -> Kept | None:
    """Scan one block of whole chunks.

    Args:
        tokens: The block; its length is a multiple of the chunk.
        decays: Of the block.
        state: State before the block (b,G,N,R*P) in the working dtype; becomes the one after it.
        y: Where the outputs (b,T,H,P) go.
        work: Buffers.
        keep: Return what a backward pass may use again, where that is small.

    Returns:
        What was kept, or None.
    """
    sizes = block_sizes(tokens, decays.chunk)
    keep = keep and keeps_states(sizes.chunk, sizes.state)
    kept = (room_to_keep if keep else buffers_to_keep)(sizes, work)
    factors = factors_of(tokens, decays, sizes, kept, work)
    pass_states(factors, decays, sizes, state, kept.befores, work)
    states_into(factors, kept.befores, sizes)
    products = work.buffer("wide 3", sizes.products, sizes.chunk, sizes.width)
    torch.bmm(factors.left, factors.right, out=products)
    target = tokens_by_group(y, sizes)
    torch.mul(products.view(target.shape), heads_by_group(decays.u, sizes), out=target)
    return kept if keep else None
