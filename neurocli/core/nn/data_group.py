"""Which ranks hold different samples of a batch: all, unless several share the tokens of a sample.

What is summed over a batch in the middle of a model (batch statistics, pairs of a contrast, a
union of masks) is summed over these ranks. Outside a process group there is one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch.distributed as dist

_groups: list[dist.ProcessGroup | None] = [None]  # the last one counts; None is all ranks


def data_group() -> dist.ProcessGroup | None:
    """Return the group of ranks with samples of their own, this one among them; None is all."""
    return _groups[-1]


def n_data_ranks() -> int:
    """Return how many ranks that are."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size(_groups[-1])


def data_rank() -> int:
    """Return this rank's number among them."""
    return dist.get_rank(_groups[-1])


@contextlib.contextmanager
def divided_among(group: dist.ProcessGroup) -> Iterator[None]:
    """Have the ranks of a group, and no others, hold the samples of a batch meanwhile."""
    _groups.append(group)
    try:
        yield
    finally:
        _groups.pop()
