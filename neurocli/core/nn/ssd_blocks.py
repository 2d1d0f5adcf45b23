"""From a sequence to blocks of the scan and back: cutting, padding, the layout of states.

`ssd_block` and `ssd_backward` take whole chunks only; the last block of a sequence is padded here
with steps of 0, which change no state. Letters as in `ssd_block`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.nn.sizes import BLOCK_TOKENS, block_length
from neurocli.core.nn.ssd_backward import Gradients, backward_block
from neurocli.core.nn.ssd_block import Kept, Work, forward_block
from neurocli.core.nn.ssd_decays import Decays, Tokens, pad_tokens

_DEVICE_BLOCK_TOKENS = 1 << 15  # a block that fills a GPU
_MOST_JOINED = 2


def row_blocks(sequence: Tensor, *, share: int = 1) -> list[slice]:
    """Return where the blocks of a sequence (b,L,...) begin and end, of 1/share the usual size.

    Threads share a block's operations, each of which costs the same whatever it works on, so with
    two of them whole blocks are joined by twos. A ragged last block stays alone.
    """
    batch, length = sequence.shape[:2]
    is_cpu = sequence.device.type == "cpu"
    most = (BLOCK_TOKENS if is_cpu else _DEVICE_BLOCK_TOKENS) // share
    size = block_length(batch=batch, tokens=most)
    whole = length // size * size
    step = size * min(torch.get_num_threads(), _MOST_JOINED) if is_cpu and share == 1 else size
    blocks = [slice(start, min(start + step, whole)) for start in range(0, whole, step)]
    return blocks + [slice(whole, length)] * (whole < length)


def block_of(tokens: Tokens, rows: slice) -> Tokens:
    """Return a block of a sequence, whose `segments` (b,L+1) begin with that before it."""
    x, B, C = (part[:, rows] for part in tokens[:3])
    segments = tokens.segments
    if segments is not None:
        segments = segments[:, rows.start : rows.stop + 1]
    return Tokens(x, B, C, segments)


def scan_block(
    block: Tokens, decays: Decays, state: Tensor, y: Tensor, *, work: Work, keep: bool = False
) -> Kept | None:
    """Scan a block of any length; arguments as in `ssd_block.forward_block`."""
    length = block.x.shape[1]
    if length % decays.chunk == 0:
        return forward_block(block, decays, state, y, work=work, keep=keep)
    padded = pad_tokens(block, decays.chunk)
    wider = torch.empty_like(padded.x)
    kept = forward_block(padded, decays, state, wider, work=work, keep=keep)
    y.copy_(wider[:, :length])
    return kept


def scan_block_back(
    block: Tokens,
    decays: Decays,
    states: tuple[Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    grads: Gradients,
    *,
    work: Work,
    kept: Kept | None = None,
) -> None:
    """Differentiate a block of any length; arguments as in `ssd_backward.backward_block`."""
    length = block.x.shape[1]
    if length % decays.chunk == 0:
        backward_block(block, decays, states, outputs, grads, work=work, kept=kept)
        return
    padded = pad_tokens(block, decays.chunk)
    missing = (0, 0, 0, 0, 0, padded.x.shape[1] - length)
    y, dy = (F.pad(part, missing) for part in outputs)
    wider = grads._replace(
        x=torch.empty_like(padded.x), B=torch.empty_like(padded.B), C=torch.empty_like(padded.C)
    )
    backward_block(padded, decays, states, (y, dy), wider, work=work, kept=kept)
    for name in ("x", "B", "C"):
        getattr(grads, name).copy_(getattr(wider, name)[:, :length])


def inner_state(state: Tensor, n_groups: int) -> Tensor:
    """Turn a state (b,H,P,N) into the scan's own layout (b,G,N,R*P), contiguous."""
    batch, _, headdim, size = state.shape
    parts = state.reshape(batch, n_groups, -1, headdim, size).permute(0, 1, 4, 2, 3)
    return parts.reshape(batch, n_groups, size, -1).contiguous()


def outer_state(state: Tensor, n_heads: int) -> Tensor:
    """Turn a state (b,G,N,R*P) of the scan into (b,H,P,N)."""
    batch, n_groups, size, _ = state.shape
    parts = state.view(batch, n_groups, size, n_heads // n_groups, -1).permute(0, 1, 3, 4, 2)
    return parts.reshape(batch, n_heads, -1, size)
