"""What a launcher told this process of its place among others; nothing heavy is imported.

`torchrun` and `launch` set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from neurocli.core.errors import UsageError

STRATEGIES = ("none", "ddp", "fsdp", "deepspeed")


@dataclass(frozen=True)
class Place:
    """Hold the place of this process.

    Args:
        rank: Number among all processes of the run.
        n_ranks: How many there are.
        local_rank: Number among those of this machine.
    """

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0


def read_place() -> Place:
    """Return this process's place; without a launcher it is alone.

    Raises:
        UsageError: A variable is no number, or there is no such rank.
    """
    n_ranks = _number("WORLD_SIZE", 1)
    if n_ranks <= 1:
        return Place()
    rank = _number("RANK", -1)
    if not 0 <= rank < n_ranks or "MASTER_ADDR" not in os.environ:
        raise UsageError(
            f"{n_ranks} processes were launched, but this one was not told "
            f"{'its number' if rank < 0 else 'where to meet the others'}",
            where="RANK, WORLD_SIZE, MASTER_ADDR",
            hint="start it with `torchrun --nproc_per_node=N -m neurocli ...` or --procs N",
        )
    return Place(rank, n_ranks, _number("LOCAL_RANK", rank))


def _number(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return otherwise
    if not text.isdigit():
        raise UsageError(f"'{text}' is not a number of processes", where=name)
    return int(text)
