"""Worker processes that outlive the death of one of them.

At most as many items are handed out as there are workers, so when a worker is killed the suspects
are few: each of them is tried once more, alone, and only then called failed. A pipe ties every
worker to its parent: it reads as ended when the parent dies or gives up, and the worker leaves.
Imported only where more than one process is asked for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection

from neurocli.core.data.workers import Outcome, Task, failed_record, perform
from neurocli.core.errors import NeuroError

_KILLED = "worker was killed (out of memory?); use fewer --jobs or free memory"


def run_tasks(tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Perform tasks and yield what became of each as it ends.

    Args:
        tasks: What to do.
        jobs: Worker processes.

    Yields:
        One outcome per task, in order of completion.

    Raises:
        NeuroError: Worker processes cannot be started.
    """
    waiting = deque(tasks)
    while waiting:
        suspects: list[Task] = []
        yield from _until_broken(waiting, suspects, min(jobs, len(waiting)))
        for task in suspects:
            yield _alone(task)


def _until_broken(waiting: deque[Task], suspects: list[Task], jobs: int) -> Iterator[Outcome]:
    running: dict[Future[Outcome], Task] = {}
    with _pool(jobs) as pool:
        is_broken = False
        while (waiting or running) and not is_broken:
            is_broken = not _hand_out(pool, waiting, running, jobs)
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            yield from _collect(ended, running, suspects)
            is_broken = is_broken or bool(suspects)
        # Where the pool is broken, every call still out ends at once.
        ended, _ = wait(running)
        yield from _collect(ended, running, suspects)


def _hand_out(
    pool: ProcessPoolExecutor,
    waiting: deque[Task],
    running: dict[Future[Outcome], Task],
    jobs: int,
) -> bool:
    """Give each idle worker a task; return False when the pool takes no more."""
    while waiting and len(running) < jobs:
        try:
            running[pool.submit(perform, waiting[0])] = waiting[0]
        except BrokenProcessPool:
            return False
        waiting.popleft()
    return True


def _collect(
    ended: set[Future[Outcome]], running: dict[Future[Outcome], Task], suspects: list[Task]
) -> Iterator[Outcome]:
    for future in ended:
        task = running.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            suspects.append(task)
        else:
            yield outcome


def _alone(task: Task) -> Outcome:
    with _pool(1) as pool:
        try:
            return pool.submit(perform, task).result()
        except BrokenProcessPool:
            return Outcome(failed_record(task.item, _KILLED, 0.0))


@contextlib.contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    context = get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_follow_parent, initargs=(reader,)
    )
    try:
        _check_start(pool)
        yield pool
        pool.shutdown(wait=True)
    finally:
        writer.close()
        pool.shutdown(wait=True, cancel_futures=True)
        reader.close()


def _check_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise NeuroError(
            "worker processes cannot start",
            hint="use --jobs 1; a script needs `if __name__ == '__main__':` around its calls",
        ) from error


def _follow_parent(link: Connection) -> None:
    """Prepare a worker: quiet on Ctrl-C, one thread, gone when the parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Read when numpy is imported, which happens later, on the first item.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threading.Thread(target=_leave_at_end, args=(link,), daemon=True).start()


def _leave_at_end(link: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        link.recv_bytes()
    os._exit(1)
