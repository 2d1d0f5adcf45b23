"""Dropout whose mask is a function of the person's draw, the layer and the place, and of no state.

Masks drawn from a generator depend on how a batch is cut. Here every person carries the seed of
whatever is random about them, so the same person has the same mask in any batch, chunk or process,
and a chunk that is computed a second time needs no replay.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Odd 64-bit words of splitmix64 as signed numbers; products wrap, which is what mixes.
_STEP, _MIX = -7046029254386353131, -4658895280553007687
_BITS = 24


def keep_mask(draws: Tensor, shape: tuple[int, ...], p: float, layer: int) -> Tensor:
    """Return which elements are kept.

    Args:
        draws: (B,) int64, one per person.
        shape: (B, ...) of the mask.
        p: Chance that an element is dropped.
        layer: Number of the layer, so that layers differ.

    Returns:
        (B, ...) bool.
    """
    n = 1
    for size in shape[1:]:
        n *= size
    places = torch.arange(1, n + 1, device=draws.device, dtype=torch.int64).mul_(_STEP)
    start = (draws ^ (draws >> 31)) * _MIX + _signed((layer + 1) * _STEP)
    start = (start ^ (start >> 29)) * _MIX
    words = start[:, None] + places
    words ^= words >> 30
    words *= _MIX
    words ^= words >> 27
    words *= _STEP
    words >>= 64 - _BITS
    words &= (1 << _BITS) - 1
    return (words >= int(p * (1 << _BITS))).reshape(shape)


def _signed(word: int) -> int:
    return (word + (1 << 63)) % (1 << 64) - (1 << 63)


class SampleDropout(nn.Module):
    """Drop elements by the draw of each person; without draws as torch does.

    Args:
        p: Chance that an element is dropped.
        layer: Number of the layer.
    """

    def __init__(self, p: float, layer: int) -> None:
        super().__init__()
        self.p, self.layer = p, layer

    def forward(self, x: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return x (B, ...) with dropped elements at 0 and the others scaled up."""
        if not self.training or self.p == 0:
            return x
        if draws is None:
            return F.dropout(x, self.p)
        kept = keep_mask(draws, tuple(x.shape), self.p, self.layer)
        return torch.where(kept, x / (1 - self.p), torch.zeros((), dtype=x.dtype, device=x.device))
