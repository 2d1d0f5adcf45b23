"""What FMamba learns without labels: the next token of a clip.

Every summary carries baselines on the same people, because a figure alone says nothing. What all
objectives of the room share, the start from another run's weights, is here too.

Letters: B clips, K kept tokens, F voxels of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from neurocli.core.engine.task import (
    Batch,
    PrimaryMetric,
    Rows,
    StepOutput,
    Summary,
    Task,
)
from neurocli.core.engine.weights import load_weights
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.systems.fmri.models.build import backbone_of
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.forecast import next_token_loss, same_place_persistence

_SUMS = ("sse_all", "n_all", "sse_model", "sse_persistence", "n_compared", "sse_zero")
Columns = Mapping[str, Any]
# Output layers belong to one objective and are never carried over to another.
_OWN_LAYERS = ("output_layer.", "output_head.", "head.")


class FmriTask(Task):
    """Share what all objectives of the room do."""

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
        wanted = [key for key in backbone.state_dict() if not key.startswith(_OWN_LAYERS)]
        same_objective = isinstance(model, FMamba) and "output_layer.weight" in weights
        if same_objective:
            wanted = list(backbone.state_dict())
        missing = [key for key in wanted if key not in weights]
        if missing:
            raise NeuroError(
                f"{len(missing)} of {len(wanted)} backbone tensors are missing, first {missing[0]}",
                where="--init-from",
                hint="name a checkpoint of the fmamba family with the same depth",
            )
        chosen = {key: weights[key] for key in wanted}
        if not same_objective:
            kept = {key: value for key, value in backbone.state_dict().items() if key not in chosen}
            chosen |= kept
        load_weights(backbone, chosen, label="--init-from")
        unused = [key for key in weights if key not in wanted]
        return f"{len(wanted)} backbone tensors were taken, {len(unused)} of other layers were not"


class ArTask(FmriTask):
    """Predict the voxels of the next kept token from all tokens before it."""

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the mean squared error over all targets, small is good."""
        return PrimaryMetric("loss", "min")

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the next-token loss of a batch, and its skill over persistence for the log."""
        output = model(batch["clip"], batch["brain"])
        loss = next_token_loss(output["pred"], output["patches"], output["token_index"])
        n_times = cast(FMamba, model).grid[3]
        sums = same_place_persistence(
            output["pred"], output["patches"], output["token_index"], n_times
        )
        return StepOutput(loss, {"skill_vs_persistence": sums.skill})

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row of squared-error sums per clip; they add up over clips and people."""
        output = model(batch["clip"], batch["brain"])
        n_times = cast(FMamba, model).grid[3]
        index = output["token_index"]
        rows: Rows = []
        for i, name in enumerate(batch["participant"]):
            own = index if index.ndim == 1 else index[i][index[i] >= 0]
            pred = output["pred"][i : i + 1, : own.numel()]
            patches = output["patches"][i : i + 1, : own.numel()]
            sums = same_place_persistence(pred, patches, own, n_times)
            rows.append(
                {
                    "participant": name,
                    "subject": batch["subject"][i],
                    "start": batch["start"][i],
                    "sse_all": sums.sse_all,
                    "n_all": sums.n_all,
                    "sse_model": sums.sse_model,
                    "sse_persistence": sums.sse_persistence,
                    "n_compared": sums.n_compared,
                    "sse_zero": float(patches[:, 1:].double().square().sum()),
                }
            )
        return rows

    def summarise(self, rows: Rows) -> Summary:
        """Return loss and skill over persistence, with the baselines "persistence" and "zero".

        "zero" predicts 0 everywhere: with per-voxel z that is each voxel's temporal mean.
        """
        people = sorted({row["participant"] for row in rows})
        sums = {
            key: np.array(
                [sum(row[key] for row in rows if row["participant"] == who) for who in people],
                dtype=np.float64,
            )
            for key in (
                "sse_all",
                "n_all",
                "sse_model",
                "sse_persistence",
                "n_compared",
                "sse_zero",
            )
        }
        metrics = {"loss": _pooled_loss, "skill_vs_persistence": _pooled_skill}
        per_subject = [
            {
                "participant": who,
                "n_clips": sum(row["participant"] == who for row in rows),
                "loss": _ratio(sums["sse_all"][i], sums["n_all"][i]),
                "skill_vs_persistence": 1
                - _ratio(sums["sse_model"][i], sums["sse_persistence"][i]),
            }
            for i, who in enumerate(people)
        ]
        compared = sums["n_compared"].sum()
        return Summary(
            metrics={
                **{name: metric(sums) for name, metric in metrics.items()},
                "loss_same_place": _ratio(sums["sse_model"].sum(), compared),
            },
            ci95=bootstrap_ci(sums, metrics),
            baselines={
                "persistence": {
                    "loss_same_place": _ratio(sums["sse_persistence"].sum(), compared),
                    "skill_vs_persistence": 0.0,
                },
                "zero": {"loss": _ratio(sums["sse_zero"].sum(), sums["n_all"].sum())},
            },
            per_subject=per_subject,
            n=len(people),
        )


def _pooled_loss(columns: Columns) -> float:
    return _ratio(columns["sse_all"].sum(), columns["n_all"].sum())


def _pooled_skill(columns: Columns) -> float:
    return 1 - _ratio(columns["sse_model"].sum(), columns["sse_persistence"].sum())


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
