"""`train.sequence_parallel`: which ranks share the tokens of one clip, and when they exchange.

Ranks that follow each other share one batch: of W ranks in groups of n, W/n groups see different
batches. A rank's gradient is its part of the group's mean (`core.nn.sequence_parallel`), so what
averages gradients over all ranks, as data-parallel training does, serves both divisions at once.
"""

from __future__ import annotations

from typing import Any, cast

import torch.distributed as dist
from torch import nn

from neurocli.core.errors import UsageError
from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup

_KEY = "train.sequence_parallel"


def check_sequence(n: int, n_ranks: int, model: nn.Module) -> None:
    """Refuse a division of tokens that cannot be made.

    Args:
        n: Value of `train.sequence_parallel`.
        n_ranks: Processes of the run.
        model: To be divided.

    Raises:
        UsageError: The ranks make no whole groups of n, or the model reads no sequence.
    """
    if n == 1:
        return
    if n_ranks % n:
        raise UsageError(
            f"{n_ranks} process{'es' * (n_ranks > 1)} cannot share clips in groups of {n}",
            where=_KEY,
            hint=f"start {n} with `torchrun --nproc_per_node={n} -m neurocli train ...`",
        )
    if not _divided_parts(model):
        raise UsageError(
            f"a {type(model).__name__} reads no sequence of tokens that could be divided",
            where=_KEY,
            hint="set it to 1, or train a model of the fmamba family",
        )


def divide_sequences(model: nn.Module, n: int) -> SequenceGroup:
    """Let groups of n ranks share the tokens of their batches; every rank of the run calls it.

    Args:
        model: Its parts that have `divide_sequence` are told their group.
        n: Ranks per group; 1 leaves the model as it is.

    Returns:
        This rank's group.

    Raises:
        UsageError: See `check_sequence`.
    """
    n_ranks = dist.get_world_size() if dist.is_initialized() else 1
    check_sequence(n, n_ranks, model)
    if n == 1:
        return WHOLE
    own = WHOLE
    for first in range(0, n_ranks, n):
        ranks = list(range(first, first + n))
        # All ranks make all groups, in one order, members or not; one group for each way.
        forth, back = dist.new_group(ranks), dist.new_group(ranks)
        if dist.get_rank() in ranks:
            own = SequenceGroup(forth, back)
    for part in _divided_parts(model):
        cast(Any, part).divide_sequence(own)
    return own


def _divided_parts(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if hasattr(part, "divide_sequence")]
