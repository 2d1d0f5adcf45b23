"""Positional features of a token grid: nerf, ff, cpe and the plain coordinates.

A coordinate runs from 0 to 1 along each grid axis, in the order (h, w, d, t). The methods:

- none: the coordinates themselves (4).
- nerf: c, then for k = 0..9 all sin(2^k c), all cos(2^k c) (84); no factor pi.
- ff: c, then sin(pi f c) with twelve frequencies f = 1..10 per axis, axis by axis, then the same
  with cos (100).
- cpe: the sine-cosine code of Vaswani et al. 2017 per axis, angle 2 pi c / 10000^(2 floor(j/2)/F),
  F = 2 floor(floor(E/4)/2) entries per axis, zeros up to E.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocli.core.errors import UsageError
from neurocli.core.names import lookup
from neurocli.core.nn.shapes import ShapeError

_N_AXES = 4
_NERF_OCTAVES = 10
_FF_FREQUENCIES = 12
_FF_TOP = 10.0
_CPE_BASE = 10_000.0


def mesh(grid: Sequence[int]) -> Tensor:
    """Return the coordinates of a grid's places.

    Args:
        grid: Tokens along each axis, each >= 1.

    Returns:
        Coordinates (*grid, n_axes) in [0, 1], float32; an axis of one token has the value 0.

    >>> mesh((1, 3)).tolist()
    [[[0.0, 0.0], [0.0, 0.5], [0.0, 1.0]]]
    """
    axes = [torch.linspace(0.0, 1.0, size) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def features(method: str, coords: Tensor, *, dim: int | None = None) -> Tensor:
    """Return the raw positional features of places.

    Args:
        method: nerf, ff, cpe or none.
        coords: Coordinates (..., 4) in [0, 1], order (h, w, d, t).
        dim: Embedding size E, at least 8; needed by cpe only.

    Returns:
        Features (..., 84) for nerf, (..., 100) for ff, (..., E) for cpe, (..., 4) for none, in the
        dtype of the coordinates.

    Raises:
        UsageError: The method is unknown, or cpe was asked for without a usable `dim`.
        ShapeError: The last axis is not 4 long.

    >>> features("nerf", torch.zeros(4)).shape
    torch.Size([84])
    """
    make = lookup("positional encoding", method, METHODS)
    if coords.ndim == 0 or coords.shape[-1] != _N_AXES:
        raise ShapeError(
            f"coords has shape {tuple(coords.shape)}, expected (..., {_N_AXES})", where="coords"
        )
    return make(coords, dim)


def _none(coords: Tensor, dim: int | None) -> Tensor:
    return coords


def _nerf(coords: Tensor, dim: int | None) -> Tensor:
    octaves = 2.0 ** torch.arange(_NERF_OCTAVES, dtype=coords.dtype, device=coords.device)
    angles = octaves.unsqueeze(-1) * coords.unsqueeze(-2)
    waves = torch.stack([angles.sin(), angles.cos()], -2)
    return torch.cat([coords, waves.flatten(-3)], -1)


def _ff(coords: Tensor, dim: int | None) -> Tensor:
    frequencies = torch.linspace(
        1.0, _FF_TOP, _FF_FREQUENCIES, dtype=coords.dtype, device=coords.device
    )
    angles = (coords.unsqueeze(-1) * frequencies * math.pi).flatten(-2)
    return torch.cat([coords, angles.sin(), angles.cos()], -1)


def _cpe(coords: Tensor, dim: int | None) -> Tensor:
    n_entries = (dim or 0) // _N_AXES // 2 * 2
    if dim is None or n_entries == 0:
        raise UsageError(
            f"positional encoding cpe needs an embedding size of at least 8, got {dim}",
            where="dim",
        )
    pairs = torch.arange(0, n_entries, 2, dtype=coords.dtype, device=coords.device)
    angles = 2.0 * math.pi * coords.unsqueeze(-1) / _CPE_BASE ** (pairs / n_entries)
    waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(-3)
    return F.pad(waves, (0, dim - waves.shape[-1]))


METHODS: dict[str, Callable[[Tensor, int | None], Tensor]] = {
    "none": _none,
    "ff": _ff,
    "nerf": _nerf,
    "cpe": _cpe,
}
