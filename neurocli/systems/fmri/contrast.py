"""Contrastive pretraining: two clips of a person belong together, clips of others do not.

The second clip is drawn from the same run, outside the first. Clips of one person that meet in a
batch are never told apart. The local kind tells the two clips of a person apart instead, by a
second view of each. Judged by retrieval: whose second clip is nearest to a person's first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import Batch, PrimaryMetric, Rows, RunData, StepOutput, Summary
from neurocli.core.errors import UsageError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.nn.contrastive import nt_xent
from neurocli.core.nn.gathered import gathered_nt_xent
from neurocli.systems.fmri.config import FmriDataBlock, FmriTaskBlock
from neurocli.systems.fmri.task import Columns, FmriTask

_MIN_PAIRS = 2


class ContrastiveTask(FmriTask):
    """Bring the vectors of a person's clips together and those of others apart (NT-Xent).

    Args:
        config: The run's configuration.

    Raises:
        UsageError: A batch of one clip has nothing to be told from, or two views of a clip are
            asked for that would be equal.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if self._contrast != "instance" and cast(FmriDataBlock, config.data).augment == "none":
            raise UsageError(
                f"'{self._contrast}' compares two views of a clip, which are equal without "
                "augmentation",
                where="task.contrast",
                hint="add --set data.augment=all",
            )
        if config.data.batch_size < _MIN_PAIRS:
            raise UsageError(
                f"contrastive pretraining tells people of a batch apart, and "
                f"{config.data.batch_size} clip makes no pair to be told from",
                where="data.batch_size",
                hint="set it to 2 or more; 16 and up learn better",
            )

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the loss over all people at once, small is good."""
        return PrimaryMetric("loss", "min")

    def fit(self, data: RunData) -> None:
        """Check that there are people to be told apart.

        Raises:
            UsageError: One person makes no contrast.
        """
        n_people = len(data.parts["train"].participants) if "train" in data.parts else 0
        if n_people < _MIN_PAIRS:
            raise UsageError(
                f"contrastive pretraining needs {_MIN_PAIRS} people, {n_people} are in training",
                hint="give data of more people, or pretrain with ar or mim",
            )

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the loss of a batch, and the share of vectors whose partner is nearest."""
        is_local = self._contrast != "instance"
        # One pass: all vectors share the projection's batch statistics.
        views = [
            self.training_clip(batch, key=key, view=view)
            for view, key in enumerate(("clip", "pair") * (2 if is_local else 1))
        ]
        first, second, *again = self._project(model, views, batch["brain"])
        owners = torch.tensor([_number_of(name) for name in batch["participant"]])
        owners = owners.to(first.device)
        losses = []
        if self._contrast != "local":
            # Of several processes each tells its people apart from everybody's.
            kept = slice(0, 0) if batch.get("stand_in") else slice(None)
            losses.append(
                gathered_nt_xent(first[kept], second[kept], self._temperature, owners=owners[kept])
            )
        if is_local:
            losses.append(local_loss((first, second), (again[0], again[1]), self._temperature))
        nearest = (first @ second.T).argmax(1)
        return StepOutput(
            sum(losses, first.new_zeros(())),
            {"retrieval": float((owners[nearest] == owners).float().mean())},
        )

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return both vectors of each clip."""
        vectors = self._project(model, [batch["clip"], batch["pair"]], batch["brain"])
        first, second = (part.cpu().tolist() for part in vectors)
        return [
            {
                "participant": batch["participant"][i],
                "subject": batch["subject"][i],
                "start": batch["start"][i],
                "first": first[i],
                "second": second[i],
            }
            for i in range(len(first))
        ]

    def summarise(self, rows: Rows) -> Summary:
        """Return retrieval among all people of the part, beside chance.

        Each person's earliest clip is compared with the second clips of all.
        """
        chosen: dict[str, dict[str, Any]] = {}
        for row in sorted(rows, key=lambda row: (row["participant"], row["start"])):
            chosen.setdefault(row["participant"], row)
        people = list(chosen)
        first, second = (
            torch.tensor([chosen[name][key] for name in people], dtype=torch.float64)
            for key in ("first", "second")
        )
        nearest = (first @ second.T).argmax(1).numpy()
        hits = (nearest == np.arange(len(people))).astype(np.float64)
        loss = float(nt_xent(first, second, self._temperature))
        metrics = {"retrieval_top1": _mean_hit}
        return Summary(
            metrics={"loss": loss, "retrieval_top1": float(hits.mean())},
            ci95=bootstrap_ci({"hit": hits}, metrics),
            baselines={"chance": {"retrieval_top1": 1 / len(people)}},
            per_subject=[
                {"participant": who, "nearest": people[nearest[i]], "retrieval_top1": hits[i]}
                for i, who in enumerate(people)
            ],
            n=len(people),
        )

    @property
    def _temperature(self) -> float:
        return cast(FmriTaskBlock, self.config.task).temperature

    @property
    def _contrast(self) -> str:
        return cast(FmriTaskBlock, self.config.task).contrast

    def _project(
        self, model: nn.Module, clips: Sequence[Tensor], brain: Tensor
    ) -> tuple[Tensor, ...]:
        projected = model(torch.cat(list(clips)), torch.cat([brain] * len(clips)))["projected"]
        return cast(Tensor, projected).float().chunk(len(clips))


def local_loss(
    views: tuple[Tensor, Tensor], again: tuple[Tensor, Tensor], temperature: float
) -> Tensor:
    """Return the loss that tells the two clips of each person apart by other views of them.

    Args:
        views: Vectors (B, F) of the first and the second clip of each person.
        again: Vectors of other views of the same clips.
        temperature: Divides the similarities.

    Returns:
        NT-Xent over a person's two pairs, as a mean over persons (the family sums).
    """
    losses = [
        nt_xent(torch.stack(pair), torch.stack(other), temperature)
        for pair, other in zip(zip(*views, strict=True), zip(*again, strict=True), strict=True)
    ]
    return torch.stack(losses).mean()


def _number_of(name: str) -> int:
    """Return a number that means the same person in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())


def _mean_hit(columns: Columns) -> float:
    return float(columns["hit"].mean())
