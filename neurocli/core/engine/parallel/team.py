"""The processes that share one run: how they meet, agree, and learn that one of them is gone.

Every rank runs the same program. What only one may do (claim a folder, write a file, judge rows)
is done by rank 0 and its outcome, errors included, is told to all, so that all go on or all end.
Control messages go through gloo on the CPU; gradients take the backend of the device.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from neurocli.core.engine.parallel.places import STRATEGIES, Place, read_place
from neurocli.core.errors import ExitCode, NeuroError, UsageError
from neurocli.core.names import lookup

T = TypeVar("T")
_DIST: Any = dist  # stores are exported without being declared
_FAILURE, _ENDED = "failure", "ended"
_PATIENCE, _LONGEST = timedelta(seconds=2), timedelta(hours=12)
_LOST = ("gloo", "Connection", "NCCL", "Broken pipe", "store", "Socket")


class Team:
    """Hold this process's place among the ranks, and what they do together.

    Args:
        place: Its place.
        store: Where ranks leave words for each other; None when alone.
    """

    def __init__(self, place: Place = Place(), store: Any = None) -> None:
        self.rank, self.n_ranks, self.local_rank = place.rank, place.n_ranks, place.local_rank
        self.strategy = "none"
        self.n_together = 1
        self._store = store

    @property
    def is_first(self) -> bool:
        """Return whether this is rank 0, which writes and answers."""
        return self.rank == 0

    @property
    def n_shares(self) -> int:
        """Return among how many the samples of a batch are divided: `n_together` share each."""
        return self.n_ranks // self.n_together

    @property
    def data_rank(self) -> int:
        """Return which of these shares is this rank's."""
        return self.rank // self.n_together

    @property
    def is_alone(self) -> bool:
        """Return whether there is no other rank."""
        return self.n_ranks == 1

    def wait(self) -> None:
        """Return when all ranks are here."""
        if not self.is_alone:
            dist.barrier()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks, the same bytes on each."""
        if not self.is_alone:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def largest(self, value: int) -> int:
        """Return the largest of the ranks' numbers."""
        if self.is_alone:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return int(found)

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order, on every rank."""
        if self.is_alone:
            return [value]
        found: list[Any] = [None] * self.n_ranks
        dist.all_gather_object(found, value)
        return found

    def gather_to_first(self, value: T) -> list[T]:
        """Return the values of all ranks on rank 0, nothing on the others."""
        if self.is_alone:
            return [value]
        found: list[Any] | None = [None] * self.n_ranks if self.is_first else None
        dist.gather_object(value, found)
        return found or []

    def first_does(self, work: Callable[[], T]) -> T:
        """Have rank 0 do something and tell all what came of it.

        Args:
            work: Called on rank 0 only; its result travels to the others.

        Returns:
            What `work` returned, on every rank.

        Raises:
            NeuroError: `work` failed; every rank raises the same error.
        """
        if self.is_alone:
            return work()
        told: list[Any] = [None, None]
        failed: BaseException | None = None
        if self.is_first:
            try:
                told[0] = work()
            except Exception as error:
                failed, told[1] = error, _portable(error)
        dist.broadcast_object_list(told)
        if failed is not None:
            raise failed
        if told[1] is not None:
            raise _shared(told[1])
        found: T = told[0]
        return found

    def first_then_rest(self, work: Callable[[], T]) -> T:
        """Have rank 0 do something, then the others: the second finds what the first made.

        Raises:
            NeuroError: Rank 0 failed; every rank raises its error.
        """
        if self.is_alone:
            return work()
        mine: list[T] = []
        self.first_does(lambda: mine.append(work()))
        return mine[0] if self.is_first else work()

    def share_problem(self, problem: NeuroError | None) -> None:
        """Raise on every rank what went wrong on any.

        Args:
            problem: What went wrong here; None when nothing did.

        Raises:
            NeuroError: The first rank's problem; nothing is raised when no rank has one.
        """
        found = next((p for p in self.gather(problem) if p is not None), None)
        if problem is not None and self.is_first:
            raise problem
        if found is not None:
            raise _shared(found)

    def tell_failure(self, error: BaseException) -> None:
        """Leave word of what ended this rank, for those that will miss it."""
        if self._store is None:
            return
        told = _portable(error)
        values = [self.rank, told.message, told.where, told.hint, int(told.code)]
        with contextlib.suppress(Exception):
            if self._store.add(_ENDED, 1) == 1:
                self._store.set(_FAILURE, json.dumps(values))

    def failure_of_other(self) -> NeuroError | None:
        """Return what another rank left word of, waiting a moment for it."""
        if self._store is None:
            return None
        try:
            self._store.wait([_FAILURE], _PATIENCE)
            rank, message, where, hint, code = json.loads(self._store.get(_FAILURE))
        except Exception:
            return None
        if rank == self.rank:
            return None
        return NeuroError(f"rank {rank}: {message}", where=where, hint=hint, code=ExitCode(code))


ALONE = Team()
_teams = [ALONE]  # the last one is of this process, now


def current_team() -> Team:
    """Return the team of this process."""
    return _teams[-1]


@contextlib.contextmanager
def joined() -> Iterator[Team]:
    """Meet the other ranks of the launcher, and part from them at the end.

    Inside another `joined` it is the same team. Without a launcher it is a team of one.

    Raises:
        NeuroError: Another rank is gone; what it left word of is told.
        UsageError: The launcher's variables make no sense.
    """
    if len(_teams) > 1:
        yield _teams[-1]
        return
    place = read_place()
    team = _meet(place) if place.n_ranks > 1 else Team()
    _teams.append(team)
    try:
        yield team
        team.wait()  # nobody has succeeded before all have
    except (RuntimeError, KeyboardInterrupt) as error:
        # Other ranks that are missing show as broken connections, or as a launcher that stops us.
        if team.is_alone or not _is_loss(error):
            team.tell_failure(error)
            raise
        raise (team.failure_of_other() or _lost(error)) from error
    except BaseException as error:
        team.tell_failure(error)
        raise
    finally:
        _teams.pop()
        if dist.is_initialized():
            dist.destroy_process_group()


@contextlib.contextmanager
def joined_as(strategy: str) -> Iterator[Team]:
    """Meet the other ranks under a strategy, unless that was done.

    Args:
        strategy: Value of `train.parallel`; "none" is ddp where there are several ranks.

    Raises:
        UsageError: There is no such strategy.
    """
    is_new = len(_teams) == 1
    with joined() as team:
        if is_new:
            choose_strategy(team, strategy, is_named=False)
        yield team


def _meet(place: Place) -> Team:
    with_cuda = torch.cuda.is_available() and dist.is_nccl_available()
    if with_cuda and place.local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"this is process {place.local_rank + 1} of a machine with "
            f"{torch.cuda.device_count()} GPUs",
            where="LOCAL_RANK",
            hint="launch one process per GPU, or hide them: CUDA_VISIBLE_DEVICES= ... --device cpu",
        )
    if with_cuda:
        torch.cuda.set_device(place.local_rank)
    store, rank, n_ranks = next(iter(_DIST.rendezvous("env://")))
    backend = "cpu:gloo,cuda:nccl" if with_cuda else "gloo"
    dist.init_process_group(
        backend,
        store=_DIST.PrefixStore("ranks", store),
        rank=rank,
        world_size=n_ranks,
        # Rank 0 may judge or open data for long; a rank that is gone shows at once all the same.
        timeout=_LONGEST,
    )
    return Team(place, _DIST.PrefixStore("words", store))


def open_group_of_one() -> None:
    """Make the process group that a sharding engine wants, in a run of one process."""
    if not dist.is_initialized():
        with_cuda = torch.cuda.is_available() and dist.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if with_cuda else "gloo"
        dist.init_process_group(backend, store=_DIST.HashStore(), rank=0, world_size=1)


def choose_strategy(team: Team, name: str, *, is_named: bool) -> list[str]:
    """Settle how the ranks share the model.

    Args:
        team: Gets the strategy.
        name: Value of `train.parallel`.
        is_named: Whether somebody chose it; else several ranks take ddp.

    Returns:
        Sentences the user should read.

    Raises:
        UsageError: No such strategy, or "none" for several ranks.
    """
    lookup("parallel strategy", name, dict.fromkeys(STRATEGIES))
    team.strategy = name
    if team.is_alone:
        if name == "ddp":
            team.strategy = "none"
            return ["--parallel ddp with one process is --parallel none; --procs N starts more"]
        return []
    if name != "none":
        return []
    if is_named:
        raise UsageError(
            f"{team.n_ranks} processes were launched, and 'none' trains in one",
            where="train.parallel",
            hint="use --parallel ddp, fsdp or deepspeed, or start one process",
        )
    team.strategy = "ddp"
    return [f"{team.n_ranks} processes were launched and --parallel was not given: ddp is taken"]


def _portable(error: BaseException) -> NeuroError:
    if isinstance(error, NeuroError):
        return error
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return NeuroError(f"internal error: {text}", code=ExitCode.INTERNAL)


def _shared(error: NeuroError) -> NeuroError:
    # One rank shows it; see `cli.output`.
    error.is_shared = True
    return error


def _is_loss(error: BaseException) -> bool:
    return isinstance(error, (KeyboardInterrupt, dist.DistError)) or any(
        word in str(error) for word in _LOST
    )


def _lost(error: BaseException) -> BaseException:
    if isinstance(error, KeyboardInterrupt):
        return error
    return NeuroError(
        "another process of this run ended without a word (killed, or out of memory)",
        hint="see the launcher's report; the run can be resumed from its last checkpoint",
    )
