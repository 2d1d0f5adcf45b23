"""From the data's channels to a network's modalities, by name; and inputs of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from neurocli.core.errors import NeuroError, UsageError


def channel_order(wanted: Sequence[str], info: Mapping[str, Any]) -> list[int]:
    """Return which channel of the data holds each wanted modality.

    Args:
        wanted: Modalities that the network reads, in its own order.
        info: What the data tell: `modalities`, their channels in order; absent is `wanted`.

    Raises:
        UsageError: The data lack a modality.

    >>> channel_order(["flair", "t1ce"], {"modalities": ["t1", "t1ce", "t2", "flair"]})
    [3, 1]
    """
    have = list(info.get("modalities", wanted))
    missing = [name for name in wanted if name not in have]
    if missing:
        raise UsageError(
            f"the data hold {', '.join(have)}, but not {', '.join(missing)}",
            where="model.modalities",
            hint="name only modalities of the data, or prepare the missing ones",
        )
    return [have.index(name) for name in wanted]


class Routed(nn.Module):
    """Read modalities by name, for a network that takes its channels in its own order.

    Args:
        modalities: What the network reads, in its own order.
        info: What the data tell: `modalities`.
    """

    def __init__(self, modalities: Sequence[str], info: Mapping[str, Any]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.channels = channel_order(modalities, info)
        self.n_data_channels = len(info.get("modalities", modalities))

    def route(self, x: Tensor) -> Tensor:
        """Return the wanted channels of x (B,C,...) in the network's order.

        Raises:
            NeuroError: x has another number of channels than the data told.
        """
        if x.shape[1] != self.n_data_channels:
            raise NeuroError(
                f"the input has {x.shape[1]} channels, the data told {self.n_data_channels}",
                where="model input",
                hint="one channel for each modality of the data",
            )
        if self.channels == list(range(self.n_data_channels)):
            return x
        return x[:, self.channels]

    def extra_repr(self) -> str:
        """Tell which modalities are read, for printing."""
        return f"reads {', '.join(self.modalities)}"


def fill_grid(x: Tensor, divisor: int) -> Tensor:
    """Return x with zeros, the value of background, behind axes that the divisor does not divide.

    A grid that would shrink to a single voxel is made one step longer: norms need two.

    Args:
        x: (B,C,*grid).
        divisor: What the network divides every axis by.
    """
    sizes = [-(-size // divisor) * divisor for size in x.shape[2:]]
    if all(size == divisor for size in sizes):
        sizes[-1] += divisor
    sides = [(0, want - have) for want, have in zip(sizes, x.shape[2:], strict=True)]
    if not any(after for _, after in sides):
        return x
    return F.pad(x, [side for pair in reversed(sides) for side in pair])


def cut_grid(x: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the first voxels of each axis: what `fill_grid` added is taken away.

    Args:
        x: (B,C,*filled).
        grid: Sizes that are kept.
    """
    if tuple(x.shape[2:]) == tuple(grid):
        return x
    for axis, size in enumerate(grid, start=2):
        x = x.narrow(axis, 0, size)
    return x
