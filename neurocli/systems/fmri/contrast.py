"""Contrastive pretraining: two clips of a person belong together, clips of others do not.

The second clip is drawn from the same run, outside the first. Clips of one person that meet in a
batch are never told apart. Judged by retrieval: whose second clip is nearest to a person's first.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.task import Batch, PrimaryMetric, Rows, RunData, StepOutput, Summary
from neurocli.core.errors import UsageError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.nn.contrastive import nt_xent
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.task import Columns, FmriTask

_MIN_PAIRS = 2


class ContrastiveTask(FmriTask):
    """Bring the vectors of a person's clips together and those of others apart (NT-Xent).

    Args:
        config: The run's configuration.

    Raises:
        UsageError: A batch of one clip has nothing to be told from.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
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
        first, second = self._vectors(model, batch)
        names = list(dict.fromkeys(batch["participant"]))
        owners = torch.tensor([names.index(name) for name in batch["participant"]])
        owners = owners.to(first.device)
        loss = nt_xent(first, second, self._temperature, owners=owners)
        nearest = (first @ second.T).argmax(1)
        return StepOutput(loss, {"retrieval": float((owners[nearest] == owners).float().mean())})

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return both vectors of each clip."""
        first, second = (part.float().cpu().tolist() for part in self._vectors(model, batch))
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

    def _vectors(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        clips = torch.cat([batch["clip"], batch["pair"]])
        projected = model(clips, torch.cat([batch["brain"], batch["brain"]]))["projected"]
        first, second = projected.float().chunk(2)
        return first, second


def _mean_hit(columns: Columns) -> float:
    return float(columns["hit"].mean())
