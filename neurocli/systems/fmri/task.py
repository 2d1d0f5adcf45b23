"""What FMamba learns: the next token of a clip, a class of its person, a number of its person.

Clips are judged per person: a class by the mean probability over the person's clips, a number by
the mean prediction. Every summary carries baselines on the same people, because a figure alone
says nothing.

Letters: B clips, K kept tokens, F voxels of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from neurocli.core.engine.task import (
    Batch,
    PrimaryMetric,
    Rows,
    RunData,
    StepOutput,
    Summary,
    Task,
)
from neurocli.core.engine.weights import load_weights
from neurocli.core.errors import NeuroError
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.classification import accuracy, auroc, balanced_accuracy
from neurocli.core.metrics.regression import mae, mse, pearson, r2
from neurocli.systems.fmri.clips import ClipSet
from neurocli.systems.fmri.config import FmriTaskBlock
from neurocli.systems.fmri.models.build import backbone_of
from neurocli.systems.fmri.models.fmamba import FMamba
from neurocli.systems.fmri.models.forecast import next_token_loss, same_place_persistence

_SUMS = ("sse_all", "n_all", "sse_model", "sse_persistence", "n_compared", "sse_zero")
_FLOOR = 1e-7  # a probability of 0 would make the log loss of one person infinite
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
        """Count the classes among the people of the training part."""
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
        """Fit the target's scaler on the people of the training part, each counted once."""
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


Columns = Mapping[str, Any]


def _pooled_loss(columns: Columns) -> float:
    return _ratio(columns["sse_all"].sum(), columns["n_all"].sum())


def _pooled_skill(columns: Columns) -> float:
    return 1 - _ratio(columns["sse_model"].sum(), columns["sse_persistence"].sum())


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


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


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
