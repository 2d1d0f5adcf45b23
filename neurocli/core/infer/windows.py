"""Where windows lie in a volume and how much each of them counts in every voxel.

Windows form a full grid, so the sum of their weights factors over the axes: dividing the weights of
an axis by their own sum beforehand leaves nothing to divide at the end. The one exception is the
Gaussian as MONAI has it, whose product is cut off from below.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from neurocli.core.errors import UsageError
from neurocli.core.heap import zeroed_apart

Triple = tuple[int, int, int]
Blend = Literal["constant", "gaussian", "cosine"]
Extent = Literal["grid", "brain", "whole"]
BLENDS: tuple[str, ...] = get_args(Blend)
EXTENTS: tuple[str, ...] = get_args(Extent)
_CHUNK_VOXELS = 1 << 16

_SIGMA_SHARE = 0.125  # of a window's length
_LEAST_WEIGHT = 1e-3


def grid_starts(length: int, size: int, overlap: float) -> list[int]:
    """Return where windows begin along one axis: even steps, the last one moved inwards.

    Args:
        length: Voxels of the axis, at least `size`.
        size: Voxels of a window.
        overlap: Share of a window that the next one repeats, 0 .. 1 (1 excluded).

    >>> grid_starts(240, 128, 0.1), grid_starts(155, 128, 0.5), grid_starts(64, 64, 0.5)
    ([0, 112], [0, 27], [0])
    """
    step = size if length == size else max(1, int(size * (1 - overlap)))
    count = 1 + max(0, math.ceil((length - size) / step))
    return [min(index * step, length - size) for index in range(count)]


def axis_weights(size: int, blend: str) -> Tensor:
    """Return the weights of a window along one axis, (size,) float32, symmetric and positive.

    The cosine is a whole raised period, sin^2(pi (t + 1/2) / n): it falls to almost 0 at both ends.

    >>> [round(w, 3) for w in axis_weights(4, "cosine").tolist()]
    [0.146, 0.854, 0.854, 0.146]
    """
    place = torch.arange(size, dtype=torch.float64)
    if blend == "cosine":
        return torch.sin(math.pi * (place + 0.5) / size).square().float()
    if blend == "gaussian":
        centred = (place - (size - 1) / 2).float()
        return torch.exp(centred**2 / (-2 * (size * _SIGMA_SHARE) ** 2))
    return torch.ones(size)


def window_weights(size: Triple, blend: str) -> Tensor:
    """Return the weights of a window, (d, h, w) float32, not normalised."""
    d, h, w = (axis_weights(length, blend) for length in size)
    product = d[:, None, None] * h[:, None] * w
    return product.clamp_(min=_LEAST_WEIGHT) if blend == "gaussian" else product


@dataclass(frozen=True)
class Window:
    """Hold one window.

    Args:
        start: Its first voxel along each axis.
        place: Its number along each axis.
    """

    start: Triple
    place: Triple


@dataclass(frozen=True)
class WindowGrid:
    """Hold the windows of a volume in the order in which they are computed.

    Args:
        shape: Voxels of the volume, at least `size` along each axis.
        size: Voxels of a window.
        starts: First voxels along each axis.
        blend: How overlapping windows are weighed.
    """

    shape: Triple
    size: Triple
    starts: tuple[list[int], list[int], list[int]]
    blend: str

    @property
    def n_windows(self) -> int:
        """Return how many there are."""
        return math.prod(len(starts) for starts in self.starts)

    def rows(self) -> Iterator[list[Window]]:
        """Yield the windows that share their place along the first axis, row after row."""
        for first in range(len(self.starts[0])):
            others = itertools.product(*(range(len(starts)) for starts in self.starts[1:]))
            yield [self._window((first, second, third)) for second, third in others]

    def _window(self, place: Triple) -> Window:
        start = tuple(self.starts[axis][index] for axis, index in enumerate(place))
        return Window(start, place)  # type: ignore[arg-type]


def plan_grid(shape: Sequence[int], size: Sequence[int], overlap: float, blend: str) -> WindowGrid:
    """Return the windows of a volume.

    Args:
        shape: Voxels of the volume.
        size: Voxels of a window; an axis that is longer than the volume's must be padded before.
        overlap: Share of a window that the next one repeats.
        blend: One of `BLENDS`.

    Raises:
        UsageError: A size is below 1, the overlap is outside 0 .. 1, or the blend is unknown.
    """
    if len(size) != 3 or min(size) < 1:
        raise UsageError(f"{list(size)} is no window", where="roi", hint="give three sizes >= 1")
    if not 0 <= overlap < 1:
        raise UsageError(f"{overlap} is outside 0 .. 1", where="overlap", hint="such as 0.1 or 0.5")
    if blend not in BLENDS:
        raise UsageError(f"unknown blend '{blend}'", hint=f"choices: {', '.join(BLENDS)}")
    starts = tuple(
        grid_starts(length, one, overlap) for length, one in zip(shape, size, strict=True)
    )
    return WindowGrid(tuple(shape), tuple(size), starts, blend)  # type: ignore[arg-type]


def zeros(shape: Sequence[int], device: torch.device) -> Tensor:
    """Return a float32 tensor of zeros for as long as many others come and go."""
    if device.type != "cpu":
        return torch.zeros(tuple(shape), device=device)
    memory = zeroed_apart(4 * math.prod(shape))
    return torch.frombuffer(memory, dtype=torch.float32).view(tuple(shape))


def add_weighted(target: Tensor, logits: Tensor, weight: Tensor | None) -> Tensor:
    """Add a window's logits to what they are summed in.

    Args:
        target: (K, d, h, w) float32, changed in place.
        logits: (K, d, h, w).
        weight: (d, h, w); None weighs every voxel alike.

    Returns:
        (): the sum of the logits, which is finite only when every one of them is.
    """
    total = target.new_zeros(())
    for part in plane_chunks(logits.shape[1:], logits.device):
        # A few planes of weights and logits stay in the cache for all that is done with them.
        piece = logits[:, part].float()
        if weight is None:
            target[:, part].add_(piece)
        else:
            target[:, part].addcmul_(piece, weight[part])
        total += piece.sum()
    return total


def plane_chunks(shape: Sequence[int], device: torch.device) -> Iterator[slice]:
    """Yield runs of planes along the first axis that fit into a processor's cache.

    Args:
        shape: (d, h, w).
        device: All planes are one run on anything but a CPU, where each run would be a launch.
    """
    depth, plane = shape[0], max(1, math.prod(shape[1:]))
    step = max(1, _CHUNK_VOXELS // plane) if device.type == "cpu" else max(1, depth)
    for start in range(0, depth, step):
        yield slice(start, min(depth, start + step))


class Weights:
    """Give the share of each window in each of its voxels; the shares of a voxel add up to 1.

    Args:
        grid: The windows.
        device: Where the shares are needed.
    """

    def __init__(self, grid: WindowGrid, device: torch.device) -> None:
        self._grid = grid
        self._whole = None
        self._chunks = list(plane_chunks(grid.size, device))
        n_planes = max(part.stop - part.start for part in self._chunks)
        # One buffer for all windows in turn.
        self._shares_of = torch.empty((n_planes, *grid.size[1:]), device=device)
        if grid.blend == "gaussian":
            self._window = window_weights(grid.size, grid.blend).to(device)
            self._whole = torch.zeros(grid.shape, device=device)
            for row in grid.rows():
                for window in row:
                    self._whole[_box(window, grid.size)] += self._window
        else:
            self._axes = [
                [share.to(device) for share in self._shares(axis)] for axis in range(len(grid.size))
            ]

    def _shares(self, axis: int) -> list[Tensor]:
        size, starts = self._grid.size[axis], self._grid.starts[axis]
        own = axis_weights(size, self._grid.blend)
        total = torch.zeros(self._grid.shape[axis])
        for start in starts:
            total[start : start + size] += own
        return [own / total[start : start + size] for start in starts]

    def add(self, target: Tensor, logits: Tensor, window: Window) -> Tensor:
        """Add a window's logits by its shares.

        The shares are made and used a few planes at a time, so that they never leave the cache.

        Args:
            target: (K, d, h, w) float32 at the window's place, changed in place.
            logits: (K, d, h, w).
            window: Which one.

        Returns:
            (): the sum of the logits, which is finite only when every one of them is.
        """
        total = target.new_zeros(())
        for part in self._chunks:
            total += add_weighted(target[:, part], logits[:, part], self._of(window, part))
        return total

    def of(self, window: Window) -> Tensor:
        """Return the shares of a window, (d, h, w) float32."""
        return torch.cat([self._of(window, part).clone() for part in self._chunks])

    def _of(self, window: Window, part: slice) -> Tensor:
        """Return the shares of some planes; the next call overwrites them."""
        shares = self._shares_of[: part.stop - part.start]
        if self._whole is not None:
            whole = self._whole[_box(window, self._grid.size)]
            return torch.div(self._window[part], whole[part], out=shares)
        d, h, w = (self._axes[axis][index] for axis, index in enumerate(window.place))
        return torch.mul(d[part, None, None], h[:, None] * w, out=shares)


def _box(window: Window, size: Triple) -> tuple[slice, ...]:
    return tuple(
        slice(start, start + length) for start, length in zip(window.start, size, strict=True)
    )
