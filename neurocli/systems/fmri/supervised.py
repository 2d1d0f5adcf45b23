"""Supervised objectives: a class of the person, a number of the person.

Clips are judged per person: a class by the mean probability over the person's clips, a number by
the mean prediction. Every summary carries a baseline on the same people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from torch import nn
from torch.nn import functional

from neurocli.core.engine.task import Batch, PrimaryMetric, Rows, RunData, StepOutput, Summary
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.classification import accuracy, auroc, balanced_accuracy
from neurocli.core.metrics.regression import mae, mse, pearson, r2
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.task import FmriTask

_FLOOR = 1e-7  # a probability of 0 would make the log loss of one person infinite
Columns = Mapping[str, Any]


class ClassificationTask(FmriTask):
    """Predict a class of the person from a clip."""

    classes: tuple[str, ...] = ()
    train_shares: tuple[float, ...] = ()

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the log loss over people, small is good.

        Accuracy moves in steps of one person, so on a small validation part many epochs tie.
        """
        return PrimaryMetric("log_loss", "min")

    def fit(self, data: RunData) -> None:
        """Count the classes among the people of the training part.

        Raises:
            NeuroError: A class has nobody there.
        """
        self.classes = tuple(data.info["classes"])
        labels = _train_targets(data).astype(int)
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
        logits = model(batch["clip"], batch["brain"])["logits"].float()
        label = batch["target"].long()
        smoothing = cast(FmriTaskBlock, self.config.task).label_smoothing
        loss = functional.cross_entropy(logits, label, label_smoothing=smoothing)
        return StepOutput(loss, {"accuracy": float((logits.argmax(1) == label).float().mean())})

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row per clip: its names, its label and the probability of each class."""
        probability = model(batch["clip"], batch["brain"])["logits"].float().softmax(1)
        return [
            {
                "participant": batch["participant"][i],
                "subject": batch["subject"][i],
                "start": batch["start"][i],
                "target": int(batch["target"][i]),
                **{f"p_{name}": float(probability[i, k]) for k, name in enumerate(self.classes)},
            }
            for i in range(len(probability))
        ]

    def summarise(self, rows: Rows) -> Summary:
        """Return accuracies, AUROC and log loss over people, beside the majority class.

        The majority's probabilities are the shares in the training part, its class the largest.
        """
        people, mean = _per_person(rows, ["target", *(f"p_{name}" for name in self.classes)])
        columns = {"target": mean[:, 0].astype(int), "score": mean[:, 1:]}
        guess = {**columns, "score": np.tile(np.array(self.train_shares), (len(people), 1))}
        metrics = {
            "accuracy": _accuracy,
            "balanced_accuracy": _balanced_accuracy,
            "auroc": _auroc,
            "log_loss": _log_loss,
        }
        predicted = columns["score"].argmax(1)
        per_subject = [
            {
                "participant": who,
                "n_clips": sum(row["participant"] == who for row in rows),
                "target": self.classes[columns["target"][i]],
                "predicted": self.classes[predicted[i]],
                **{f"p_{name}": columns["score"][i, k] for k, name in enumerate(self.classes)},
            }
            for i, who in enumerate(people)
        ]
        return Summary(
            metrics={name: metric(columns) for name, metric in metrics.items()},
            ci95=bootstrap_ci(columns, metrics),
            baselines={"majority": {name: metric(guess) for name, metric in metrics.items()}},
            per_subject=per_subject,
            n=len(people),
        )


class RegressionTask(FmriTask):
    """Predict a number of the person from a clip; the loss is in SD of the training people."""

    mean: float = 0.0
    sd: float = 1.0

    @property
    def primary_metric(self) -> PrimaryMetric:
        """Return the mean absolute error over people in the column's unit, small is good."""
        return PrimaryMetric("mae", "min")

    def fit(self, data: RunData) -> None:
        """Fit the target's scaler on the people of the training part, each counted once.

        Raises:
            NeuroError: All have one value.
        """
        values = _train_targets(data)
        self.mean = float(values.mean())
        self.sd = float(values.std(ddof=1)) if values.size > 1 else 0.0
        if not self.sd > 0:
            raise NeuroError(
                f"all {values.size} people of the training part have the same value",
                where=f"--task {data.info['target']}",
                hint="a number that does not vary cannot be learned",
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the target's scaler."""
        return {"mean": self.mean, "sd": self.sd}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back the target's scaler."""
        self.mean, self.sd = float(state["mean"]), float(state["sd"])

    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the mean squared error of the scaled target."""
        predicted = model(batch["clip"], batch["brain"])["logits"].float().squeeze(1)
        target = (batch["target"].float() - self.mean) / self.sd
        return StepOutput(functional.mse_loss(predicted, target))

    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row per clip: its names, target and prediction in the column's unit."""
        predicted = model(batch["clip"], batch["brain"])["logits"].float().squeeze(1)
        return [
            {
                "participant": batch["participant"][i],
                "subject": batch["subject"][i],
                "start": batch["start"][i],
                "target": float(batch["target"][i]),
                "predicted": float(predicted[i]) * self.sd + self.mean,
            }
            for i in range(len(predicted))
        ]

    def summarise(self, rows: Rows) -> Summary:
        """Return mse, mae, r2 and Pearson's r over people, beside the training mean."""
        people, mean = _per_person(rows, ["target", "predicted"])
        columns = {"target": mean[:, 0], "predicted": mean[:, 1]}
        guess = {"target": mean[:, 0], "predicted": np.full(len(people), self.mean)}
        metrics = {"mse": _mse, "mae": _mae, "r2": _r2, "pearson": _pearson}
        per_subject = [
            {"participant": who, "target": mean[i, 0], "predicted": mean[i, 1]}
            for i, who in enumerate(people)
        ]
        return Summary(
            metrics={name: metric(columns) for name, metric in metrics.items()},
            ci95=bootstrap_ci(columns, metrics),
            baselines={"train_mean": {name: metric(guess) for name, metric in metrics.items()}},
            per_subject=per_subject,
            n=len(people),
        )


def _accuracy(columns: Columns) -> float:
    return accuracy(columns["target"], columns["score"].argmax(1))


def _balanced_accuracy(columns: Columns) -> float:
    return balanced_accuracy(columns["target"], columns["score"].argmax(1))


def _auroc(columns: Columns) -> float:
    score = columns["score"]
    return auroc(columns["target"], score[:, 1] if score.shape[1] == 2 else score)


def _log_loss(columns: Columns) -> float:
    score, target = columns["score"], columns["target"]
    return float(-np.log(np.maximum(score[np.arange(len(target)), target], _FLOOR)).mean())


def _mse(columns: Columns) -> float:
    return mse(columns["target"], columns["predicted"])


def _mae(columns: Columns) -> float:
    return mae(columns["target"], columns["predicted"])


def _r2(columns: Columns) -> float:
    return r2(columns["target"], columns["predicted"])


def _pearson(columns: Columns) -> float:
    return pearson(columns["target"], columns["predicted"])


def _per_person(rows: Rows, keys: list[str]) -> tuple[list[str], np.ndarray]:
    people = sorted({row["participant"] for row in rows})
    values = [
        np.mean([[row[key] for key in keys] for row in rows if row["participant"] == who], axis=0)
        for who in people
    ]
    return people, np.array(values)


def _train_targets(data: RunData) -> np.ndarray:
    samples = cast(ClipSet, data.parts["train"])
    assert samples.targets is not None
    return np.array([samples.targets[who] for who in samples.participants], dtype=np.float64)
