"""How many processes share one run: one, in this version.

This file and `runtime` are the only ones that may know of process groups. A strategy will be one
row of a table here, made of four functions (wrap the model, shard the order, gather rows, gather
weights); the loop will not change.
"""

from __future__ import annotations

import os

from neurocli.core.errors import NotBuiltYetError, UsageError
from neurocli.core.names import lookup

_BUILT = {"none": True, "ddp": False, "fsdp": False, "deepspeed": False}


def check_parallel(name: str) -> None:
    """Refuse what would silently train several copies instead of one model.

    Args:
        name: Value of `train.parallel`.

    Raises:
        NotBuiltYetError: The strategy is not in this version, or a launcher started several
            processes, which would write into one folder.
        UsageError: No such strategy, or `WORLD_SIZE` is no number.
    """
    if not lookup("parallel strategy", name, _BUILT):
        raise NotBuiltYetError(
            f"'{name}' is not in this version: training runs in one process",
            where="train.parallel",
            hint="use --parallel none, on CPU or one GPU",
        )
    world = os.environ.get("WORLD_SIZE", "1")
    if not world.isdigit():
        raise UsageError(f"'{world}' is not a number of processes", where="WORLD_SIZE")
    if int(world) > 1:
        raise NotBuiltYetError(
            f"{world} processes were launched, this version trains in one",
            where="WORLD_SIZE",
            hint="start it as `neuro train ...` without torchrun, or with --nproc_per_node=1",
        )
