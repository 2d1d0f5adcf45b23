"""`--procs N`: the same command line once more, in N processes that share the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from neurocli.cli.options import value
from neurocli.cli.output import sink
from neurocli.cli.page import RUN_PANEL
from neurocli.core.errors import NeuroError

_NAME = "--procs"
Processes = Annotated[
    int | None, value("N", "Share the work among N processes of this machine.", RUN_PANEL)
]


def run_in_processes(n_ranks: int) -> int:
    """Run this command line in several processes and return its exit code.

    Raises:
        NeuroError: A process was killed.
        UsageError: The number is below 1, or a launcher is at work.
    """
    from neurocli.core.engine.parallel.launch import launch

    output = sink()
    ended = launch(without_processes(output.args), n_ranks)
    # In JSON mode rank 0 has told of the loss already, in the one object there may be.
    if ended.killed and (0 in ended.killed or output.flags.mode != "json"):
        rank, name = next(iter(ended.killed.items()))
        raise NeuroError(
            f"process {rank} of {n_ranks} was killed by {name}",
            hint="when memory ran out, start fewer processes or lower --batch-size; a training "
            "run goes on from its last checkpoint with --resume",
        )
    return ended.code


def without_processes(args: Sequence[str]) -> list[str]:
    """Return a command line without `--procs N`.

    >>> without_processes(["train", "--procs", "2", "cebra", "--procs=3", "-q"])
    ['train', 'cebra', '-q']
    """
    kept: list[str] = []
    is_number = False
    for arg in args:
        if not is_number and arg != _NAME and not arg.startswith(f"{_NAME}="):
            kept.append(arg)
        is_number = arg == _NAME and not is_number
    return kept
