"""From the name of a strategy to what holds the model, and what it cannot do, said beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from neurocli.core.config.run import TrainBlock
from neurocli.core.engine.parallel.holder import Copies, Holder
from neurocli.core.engine.parallel.team import Team
from neurocli.core.engine.task import Task
from neurocli.core.errors import UsageError
from neurocli.core.nn.global_norm import use_global_statistics


def open_holder(team: Team, task: Task, model: nn.Module, train: TrainBlock) -> Holder:
    """Return what holds a model on the ranks of a team.

    Args:
        team: With its strategy.
        task: Owner of the maths.
        model: On its device, frozen as it will be.
        train: Precision and what else a strategy may not take.

    Raises:
        MissingDependencyError: DeepSpeed is not installed.
        UsageError: The strategy cannot do what is asked.
    """
    if team.strategy in ("fsdp", "deepspeed") and train.precision == "fp16":
        raise UsageError(
            f"'{team.strategy}' does not train in fp16",
            where="train.precision",
            hint="use --precision bf16, or --parallel ddp",
        )
    if train.recompute:
        recompute_blocks(model)
    if not team.is_alone:
        use_global_statistics(model)
    if team.strategy == "ddp":
        return Copies(team, task, model)
    if team.strategy == "fsdp":
        from neurocli.core.engine.parallel.shards import Shards

        return Shards(team, task, model, blocks_of(model))
    if team.strategy == "deepspeed":
        from neurocli.core.engine.parallel.zero import Zero

        return Zero(team, task, model, train)
    return Holder(team, task, model)


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Return the blocks that a model and its parts name in `shard_units()`, inner ones first."""
    found = [
        block for module in model.modules() for block in getattr(module, "shard_units", list)()
    ]
    return found[::-1]


def recompute_blocks(model: nn.Module) -> None:
    """Have a model's blocks keep their inputs only; the result is the same, bit for bit.

    Args:
        model: Changed in place.

    Raises:
        UsageError: The model names no blocks.
    """
    blocks = blocks_of(model)
    if not blocks:
        raise UsageError(
            f"{type(model).__name__} names no blocks to compute again",
            where="train.recompute",
            hint="models of the fmamba family do; for others lower --batch-size",
        )
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def check_shares(team: Team, sizes: Sequence[int], task: Task, model: nn.Module) -> None:
    """Refuse batches that cannot be divided among the ranks.

    Args:
        team: The ranks.
        sizes: Samples of every batch of an epoch.
        task: Says whether a rank may stand by.
        model: Asked for batch statistics.

    Raises:
        UsageError: A batch has fewer samples than there are ranks, where that matters.
    """
    smallest, n = min(sizes), team.n_shares
    if smallest >= n:
        return
    if max(sizes) < n:
        raise UsageError(
            f"a batch of {max(sizes)} cannot be divided among {n} processes",
            where="data.batch_size",
            hint=f"it counts over all processes: set it to {n} or more, or start fewer",
        )
    if task.mixes_samples or any(isinstance(part, _BatchNorm) for part in model.modules()):
        raise UsageError(
            f"the last batch of an epoch has {smallest} samples for {n} processes, and here the "
            "loss of a sample depends on the others of its batch",
            where="data.batch_size",
            hint="set it so that the rest of the training part is larger, or start fewer processes",
        )
