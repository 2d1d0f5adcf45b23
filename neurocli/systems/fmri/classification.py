"""Predicting a class: a unit's probabilities are the means over its clips."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn import functional

from neurocli.core.engine.task import Batch, PrimaryMetric, Rows, RunData, StepOutput, Summary
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.classification import confusion_matrix
from neurocli.systems.fmri.judging import CLASS_METRICS, Judged, choose_threshold, per_unit
from neurocli.systems.fmri.supervised import SupervisedTask, cautions, train_targets, unit_word

if TYPE_CHECKING:
    from neurocli.systems.fmri.explain import Output

_HALF = 0.5


class ClassificationTask(SupervisedTask):
    """Predict a class from a clip."""

    classes: tuple[str, ...] = ()
    train_shares: tuple[float, ...] = ()
    threshold: Mapping[str, Any] = {"value": _HALF, "rule": "half"}

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the log loss over units, small is good.

        Accuracy moves in steps of one person, so on a small validation part many epochs tie.
        """
        return PrimaryMetric("log_loss", "min")

    @property
    def n_classes(self) -> int:
        """Return K."""
        return len(self.classes)

    def fit(self, data: RunData) -> None:
        """Count the classes among the units of the training part.

        Raises:
            NeuroError: A class has nobody there.
        """
        self.classes = tuple(data.info["classes"])
        labels = train_targets(data).astype(int)
        counts = np.bincount(labels, minlength=len(self.classes))
        absent = [name for name, count in zip(self.classes, counts, strict=True) if not count]
        if absent:
            raise NeuroError(
                f"nobody of class {absent[0]} is in the training part",
                where=f"--task {data.info['target']}",
                hint="stratify the split: neuro split DATA --stratify COLUMN",
            )
        self.train_shares = tuple((counts / counts.sum()).tolist())

    def state_dict(self) -> dict[str, Any]:
        """Return class names and their shares in the training part."""
        return {"classes": list(self.classes), "train_shares": list(self.train_shares)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back class names and shares."""
        self.classes = tuple(state["classes"])
        self.train_shares = tuple(state["train_shares"])

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the cross entropy of a batch of clips, and its accuracy for the log."""
        logits = model(self.training_clip(batch), batch["brain"])["logits"].float()
        label = batch["target"].long()
        loss = functional.cross_entropy(
            logits, label, label_smoothing=self.settings.label_smoothing
        )
        return StepOutput(loss, {"accuracy": float((logits.argmax(1) == label).float().mean())})

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row per clip: its names, its label and the probability of each class."""
        probability = model(batch["clip"], batch["brain"])["logits"].float().softmax(1)
        return self.rows_of(batch, probability.cpu().numpy())

    def explained(self, model: nn.Module, batch: Batch) -> list[tuple[str, Output]]:
        """Explain the predicted class: its logit minus the mean of the other logits."""
        chosen = model(batch["clip"], batch["brain"])["logits"].argmax(1).tolist()
        return [(self.classes[k], partial(_margin, k)) for k in chosen]

    def is_rival(self, name: str, target: float) -> bool:
        """Tell whether a target is another class than the explained one."""
        return self.classes[int(target)] != name

    def outputs(self, values: Any) -> dict[str, float]:
        """Return `p_<class>` of each class."""
        return {f"p_{name}": float(values[k]) for k, name in enumerate(self.classes)}

    @property
    def needs_validation(self) -> bool:
        """Return whether the threshold is to be chosen."""
        return self.settings.threshold == "validation" and len(self.classes) == 2

    def tune(self, rows: Rows | None) -> list[str]:
        """Choose the threshold on the validation part.

        Args:
            rows: Its rows; None when there is none.

        Returns:
            What was chosen, or why 0.5 stays.
        """
        columns = self._judged(rows, _HALF).columns if rows else {}
        target = columns.get("target", np.zeros(0, dtype=np.int64))
        if len(set(target.tolist())) < 2:
            reason = "it holds one class" if rows else "there is none"
            return [f"the threshold stays at {_HALF}, not chosen on a validation part: {reason}"]
        value = choose_threshold(target, columns["score"][:, 1])
        self.threshold = {"value": value, "rule": "validation", "n": len(target)}
        return [f"threshold {value:.3g} chosen on {len(target)} units of the validation part"]

    def summarise(self, rows: Rows) -> Summary:
        """Return accuracies, AUROC and log loss over units, beside the majority class.

        The majority's probabilities are the shares in the training part, its class the largest.
        """
        return self._summary(rows, self.threshold["value"])

    def summarise_baseline(self, rows: Rows) -> Summary:
        """Return the same with the usual threshold: the chosen one is the model's alone."""
        return self._summary(rows, _HALF)

    def _judged(self, rows: Rows, threshold: float) -> Judged:
        judged, mean = per_unit(rows, ["target", *(f"p_{name}" for name in self.classes)])
        return judged.with_columns(
            target=mean[:, 0].astype(np.int64),
            score=mean[:, 1:],
            predicted=_predicted(mean[:, 1:], threshold),
        )

    def _summary(self, rows: Rows, threshold: float) -> Summary:
        judged = self._judged(rows, threshold)
        columns = judged.columns
        shares = np.tile(np.array(self.train_shares), (len(judged.units), 1))
        majority = judged.with_columns(score=shares, predicted=_predicted(shares, _HALF))
        present = set(columns["target"].tolist())
        absent = [name for k, name in enumerate(self.classes) if k not in present]
        notes = [f"auroc is undefined: nobody of class {absent[0]} is judged"] if absent else []
        counts = confusion_matrix(
            columns["target"], columns["predicted"], n_classes=len(self.classes)
        )
        return Summary(
            metrics=judged.measure(CLASS_METRICS),
            ci95=judged.intervals(CLASS_METRICS),
            baselines={"majority": majority.measure(CLASS_METRICS)},
            baseline_ci95={"majority": majority.intervals(CLASS_METRICS)},
            per_subject=self._table(judged),
            n=len(judged.units),
            unit=unit_word(judged),
            details={
                "confusion": {"classes": list(self.classes), "counts": counts.tolist()},
                "threshold": dict(self.threshold),
            },
            notes=notes + cautions(judged),
        )

    def _table(self, judged: Judged) -> Rows:
        columns = judged.columns
        return [
            {
                **judged.names(i),
                "target": self.classes[columns["target"][i]],
                "predicted": self.classes[columns["predicted"][i]],
                **self.outputs(columns["score"][i]),
            }
            for i in range(len(judged.units))
        ]


def _margin(k: int, model: nn.Module, clips: Tensor, brain: Tensor) -> Tensor:
    logits = model(clips, brain)["logits"].float()
    others = [other for other in range(logits.shape[1]) if other != k]
    return cast(Tensor, logits[:, k] - logits[:, others].mean(1))


def _predicted(score_UK: npt.NDArray[np.float64], threshold: float) -> npt.NDArray[np.int64]:
    if score_UK.shape[1] == 2:
        return np.asarray(score_UK[:, 1] > threshold, dtype=np.int64)
    return np.asarray(score_UK.argmax(1), dtype=np.int64)
