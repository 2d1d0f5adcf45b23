"""Predicting a number: a unit's value is the mean over its clips, in the column's own unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from neurocli.core.engine.task import Batch, PrimaryMetric, Rows, RunData, StepOutput, Summary
from neurocli.core.errors import NeuroError
from neurocli.systems.fmri.judging import NUMBER_METRICS, per_unit
from neurocli.systems.fmri.supervised import SupervisedTask, cautions, train_targets, unit_word

if TYPE_CHECKING:
    from neurocli.systems.fmri.explain import Output


class RegressionTask(SupervisedTask):
    """Predict a number from a clip; the loss is in units of the training part's scaler.

    Attributes:
        mean: What "train_mean" predicts.
        shift: Subtracted from a target before training.
        scale: Divides it then.
    """

    mean: float = 0.0
    shift: float = 0.0
    scale: float = 1.0

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the mean absolute error over units in the column's unit, small is good."""
        return PrimaryMetric("mae", "min")

    @property
    def n_classes(self) -> int:
        """Return 0."""
        return 0

    def fit(self, data: RunData) -> None:
        """Fit the target's scaler on the training part, each unit counted once unless asked.

        Raises:
            NeuroError: All have one value.
        """
        values = train_targets(data, by_clip=self.settings.scale_by == "windows")
        if np.ptp(values) == 0:
            raise NeuroError(
                f"all {values.size} targets of the training part have the same value",
                where=f"--task {data.info['target']}",
                hint="a number that does not vary cannot be learned",
            )
        self.mean = float(values.mean())
        if self.settings.target_scaling == "minmax":
            self.shift, self.scale = float(values.min()), float(np.ptp(values))
        else:
            self.shift, self.scale = self.mean, float(values.std(ddof=1))

    def state_dict(self) -> dict[str, Any]:
        """Return the target's scaler and the training mean."""
        return {"mean": self.mean, "shift": self.shift, "scale": self.scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the scaler; states of older files hold `mean` and `sd`."""
        self.mean = float(state["mean"])
        self.shift = float(state.get("shift", self.mean))
        self.scale = float(state["scale"] if "scale" in state else state["sd"])

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the mean squared error of the scaled target."""
        predicted = model(self.training_clip(batch), batch["brain"])["logits"].float().squeeze(1)
        target = (batch["target"].float() - self.shift) / self.scale
        return StepOutput(functional.mse_loss(predicted, target))

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row per clip: its names, target and prediction in the column's unit."""
        scaled = model(batch["clip"], batch["brain"])["logits"].float().squeeze(1)
        return self.rows_of(batch, scaled.double().cpu().numpy() * self.scale + self.shift)

    def explained(self, model: nn.Module, batch: Batch) -> list[tuple[str, Output]]:
        """Explain the predicted number, in the column's own unit."""
        return [(str(self.settings.target), self._number)] * len(batch["clip"])

    def _number(self, model: nn.Module, clips: Tensor, brain: Tensor) -> Tensor:
        scaled = model(clips, brain)["logits"].float().squeeze(1)
        return cast(Tensor, scaled * self.scale + self.shift)

    def outputs(self, values: Any) -> dict[str, float]:
        """Return `predicted`."""
        return {"predicted": float(values)}

    def summarise(self, rows: Rows) -> Summary:
        """Return mse, mae, r2 and Pearson's r over units, beside the training mean."""
        found, mean = per_unit(rows, ["target", "predicted"])
        judged = found.with_columns(target=mean[:, 0], predicted=mean[:, 1])
        guess = judged.with_columns(predicted=np.full(len(judged.units), self.mean))
        return Summary(
            metrics=judged.measure(NUMBER_METRICS),
            ci95=judged.intervals(NUMBER_METRICS),
            baselines={"train_mean": guess.measure(NUMBER_METRICS)},
            baseline_ci95={"train_mean": guess.intervals(NUMBER_METRICS)},
            per_subject=[
                {**judged.names(i), "target": mean[i, 0], "predicted": mean[i, 1]}
                for i in range(len(judged.units))
            ],
            n=len(judged.units),
            unit=unit_word(judged),
            notes=cautions(judged),
        )
