"""Positional features of a token grid: nerf, ff, cpe and the plain coordinates.

A coordinate runs from 0 to 1 along each grid axis, in the order (h, w, d, t). The methods:

- none: the coordinates themselves (4).
- nerf: c, then for k = 0..9 all sin(2^k c), all cos(2^k c) (84); no factor pi.
- ff: c, then sin(pi f c) with twelve frequencies f = 1..10 per axis, axis by axis, then the same
  with cos (100).
- cpe: the sine-cosine code of Vaswani et al. 2017 per axis, angle 2 pi c / 10000^(2 floor(j/2)/F),
  F = 2 floor(floor(E/4)/2) entries per axis, zeros up to E.

All but cpe reach the width E of a model through a fixed random projection, drawn from a seed by a
generator of its own: it depends on no other draw and no other draw depends on it.
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
_SAME = 2e-3  # of the largest entry; neighbours on a grid differ by far more


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


def encode(method: str, grid: Sequence[int], *, dim: int, seed: int = 0) -> Tensor:
    """Return the position of every place of a grid as a vector of a model's width.

    Args:
        method: nerf, ff, cpe or none.
        grid: Tokens along the four axes, each >= 1.
        dim: Width E.
        seed: Seed of the random projection; cpe has none.

    Returns:
        Positions (N,E), float32, in raster order, the last axis fastest.

    Raises:
        UsageError: The method is unknown, or cpe was asked for without a usable `dim`.

    >>> encode("nerf", (2, 1, 1, 3), dim=8).shape
    torch.Size([6, 8])
    """
    return _projected(method, mesh(grid).flatten(0, -2), dim, seed)


def encoded_grid(method: str, positions: Tensor, *, seed: int = 0) -> tuple[int, ...] | None:
    """Tell the grid that positions were made for, from nothing but their values.

    The places along one axis through the origin are compared with what `encode` gives, the last
    axis first; an axis of g tokens has its second place at 1 / (g - 1), so only one g fits.

    Args:
        method: nerf, ff, cpe or none.
        positions: Positions (N,E), of any origin.
        seed: Seed of the random projection; cpe has none.

    Returns:
        Tokens along the four axes, or None when `encode` does not give these positions on any
        grid: another method, another seed, or a projection from elsewhere.

    >>> encoded_grid("ff", encode("ff", (3, 1, 2, 5), dim=8, seed=7), seed=7)
    (3, 1, 2, 5)
    """
    left, dim = positions.shape
    grid: list[int] = []
    for axis in reversed(range(_N_AXES)):
        stride = positions.shape[0] // left
        for size in (n for n in range(left, 0, -1) if left % n == 0):
            coords = torch.zeros(size, _N_AXES)
            coords[:, axis] = torch.linspace(0.0, 1.0, size)
            along = positions[: size * stride : stride]
            if _same(along, _projected(method, coords, dim, seed)):
                break
        else:
            return None
        grid.insert(0, size)
        left //= size
    whole = left == 1 and _same(positions, encode(method, grid, dim=dim, seed=seed))
    return tuple(grid) if whole else None


def _same(saved: Tensor, made: Tensor) -> bool:
    """Compare with room for the rounding of other machines, or of float16."""
    scale = float(made.abs().max()) or 1.0
    return bool(((saved.to(made.dtype) - made).abs() <= _SAME * scale).all())


def _projected(method: str, coords: Tensor, dim: int, seed: int) -> Tensor:
    raw = features(method, coords, dim=dim)
    if method == "cpe":
        return raw
    generator = torch.Generator().manual_seed(seed)
    return raw @ torch.randn(raw.shape[-1], dim, generator=generator, dtype=raw.dtype)


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
