"""One preparation by several processes that `mpiexec` started.

Rank r performs tasks r, r + N, r + 2N ...; rank 0 also keeps the books and publishes, so the output
is what one process would write. mpi4py is imported under a launcher with several ranks only. A
rank that fails must call `stop_team`, or the others would wait for it for ever; the command line
does.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.data.items import PrepareResult
from neurocli.core.data.workers import Outcome, Task, perform
from neurocli.core.errors import MissingDependencyError, NeuroError, UsageError

# What Open MPI and the launchers of the MPICH family tell a process of its place.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK")
_OUTCOME = 1


def n_ranks() -> int:
    """Return how many processes `mpiexec` started; 1 without it."""
    return _first_number(_SIZES, 1)


def is_follower() -> bool:
    """Tell whether this process is a rank above 0 of several."""
    return n_ranks() > 1 and _first_number(_RANKS, 0) > 0


def _first_number(names: Sequence[str], otherwise: int) -> int:
    found = (os.environ.get(name, "") for name in names)
    return next((int(text) for text in found if text.isdigit()), otherwise)


def perform_all(tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Perform tasks, alone or as rank 0 of a team, and yield what became of each as it ends.

    Args:
        tasks: What to do.
        jobs: Worker processes of a process without a team.

    Yields:
        One outcome per task.

    Raises:
        UsageError: A team is asked for further processes.
        MissingDependencyError: There is a team and no mpi4py.
        NeuroError: Worker processes cannot be started, or mpi4py does not know the team.
    """
    if n_ranks() == 1 and jobs == 1:
        yield from map(perform, tasks)
        return
    if n_ranks() == 1:
        from neurocli.core.data.pool import run_tasks  # costs a start that one process can spare

        yield from run_tasks(tasks, jobs)
        return
    if jobs != 1:
        raise UsageError(
            f"{n_ranks()} MPI ranks are at work already",
            where="--jobs",
            hint="give mpiexec -n N or --jobs N, not both",
        )
    comm = _world()
    comm.bcast(list(tasks), root=0)
    own = tasks[0 :: comm.size]
    awaited = len(tasks) - len(own)
    for task in own:
        yield perform(task)
        while awaited and comm.iprobe(tag=_OUTCOME):
            yield comm.recv(tag=_OUTCOME)
            awaited -= 1
    for _ in range(awaited):
        yield comm.recv(tag=_OUTCOME)


def follow(out: Path) -> PrepareResult:
    """Perform this rank's share of what rank 0 hands out.

    Args:
        out: The output folder.

    Returns:
        Nothing done: rank 0 tells the counts.

    Raises:
        MissingDependencyError: There is no mpi4py.
        NeuroError: mpi4py does not know the team.
    """
    comm = _world()
    tasks = comm.bcast(None, root=0)
    sent = [
        comm.isend(perform(task), dest=0, tag=_OUTCOME) for task in tasks[comm.rank :: comm.size]
    ]
    for request in sent:
        request.wait()
    return PrepareResult(out, done=0, failed=0, skipped=0, seconds=0.0)


def stop_team(code: int) -> None:
    """End all ranks at once when this one fails; without a team nothing happens.

    Args:
        code: Exit code that the launcher returns.
    """
    if n_ranks() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # A rank that ended without joining could bring the launcher down while others join.
    with contextlib.suppress(NeuroError):
        _world().Abort(code)


def _world() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise MissingDependencyError(
            f"{n_ranks()} processes under mpiexec need the package mpi4py ({error})",
            hint="pip install 'neurocli[mpi]', or run it once, without mpiexec, with --jobs N",
        ) from error
    if n_ranks() != MPI.COMM_WORLD.size:
        raise NeuroError(
            f"the launcher started {n_ranks()} processes, mpi4py sees {MPI.COMM_WORLD.size}",
            hint="use the mpiexec of the MPI that mpi4py was built for",
        )
    return MPI.COMM_WORLD
