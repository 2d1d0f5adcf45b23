"""Judging a part: every sample once, in order, one row each, without disturbing training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.core.data.loader import Batches, Share
from neurocli.core.engine.parallel.team import current_team
from neurocli.core.engine.precision import Precision
from neurocli.core.engine.runtime import memory_named, restore_rng, rng_state, to_device
from neurocli.core.engine.task import Batch, Rows, SampleSet, Summary, Task
from neurocli.core.errors import NeuroError
from neurocli.core.events import ItemDone, Listener, Note, WorkFinished, WorkStarted, ignore

_ALL = Share()


def evaluate_part(
    task: Task,
    model: nn.Module,
    samples: SampleSet,
    config: RunConfig,
    device: torch.device,
    listener: Listener = ignore,
    *,
    check_stop: Callable[[], None] | None = None,
) -> Summary:
    """Return a task's judgement of a model on one part.

    Of several ranks the first has the rows and judges; the others are told the metrics.

    Args:
        task: Owner of the maths.
        model: The model, on `device`.
        samples: The part.
        config: The run's configuration (batch size, precision).
        device: Device of the model.
        listener: Told of every batch.
        check_stop: Called after every batch; it may raise to end the evaluation.

    Raises:
        NeuroError: Memory ran out, or the task gave another number of rows than samples.
    """
    rows = gather_rows(
        task, model, samples, config, device, listener=listener, check_stop=check_stop
    )
    found: list[Summary] = []

    def judge() -> dict[str, float]:
        found.append(task.summarise(rows))
        return dict(found[0].metrics)

    metrics = current_team().first_does(judge)
    return found[0] if found else Summary(metrics, {}, {}, [], 0)


def gather_rows(
    task: Task,
    model: nn.Module,
    samples: SampleSet,
    config: RunConfig,
    device: torch.device,
    *,
    listener: Listener = ignore,
    check_stop: Callable[[], None] | None = None,
) -> Rows:
    """Return one row per sample, in the samples' order.

    Of several ranks each takes whole batches, so that rows are those of one process; the first
    gets all, the others none. What goes wrong on one is raised on all.

    The model is in evaluation mode meanwhile and no gradient is kept. Random state and the mode
    of every module are put back, so that judging never changes training.

    Args:
        task: Owner of the maths.
        model: The model, on `device`.
        samples: The part.
        config: The run's configuration (batch size, precision).
        device: Device of the model.
        listener: Told of every batch.
        check_stop: Called after every batch; it may raise to end the evaluation.

    Raises:
        NeuroError: Memory ran out, or the task gave another number of rows than samples.
    """
    rows: Rows = []

    def step(batch: Batch) -> None:
        found = task.eval_step(model, batch)
        if len(found) != len(batch["participant"]):
            raise NeuroError(
                f"{len(found)} rows for {len(batch['participant'])} samples",
                where=f"{type(task).__name__}.eval_step",
            )
        rows.extend(found)
        if check_stop is not None:
            check_stop()

    team, problem = current_team(), None
    share = Share(team.data_rank, team.n_shares, by_batch=True)
    try:
        each_batch(
            step, model, samples, config, device, label="evaluate", listener=listener, share=share
        )
    except NeuroError as error:
        if team.is_alone:
            raise
        problem = error
    team.share_problem(problem)
    parts = team.gather_to_first(rows)[:: team.n_together]
    return parts[0] if team.is_alone else _interleaved(parts, config.data.eval_batch_size)


def _interleaved(parts: list[Rows], size: int) -> Rows:
    """Return the rows of batches that ranks took in turn, in the order of the batches."""
    rows: Rows = []
    first = 0
    while any(len(part) > first for part in parts):
        for part in parts:
            rows += part[first : first + size]
        first += size
    return rows


def each_batch(
    step: Callable[[Batch], None],
    model: nn.Module,
    samples: SampleSet,
    config: RunConfig,
    device: torch.device,
    *,
    label: str,
    listener: Listener = ignore,
    share: Share = _ALL,
) -> None:
    """Call a function with every sample once, in order, in batches on a device.

    The model is in evaluation mode meanwhile and no gradient is kept. Random state and the mode
    of every module are put back.

    Args:
        step: Takes a batch of the samples' `collate`.
        model: The model, on `device`.
        samples: The part.
        config: The run's configuration (batch size, precision).
        device: Device of the model.
        label: Names the work.
        listener: Told of every batch.
        share: Which batches are this process's.

    Raises:
        NeuroError: Memory ran out.
    """
    precision = _precision(config, device, listener)
    batches = Batches(
        samples,
        batch_size=config.data.eval_batch_size,
        seed=config.run.seed,
        prefetch=config.data.prefetch,
        share=share,
    )
    listener(WorkStarted(label, len(batches.numbers), "batches"))
    # Not inference mode: a table that a model builds in its first pass must serve training too.
    with _undisturbed(model, device), torch.no_grad(), contextlib.closing(iter(batches)) as stream:
        for number, batch in enumerate(stream):
            with memory_named(f"batch {number + 1}"), precision.autocast():
                step(to_device(batch, device))
            listener(ItemDone(str(number), "done"))
    listener(WorkFinished(label))


def _precision(config: RunConfig, device: torch.device, listener: Listener) -> Precision:
    name = config.train.precision
    if name == "fp16" and device.type != "cuda":
        # The weights are float32 anyway; only training needs the narrow type back.
        listener(Note(f"trained in fp16, which needs CUDA; judged in fp32 on {device.type}"))
        name = "fp32"
    return Precision(name, device)


@contextlib.contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    random_state = rng_state(device)
    model.eval()
    try:
        yield
    finally:
        restore_rng(random_state)
        for module, mode in modes:
            module.training = mode
