"""Worker processes that outlive the death of one of them.

At most as many items are handed out as there are workers, so when a worker is killed the suspects
are few: each of them is tried once more, alone, and only then called failed. A pipe ties every
worker to its parent: it reads as ended when the parent dies or gives up, and the worker leaves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from neurocli.core.catalog import resolve
from neurocli.core.data.items import Item
from neurocli.core.data.manifest import fingerprint, source_digests
from neurocli.core.data.output import part_path, plain_values
from neurocli.core.errors import NeuroError, OutputError
from neurocli.core.paths import DISK_FAILURES, file_sha256

_KILLED = "worker was killed (out of memory?); use fewer --jobs or free memory"


@dataclass(frozen=True)
class Task:
    """Hold what a worker needs for one item.

    Args:
        item: The item.
        process: `"module:function"`, called as `process(item, folder, options)`.
        out: The output folder.
        options: Handed to the function.
        version: Format of the items.
        known: Fingerprint of an output that is in place; None when there is none.
    """

    item: Item
    process: str
    out: Path
    options: Mapping[str, Any]
    version: str
    known: str | None


@dataclass(frozen=True)
class Outcome:
    """Hold what became of one item.

    Args:
        record: Its line for the manifest; `status` is done, failed or skipped.
        part: Private folder with the files of a done item.
    """

    record: dict[str, Any]
    part: Path | None = None

    @property
    def status(self) -> str:
        """Return "done", "failed" or "skipped"."""
        return str(self.record["status"])


def run_tasks(tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Perform tasks and yield what became of each as it ends.

    Args:
        tasks: What to do.
        jobs: Worker processes; 1 works in this process.

    Yields:
        One outcome per task, in order of completion.

    Raises:
        NeuroError: Worker processes cannot be started.
    """
    if jobs == 1:
        yield from map(perform, tasks)
        return
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


def perform(task: Task) -> Outcome:
    """Do one item; what is the item's own failure becomes a failed record, never an exception.

    Args:
        task: What to do.

    Returns:
        The record; for a done item also the private folder that holds its files.

    Raises:
        OutputError: The disk is full, read-only or failing.
    """
    item = task.item
    started = time.perf_counter()
    part = part_path(task.out, item.subject)
    is_done = False
    try:
        digests = source_digests(item.sources)
        digest = task_fingerprint(task, digests=digests)
        if digest == task.known:
            return Outcome({"subject": item.subject, "status": "skipped"})
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        told = replace(item, digests=digests)
        fields = dict(resolve(task.process)(told, part, task.options))
        fields["sha256"] = file_sha256(part / fields["files"][0])
        is_done = True
    except OutputError:
        raise
    except (NeuroError, OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno in DISK_FAILURES:
            raise _disk_failure(task, error) from error
        return Outcome(failed_record(item, reason_text(error), time.perf_counter() - started))
    finally:
        if not is_done:
            shutil.rmtree(part, ignore_errors=True)
    record = {
        **empty_record(item),
        **fields,
        "status": "done",
        "fingerprint": digest,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return Outcome(record, part)


def _disk_failure(task: Task, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write: {error.strerror or error}",
        where=str(task.out),
        hint="free space or choose another --out; the same command line goes on where it stopped",
    )


def task_fingerprint(task: Task, *, digests: Sequence[str] | None = None) -> str:
    """Return a digest of a task's sources, options and format.

    Args:
        task: The task.
        digests: Of its sources, where they are known; None reads them.

    Raises:
        InputError: A source cannot be read.
    """
    return fingerprint(task.item.sources, _identity(task), task.version, digests=digests)


def _identity(task: Task) -> dict[str, Any]:
    return {
        "subject": task.item.subject,
        "participant": task.item.participant,
        "details": plain_values(task.item.details),
        "options": plain_values(task.options),
    }


def empty_record(item: Item) -> dict[str, Any]:
    """Return a manifest line with every key in its place."""
    return {
        "subject": item.subject,
        "participant": item.participant,
        "status": "failed",
        "files": [],
        "shape": None,
        "dtype": None,
        "affine": None,
        "tr_s": None,
        "stats": {},
        "notes": [],
        "source": [path.name for path in item.sources],
        "sha256": None,
        "fingerprint": None,
        "seconds": 0.0,
        "error": None,
    }


def failed_record(item: Item, reason: str, seconds: float) -> dict[str, Any]:
    """Return the manifest line of an item that failed."""
    return {**empty_record(item), "seconds": round(seconds, 3), "error": reason}


def reason_text(error: NeuroError | OSError | MemoryError) -> str:
    """Return an error as one line that names files without their folders.

    >>> reason_text(NeuroError("is empty", where="/data/run.nii", hint="copy it again"))
    'run.nii: is empty; copy it again'
    """
    if isinstance(error, NeuroError):
        where = f"{Path(error.where).name}: " if error.where else ""
        text = f"{where}{error.message}" + (f"; {error.hint}" if error.hint else "")
    elif isinstance(error, OSError):
        where = f"{Path(os.fsdecode(error.filename)).name}: " if error.filename else ""
        text = f"{where}{error.strerror or error}"
    else:
        text = "not enough memory; use fewer --jobs or a machine with more"
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
