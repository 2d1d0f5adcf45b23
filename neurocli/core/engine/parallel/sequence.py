"""`train.sequence_parallel`: which ranks share the tokens of one clip.

Ranks that follow each other share one batch: of W ranks in groups of n, W/n groups see different
samples. A rank's gradient is its part of the group's mean (`core.nn.sequence_parallel`), so what
averages gradients over all ranks, as DDP does, serves both divisions at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch.distributed as dist
from torch import nn

from neurocli.core.engine.parallel.team import Team
from neurocli.core.errors import UsageError
from neurocli.core.nn.data_group import divided_among
from neurocli.core.nn.sequence_parallel import WHOLE, SequenceGroup

_KEY = "train.sequence_parallel"


def check_sequences(team: Team, n: int) -> None:
    """Refuse a division of tokens that cannot be made.

    Args:
        team: The ranks, with their strategy.
        n: Value of `train.sequence_parallel`.

    Raises:
        UsageError: The ranks make no whole groups of n, or hold the model in shards.
    """
    if n == 1:
        return
    if team.n_ranks % n:
        raise UsageError(
            f"{team.n_ranks} process{'es' * (not team.is_alone)} cannot share clips in groups of "
            f"{n}",
            where=_KEY,
            hint=f"start {n} of them, or a multiple: --procs {n}, or torchrun "
            f"--nproc_per_node={n} -m neurocli ...; a run goes on in another division when its "
            f"command is given again with --out RUN and --set {_KEY}=1",
        )
    if team.strategy != "ddp":
        raise UsageError(
            f"tokens are divided among whole copies of the model, '{team.strategy}' cuts it",
            where="train.parallel",
            hint="use --parallel ddp, or set train.sequence_parallel to 1",
        )


@contextlib.contextmanager
def shared_sequences(team: Team, model: nn.Module, n: int) -> Iterator[None]:
    """Let groups of n ranks share the tokens of their batches meanwhile; all ranks call it.

    Args:
        team: The ranks, with their strategy; told of n.
        model: Its parts that have `divide_sequence` are told their group.
        n: Ranks per group; 1 leaves all as it is.

    Raises:
        UsageError: See `check_sequences`; or the model reads no sequence.
    """
    check_sequences(team, n)
    if n == 1:
        yield
        return
    parts = [cast(Any, part) for part in model.modules() if hasattr(part, "divide_sequence")]
    if not parts:
        raise UsageError(
            f"a {type(model).__name__} reads no sequence of tokens that could be divided",
            where=_KEY,
            hint="set it to 1, or train a model of the fmamba family",
        )
    group, samples = _groups(team, n)
    for part in parts:
        part.divide_sequence(group)
    team.n_together = n
    try:
        with divided_among(samples):
            yield
    finally:
        team.n_together = 1
        for part in parts:
            part.divide_sequence(WHOLE)


def _groups(team: Team, n: int) -> tuple[SequenceGroup, dist.ProcessGroup]:
    """Make this rank's group for tokens, and that of the ranks with other samples."""
    # All ranks make all groups, in one order, members or not; tokens need one for each way.
    blocks = [list(range(first, first + n)) for first in range(0, team.n_ranks, n)]
    ways = [(dist.new_group(block), dist.new_group(block)) for block in blocks]
    across = [dist.new_group([block[place] for block in blocks]) for place in range(n)]
    return SequenceGroup(*ways[team.rank // n]), across[team.rank % n]
