"""One block of the state-space-dual scan backward, by hand: `ssd_block` run the other way.

Everything but the state before the block can be computed again, so a scan needs to keep no more
than its inputs, its outputs and one state per block. Gradients of the log decays come from two sums
per token,

    dlog u_i = sum_p dY_i Y_i        dlog(1/u_j) = sum_p dX'_j X'_j

and one per chunk, sum dS S of the state after it. They nearly cancel, so they meet in float64, for
many blocks at once (`ssd_decays.steps_gradient`). A log decay that the floor held has no gradient.

Letters as in `ssd_block`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neurocli.core.nn.ssd_block import (
    Factors,
    Kept,
    Work,
    buffers_to_keep,
    factors_of,
    heads_by_group,
    pass_states,
    states_into,
    tokens_by_group,
)
from neurocli.core.nn.ssd_decays import Decays, DecaySums, Sizes, Tokens, block_sizes


class Gradients(NamedTuple):
    """Hold where a block's gradients go.

    x (b,T,H,P), B and C (b,T,G,N) in the working dtype; sums, of which those of the decays are
    made; state (b,G,N,R*P) holds the gradient of the state after the block and becomes that of the
    state before it.
    """

    x: Tensor
    B: Tensor
    C: Tensor
    sums: DecaySums
    state: Tensor


def backward_block(
    tokens: Tokens,
    decays: Decays,
    states: tuple[Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    grads: Gradients,
    *,
    work: Work,
    kept: Kept | None = None,
) -> None:
    """Differentiate one block of whole chunks.

    Args:
        tokens: The block, as it was scanned.
        decays: Of the block.
        states: State before the block and after it, (b,G,N,R*P).
        outputs: y (b,T,H,P) of the block and its gradient.
        grads: Where the gradients go.
        work: Buffers.
        kept: What the scan kept; None to compute it again.
    """
    sizes = block_sizes(tokens, decays.chunk)
    room = buffers_to_keep(sizes, work) if kept is None else kept
    factors = factors_of(tokens, decays, sizes, room, work, ready=kept is not None)
    befores = room.befores
    if kept is None:
        state = work.buffer("state", *states[0].shape, exact=True).copy_(states[0])
        pass_states(factors, decays, sizes, state, befores, work)
    states_into(factors, befores, sizes)

    dy = outputs[1]
    q, shape = sizes.chunk, (sizes.batch, sizes.chunks, sizes.groups)
    d_products = work.buffer("wide 3", sizes.products, q, sizes.width)
    dy_groups = tokens_by_group(dy, sizes)
    torch.mul(dy_groups, heads_by_group(decays.u, sizes), out=d_products.view(dy_groups.shape))
    d_right = work.buffer("wide 2", *factors.right.shape)
    torch.bmm(factors.left.mT, d_products, out=d_right)
    d_left = work.buffer("d_left", *factors.left.shape)
    torch.bmm(d_products, factors.right.mT, out=d_left)

    d_before = d_right.view(*shape, -1, sizes.width)[:, :, :, q:]
    last = (grads.state * states[1]).view(sizes.batch, -1, sizes.per_group, sizes.headdim)
    d_befores, d_added = _pass_states_back(d_before, factors, decays, sizes, grads.state, work)
    d_inputs = d_right[:, :q]
    torch.baddbmm(d_inputs, factors.into, d_added, out=d_inputs)  # operators in place go uncounted
    _maps_back(factors, d_left, d_added, sizes, grads)

    d_scaled = d_right[:, :q].view(dy_groups.shape)
    _sum_states(d_befores, befores, last, sizes, grads.sums.ends, work)
    _tokens_back(tokens, outputs, d_scaled, decays, sizes, grads, work)


def _pass_states_back(
    d_before: Tensor,
    factors: Factors,
    decays: Decays,
    sizes: Sizes,
    d_state: Tensor,
    work: Work,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence backward.

    Returns:
        Gradients of the scaled states (b,c,G,N,R*P) and of what each chunk adds (b*c*G,N,R*P).
    """
    shape = (sizes.batch, sizes.chunks, sizes.groups, sizes.state, sizes.width)
    d_befores = d_before
    if d_before.dtype != d_state.dtype:  # states never leave the working dtype
        d_befores = work.buffer("d_befores", *shape, exact=True).copy_(d_before)
    places = [*d_befores.unbind(1), d_state]
    turns = list(zip(places[:-1], factors.passes.unbind(1), places[1:], strict=True))
    for here, factor, following in reversed(turns):
        here.addcmul_(factor, following)
    d_added = work.buffer("added", sizes.products, sizes.state, sizes.width)
    torch.mul(d_befores[:, 1:], decays.adds[:, :-1], out=d_added.view(shape)[:, :-1])
    torch.mul(d_state, decays.adds[:, -1], out=d_added.view(shape)[:, -1])
    torch.mul(d_befores[:, 0], decays.ends[:, 0], out=d_state)
    return d_befores, d_added


def _sum_states(
    d_befores: Tensor, befores: Tensor, last: Tensor, sizes: Sizes, sums: Tensor, work: Work
) -> None:
    """Write sum dS S of the state after each chunk (b,c,H)."""
    products = work.buffer("wide 6", *befores.shape, exact=True)
    torch.mul(d_befores, befores, out=products)
    products = torch.unflatten(products, 4, (sizes.per_group, sizes.headdim))
    # The scaled state before a chunk gives the same sum as the state after the one before it.
    sums[:, :-1] = products[:, 1:].sum((3, 5), dtype=sums.dtype).flatten(2)
    ends = torch.unflatten(last, 1, (sizes.groups, sizes.state))
    sums[:, -1] = ends.sum((2, 4), dtype=sums.dtype).flatten(1)


def _maps_back(
    factors: Factors,
    d_left: Tensor,
    d_added: Tensor,
    sizes: Sizes,
    grads: Gradients,
) -> None:
    """Write the gradients of B and C."""
    q, borders = sizes.chunk, factors.borders
    d_inputs = torch.bmm(factors.right[:, :q], d_added.mT)
    d_outputs = d_left[:, :, q:]
    d_scores = d_left[:, :, :q]
    shape = (sizes.batch, sizes.chunks, sizes.groups, q, sizes.state)
    if borders is None:
        d_scores = d_scores.tril()
    else:
        # Not a product: what is masked may have left the range, and inf * 0 is NaN.
        d_scores = d_scores.masked_fill(borders.pairs == 0, 0)
        d_inputs = (d_inputs.view(shape) * borders.end.to(d_inputs.dtype)).view_as(d_inputs)
        d_outputs = d_outputs.reshape(shape) * borders.begin.to(d_outputs.dtype)
        d_outputs = d_outputs.view_as(d_inputs)
    d_inputs = torch.baddbmm(d_inputs, d_scores.mT, factors.outputs)
    d_outputs = torch.baddbmm(d_outputs, d_scores, factors.inputs)
    for target, values in ((grads.B, d_inputs), (grads.C, d_outputs)):
        torch.unflatten(target, 1, (sizes.chunks, q)).transpose(2, 3).copy_(values.view(shape))


def _tokens_back(
    tokens: Tokens,
    outputs: tuple[Tensor, Tensor],
    d_scaled: Tensor,
    decays: Decays,
    sizes: Sizes,
    grads: Gradients,
    work: Work,
) -> None:
    """Write the gradients of x, and the sums over each token."""
    (y, dy), sums = outputs, grads.sums
    d_x, x = tokens_by_group(grads.x, sizes), tokens_by_group(tokens.x, sizes)
    torch.mul(d_scaled, heads_by_group(decays.weights, sizes), out=d_x)
    scratch = work.buffer("wide 5", *dy.shape, exact=True)
    products = torch.mul(d_scaled, x, out=tokens_by_group(scratch, sizes))
    wide = sums.inputs.dtype
    heads_by_group(sums.inputs, sizes).squeeze(-1).copy_(products.sum(-1, dtype=wide))
    sums.outputs.flatten(1, 2).copy_(torch.mul(dy, y, out=scratch).sum(-1, dtype=wide))
