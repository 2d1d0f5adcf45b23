"""Masked pretraining: some patches are hidden behind a learned token and have to be predicted.

Judged on the hidden brain patches only, beside each voxel's temporal mean over the frames of the
clip that the model does see. A causal model sees only what comes before a hidden patch;
`model.bidirectional` lets it see both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from neurocli.core.engine.pictures import KEY as PICTURE
from neurocli.core.engine.task import Batch, PrimaryMetric, Rows, StepOutput, Summary
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.nn.losses import LOSSES
from neurocli.core.nn.sequence_parallel import SequenceGroup
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.masking import draw_mask, mask_grid
from neurocli.systems.fmri.models.build import backbone_of
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.forecast import place_means
from neurocli.systems.fmri.reconstruction import hidden_picture
from neurocli.systems.fmri.task import Columns, FmriTask, ratio_of, sums_per_person

_SUMS = ("loss", "sse", "sse_mean", "sse_zero", "n")


class MimTask(FmriTask):
    """Predict the voxels of hidden patches from the others."""

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the loss over hidden voxels, small is good."""
        return PrimaryMetric("loss", "min")

    def build(self, info: Mapping[str, Any]) -> nn.Module:
        """Return the untrained model, once a mask could be drawn for it.

        Raises:
            UsageError: The mask patch does not fit the clip, or a mask would hide everything.
        """
        model = super().build(info)
        self._masks(backbone_of(model), [0])
        return model

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the loss over the hidden patches of a batch, and the skill for the log.

        Raises:
            NeuroError: No brain patch of the batch is hidden.
        """
        given = {**batch, "clip": self.training_clip(batch)}
        losses, difference, _, mean = self._hidden(model, given)
        group = backbone_of(model).sequence
        sums = _totals(group, difference.square(), mean.square())
        if not sums[-1]:
            raise NeuroError(
                "no brain patch of the batch is hidden, so there is nothing to predict",
                where="task.mask_ratio",
                hint="raise it, or use a smaller task.mask_patch_size",
            )
        skill = 1 - ratio_of(*sums[:2])
        return StepOutput(group.mean(losses), {"skill_vs_mean": skill}, terms=int(sums[-1]))

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row of sums over hidden voxels per clip."""
        rows: Rows = []
        group = backbone_of(model).sequence
        for i, name in enumerate(batch["participant"]):
            one = {"clip": batch["clip"][i : i + 1], "brain": batch["brain"][i : i + 1]}
            losses, difference, zero, mean = self._hidden(
                model, {**one, "draw": batch["draw"][i : i + 1]}
            )
            squares = (part.double().square() for part in (difference, mean, zero))
            loss, sse, sse_mean, sse_zero, n = _totals(group, losses.double(), *squares)
            rows.append(
                {
                    "participant": name,
                    "subject": batch["subject"][i],
                    "start": batch["start"][i],
                    "loss": loss,
                    "sse": sse,
                    "sse_mean": sse_mean,
                    "sse_zero": sse_zero,
                    "n": int(n),
                }
            )
            if self.n_pictures > 0:
                self.n_pictures -= 1
                rows[-1][PICTURE] = self._picture(
                    model, {**one, "draw": batch["draw"][i : i + 1]}, batch["subject"][i]
                )
        return rows

    def _picture(self, model: nn.Module, one: Batch, name: str) -> dict[str, Any]:
        """Return what was hidden of one clip, beside what was predicted."""
        backbone = backbone_of(model)
        masked = self._masks(backbone, one["draw"]).to(one["clip"].device)
        output: dict[str, Any] = model(one["clip"], one["brain"], masked=masked)
        index, hidden = output["token_index"], output["masked"][0]
        places = (index if index.ndim == 1 else index[0])[hidden]
        return hidden_picture(
            name, output["pred"][0][hidden], output["patches"][0][hidden], places, backbone
        )

    def summarise(self, rows: Rows) -> Summary:
        """Return loss and error of hidden patches, with baselines "temporal_mean" and "zero"."""
        people, sums = sums_per_person(rows, _SUMS)
        metrics = {"loss": _loss, "mse_masked": _mse, "skill_vs_mean": _skill}
        per_subject = [
            {
                "participant": who,
                **{
                    name: metric({key: column[i : i + 1] for key, column in sums.items()})
                    for name, metric in metrics.items()
                },
            }
            for i, who in enumerate(people)
        ]
        n = sums["n"].sum()
        return Summary(
            metrics={name: metric(sums) for name, metric in metrics.items()},
            ci95=bootstrap_ci(sums, metrics),
            baselines={
                "temporal_mean": {
                    "mse_masked": ratio_of(sums["sse_mean"].sum(), n),
                    "skill_vs_mean": 0.0,
                },
                "zero": {"mse_masked": ratio_of(sums["sse_zero"].sum(), n)},
            },
            per_subject=per_subject,
            n=len(people),
        )

    def _hidden(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return losses and errors (M,F) of the hidden patches: the model's, zero's, the mean's."""
        task, backbone = cast(FmriTaskBlock, self.config.task), backbone_of(model)
        masked = self._masks(backbone, batch["draw"]).to(batch["clip"].device)
        output: dict[str, Any] = model(batch["clip"], batch["brain"], masked=masked)
        hidden, patches = output["masked"], output["patches"]
        index, group = output["token_index"], backbone.sequence
        shown = ~hidden if group.size == 1 else ~hidden & output["own"]
        seen = place_means(patches, index, backbone.grid, seen=shown, group=group)
        wanted = patches[hidden]
        difference = output["pred"][hidden].to(wanted.dtype) - wanted
        losses = LOSSES[task.loss or "l1"](difference)
        return losses, difference.detach(), wanted, seen[hidden] - wanted

    def _masks(self, backbone: FMamba, draws: Sequence[int]) -> Tensor:
        """Draw the hidden tokens of clips (B,N)."""
        task = cast(FmriTaskBlock, self.config.task)
        counts, tokens = mask_grid(backbone.grid, backbone.patch_size, task.mask_patch_size)
        masks = [
            draw_mask(draw, counts, tokens, ratio=task.mask_ratio, kind=task.mask_type)
            for draw in draws
        ]
        return torch.from_numpy(np.stack(masks))


def _totals(group: SequenceGroup, *parts: Tensor) -> list[float]:
    """Return the sums of equally long parts over all processes, and then their length."""
    sums = [part.detach().sum().double() for part in parts]
    sums.append(sums[0].new_tensor(float(parts[0].numel())))
    return group.total(torch.stack(sums)).tolist()


def _loss(columns: Columns) -> float:
    return ratio_of(columns["loss"].sum(), columns["n"].sum())


def _mse(columns: Columns) -> float:
    return ratio_of(columns["sse"].sum(), columns["n"].sum())


def _skill(columns: Columns) -> float:
    return 1 - ratio_of(columns["sse"].sum(), columns["sse_mean"].sum())
