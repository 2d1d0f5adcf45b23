"""What FMamba learns without labels: the next token of a clip.

Every summary carries baselines on the same people, because a figure alone says nothing. What all
objectives of the room share, the start from another run's weights, is here too.

Letters: B clips, K kept tokens, F voxels of a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from neurocli.core.engine.pictures import KEY as PICTURE
from neurocli.core.engine.task import (
    Batch,
    PrimaryMetric,
    Rows,
    StepOutput,
    Summary,
    Task,
)
from neurocli.core.engine.weights import listed, load_weights
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.systems.fmri.augment import augment_clips
from neurocli.systems.fmri.config import FmriDataBlock, FmriTaskBlock
from neurocli.systems.fmri.models.build import backbone_of
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.forecast import (
    forecast_space,
    n_targets,
    next_token_loss,
    same_place_persistence,
)
from neurocli.systems.fmri.models.head_parts import mean_token
from neurocli.systems.fmri.models.shares import counted
from neurocli.systems.fmri.reconstruction import next_picture

_SUMS = ("sum_all", "sum_zero", "n_all", "sse_model", "sse_persistence", "n_compared")
_VIEW_STEP = 0x1E3779B97F4A7C15  # an odd word: views of one draw share no seed
Columns = Mapping[str, Any]
# Output layers belong to one objective and are never carried over to another.
_OWN_LAYERS = ("output_layer.", "output_head.", "head.", "embedder.mask_token")


class FmriTask(Task):
    """Share what all objectives of the room do."""

    def training_clip(self, batch: Batch, *, key: str = "clip", view: int = 0) -> Tensor:
        """Return the clips of a batch as they are trained on: augmented where asked.

        Args:
            batch: With the clips, `brain` and `draw`.
            key: Which clips.
            view: Number of the view; each is drawn anew.
        """
        data = cast(FmriDataBlock, self.config.data)
        clip = cast(Tensor, batch[key])
        if data.augment == "none":
            return clip
        draws = [draw ^ (view * _VIEW_STEP) for draw in batch["draw"]]
        return augment_clips(
            clip, batch["brain"], draws, kind=data.augment, strength=data.augment_strength
        )

    def embed_step(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean token of each clip after the backbone's last norm, (B, E) float32."""
        backbone = backbone_of(model)
        output, group = backbone(batch["clip"], batch["brain"]), backbone.sequence
        return mean_token(output["features"], counted(output, group), group=group).float()

    def init_from(self, model: nn.Module, weights: Mapping[str, Tensor]) -> str:
        """Start the backbone of `model` from weights of any model of this family.

        Args:
            model: An FMamba, with or without a head.
            weights: Tensors by official name; output layers and heads in them are not taken.

        Returns:
            One sentence: what was taken and what was not.

        Raises:
            NeuroError: A tensor of the backbone is missing or has another shape.
        """
        backbone = backbone_of(model)
        # A checkpoint of a model with a head keeps its backbone under `model.`.
        weights = {key.removeprefix("model."): value for key, value in weights.items()}
        weights = backbone.fitted(weights)
        own = backbone.state_dict()
        wanted = [key for key in own if not key.startswith(_OWN_LAYERS)]
        # Between objectives that predict patches, what both have is taken too.
        if isinstance(model, FMamba) and "output_layer.weight" in weights:
            wanted += [key for key in own if key.startswith(_OWN_LAYERS) and key in weights]
        missing = [key for key in wanted if key not in weights]
        if missing:
            raise NeuroError(
                f"{listed('missing', missing)} of {len(wanted)} backbone tensors; the names given "
                f"begin with {next(iter(weights), 'none')}",
                where="--init-from",
                hint="name a checkpoint of the fmamba family with the same depth",
            )
        chosen = own | {key: weights[key] for key in wanted}
        load_weights(backbone, chosen, label="--init-from")
        # The model's own names, so that a head's tensors count as missing.
        new = [key for key in model.state_dict() if key.removeprefix("model.") not in wanted]
        unused = [key for key in weights if key not in wanted]
        return f"{len(wanted)} tensors loaded, {listed('missing', new)}, " + listed(
            "unexpected", unused
        )


class ArTask(FmriTask):
    """Predict the voxels of the next kept token from all tokens before it."""

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the loss over all targets, small is good."""
        return PrimaryMetric("loss", "min")

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the next-token loss of a batch, and its skill over persistence for the log."""
        task = cast(FmriTaskBlock, self.config.task)
        given = {**batch, "clip": self.training_clip(batch)}
        pred, patches, index, n_times = self._forecast(model, given)
        options: dict[str, Any] = {"jumps": task.place_jumps, "n_times": n_times}
        group = backbone_of(model).sequence
        loss = next_token_loss(pred, patches, index, loss=self._loss, group=group, **options)
        sums = same_place_persistence(pred, patches, index, n_times, group=group)
        terms = n_targets(index, len(pred), group=group, **options)
        return StepOutput(loss, {"skill_vs_persistence": sums.skill}, terms=terms)

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row of error sums per clip; they add up over clips and people."""
        task = cast(FmriTaskBlock, self.config.task)
        preds, all_patches, index, n_times = self._forecast(model, batch)
        group = backbone_of(model).sequence
        rows: Rows = []
        for i, name in enumerate(batch["participant"]):
            own = index if index.ndim == 1 else index[i][index[i] >= 0]
            pred = preds[i : i + 1, : own.numel()]
            patches = all_patches[i : i + 1, : own.numel()]
            sums = same_place_persistence(pred, patches, own, n_times, group=group)
            options: dict[str, Any] = {"jumps": task.place_jumps, "n_times": n_times}
            options |= {"loss": self._loss, "group": group}
            rows.append(
                {
                    "participant": name,
                    "subject": batch["subject"][i],
                    "start": batch["start"][i],
                    "loss": float(next_token_loss(pred, patches, own, **options)),
                    "loss_zero": float(
                        next_token_loss(torch.zeros_like(pred), patches, own, **options)
                    ),
                    "n_all": sums.n_all,
                    "sse_model": sums.sse_model,
                    "sse_persistence": sums.sse_persistence,
                    "n_compared": sums.n_compared,
                }
            )
            if self.n_pictures > 0:
                self.n_pictures -= 1
                told = (batch["subject"][i], pred[0], patches[0], own, backbone_of(model))
                rows[-1][PICTURE] = next_picture(*told)
        return rows

    @property
    def _loss(self) -> str:
        return cast(FmriTaskBlock, self.config.task).loss or "mse"

    def _forecast(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, int]:
        """Return predictions and patches in one space, the tokens' places, and times of a place."""
        output, backbone = model(batch["clip"], batch["brain"]), backbone_of(model)
        index, grid, group = output["token_index"], backbone.grid, backbone.sequence
        target = cast(FmriTaskBlock, self.config.task).ar_target
        own = None if group.size == 1 else output["own"]
        pred, patches = forecast_space(
            output["pred"], output["patches"], index, target=target, grid=grid, own=own, group=group
        )
        return pred, patches, index, grid[3]

    def summarise(self, rows: Rows) -> Summary:
        """Return loss and skill over persistence, with the baselines "persistence" and "zero".

        "zero" predicts 0 everywhere: with per-voxel z that is each voxel's temporal mean.
        """
        weights = [{**row, "sum_all": row["loss"] * row["n_all"]} for row in rows]
        weights = [{**row, "sum_zero": row["loss_zero"] * row["n_all"]} for row in weights]
        people, sums = sums_per_person(weights, _SUMS)
        metrics = {"loss": _pooled_loss, "skill_vs_persistence": _pooled_skill}
        per_subject = [
            {
                "participant": who,
                "n_clips": sum(row["participant"] == who for row in rows),
                "loss": ratio_of(sums["sum_all"][i], sums["n_all"][i]),
                "skill_vs_persistence": 1
                - ratio_of(sums["sse_model"][i], sums["sse_persistence"][i]),
            }
            for i, who in enumerate(people)
        ]
        compared = sums["n_compared"].sum()
        return Summary(
            metrics={
                **{name: metric(sums) for name, metric in metrics.items()},
                "loss_same_place": ratio_of(sums["sse_model"].sum(), compared),
            },
            ci95=bootstrap_ci(sums, metrics),
            baselines={
                "persistence": {
                    "loss_same_place": ratio_of(sums["sse_persistence"].sum(), compared),
                    "skill_vs_persistence": 0.0,
                },
                "zero": {"loss": ratio_of(sums["sum_zero"].sum(), sums["n_all"].sum())},
            },
            per_subject=per_subject,
            n=len(people),
        )


def sums_per_person(rows: Rows, keys: Sequence[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Add up columns of rows for each participant.

    Args:
        rows: Rows with `participant` and the columns.
        keys: Names of the columns.

    Returns:
        Participants in order of their names, and (S,) float64 by column.
    """
    people = sorted({row["participant"] for row in rows})
    place = {name: number for number, name in enumerate(people)}
    sums = {key: np.zeros(len(people)) for key in keys}
    for row in rows:
        for key in keys:
            sums[key][place[row["participant"]]] += row[key]
    return people, sums


def _pooled_loss(columns: Columns) -> float:
    return ratio_of(columns["sum_all"].sum(), columns["n_all"].sum())


def _pooled_skill(columns: Columns) -> float:
    return 1 - ratio_of(columns["sse_model"].sum(), columns["sse_persistence"].sum())


def ratio_of(part: float, whole: float) -> float:
    """Return part / whole, NaN where the whole is 0."""
    return float(part / whole) if whole else float("nan")
