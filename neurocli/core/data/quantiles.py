"""Exact quantiles of a stream of float32 values, in two passes and fixed memory.

Each value maps to an unsigned 32-bit key that sorts like the value. The first pass counts the upper
16 bits; the second counts the lower 16 bits of the few upper halves in which a wanted rank falls
(a radix selection). No value is ever kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import NeuroError

_HALF = 16
_N_BINS = 1 << _HALF
_SIGN = np.int32(-(1 << 31))


def _keys(values: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    # Flipping the sign bit of positives and all bits of negatives makes the bits sort by value.
    with np.errstate(over="ignore"):
        bits = values.astype(np.float32, copy=False).view(np.int32)
    return (bits ^ (bits >> 31 | _SIGN)).view(np.uint32)


def _value(key: int) -> float:
    bits = key & 0x7FFFFFFF if key & 0x80000000 else ~key & 0xFFFFFFFF
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])


def _count(halves: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    # The index type of the machine saves bincount a checked conversion.
    return np.bincount(halves.astype(np.intp), minlength=_N_BINS)


class RankCounter:
    """Count values by the upper half of their key, then find any rank in a second pass."""

    def __init__(self) -> None:
        self._counts = np.zeros(_N_BINS, dtype=np.int64)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count one block of finite values, any shape."""
        self._counts += _count(_keys(values).ravel() >> _HALF)

    def quantiles(
        self, shares: Sequence[float], blocks: Iterable[npt.NDArray[Any]]
    ) -> tuple[float, ...]:
        """Return quantiles with linear interpolation between neighbouring ranks.

        Args:
            shares: Wanted quantiles, each in 0 .. 1.
            blocks: The same values as were added, for the second pass.

        Returns:
            One value per share, exact for float32 input.

        Raises:
            NeuroError: Nothing was added, or the second pass holds other values than the first.
        """
        n_values = int(self._counts.sum())
        if n_values == 0:
            raise NeuroError("no value was counted", hint="add at least one value first")
        positions = [share * (n_values - 1) for share in shares]
        ranks = {rank for p in positions for rank in (int(p), min(int(p) + 1, n_values - 1))}
        found = self._select(ranks, blocks)
        return tuple(
            found[int(p)] + (p - int(p)) * (found[min(int(p) + 1, n_values - 1)] - found[int(p)])
            for p in positions
        )

    def _select(self, ranks: set[int], blocks: Iterable[npt.NDArray[Any]]) -> dict[int, float]:
        ends = np.cumsum(self._counts)
        upper_of = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
        lower_counts = {upper: np.zeros(_N_BINS, np.int64) for upper in set(upper_of.values())}
        for block in blocks:
            keys = _keys(block).ravel()
            uppers = keys >> _HALF
            for upper, counts in lower_counts.items():
                lower = keys[uppers == upper] & (_N_BINS - 1)
                np.add(counts, _count(lower), out=counts)
        if any(counts.sum() != self._counts[upper] for upper, counts in lower_counts.items()):
            raise NeuroError("the values changed between two passes", hint="read the run again")
        found = {}
        for rank, upper in upper_of.items():
            inside = rank - int(ends[upper] - self._counts[upper])
            lower = int(np.searchsorted(np.cumsum(lower_counts[upper]), inside, side="right"))
            found[rank] = _value((upper << _HALF) | lower)
        return found
