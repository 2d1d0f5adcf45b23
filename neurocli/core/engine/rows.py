"""Judging a part: every sample once, in order, one row each, without disturbing training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.core.data.loader import Batches
from neurocli.core.engine.precision import Precision
from neurocli.core.engine.runtime import memory_named, restore_rng, rng_state, to_device
from neurocli.core.engine.task import Batch, Rows, SampleSet, Summary, Task
from neurocli.core.errors import NeuroError
from neurocli.core.events import ItemDone, Listener, Note, WorkFinished, WorkStarted, ignore


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
    return task.summarise(rows)


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

    each_batch(step, model, samples, config, device, label="evaluate", listener=listener)
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

    Raises:
        NeuroError: Memory ran out.
    """
    precision = _precision(config, device, listener)
    batches = Batches(
        samples,
        batch_size=config.data.eval_batch_size,
        seed=config.run.seed,
        prefetch=config.data.prefetch,
    )
    listener(WorkStarted(label, len(batches), "batches"))
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
