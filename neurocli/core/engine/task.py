"""The one seam between the training loop and a room: `Task` owns the maths, the loop owns time.

A room opens its data as `RunData`; a task builds a model for it, turns a batch into a loss, turns
a batch into rows, and turns all rows of a part into metrics. Nothing here knows a room.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy.typing as npt
import torch
from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.rebuild import build_model
from neurocli.core.engine.weights import load_weights
from neurocli.core.errors import UsageError
from neurocli.core.events import Listener

# "rest" holds people whom a split does not name; only `evaluate --part all` reads it.
Part = Literal["train", "val", "test", "rest"]
Batch = Mapping[str, Any]
Rows = list[dict[str, Any]]


class SampleSet(Protocol):
    """Hold the samples of one part; a sample is a function of (index, epoch), never of a worker."""

    def __len__(self) -> int:
        """Return how many samples there are."""
        ...

    @property
    def participants(self) -> list[str]:
        """Return the participants, each once."""
        ...

    def sample(self, index: int, epoch: int) -> dict[str, Any]:
        """Return one sample; `epoch` only steers augmentation."""
        ...

    def collate(self, samples: Sequence[dict[str, Any]]) -> Batch:
        """Return one batch of tensors and plain lists.

        A set whose batches are no sum of their samples, as with draws for a whole batch, also has
        `collate_share(samples, own)`: it is given all samples and the slice of this process.
        """
        ...


@dataclass(frozen=True)
class RunData:
    """Hold opened data of one run.

    Args:
        objective: Name of the room's task row that fits the data and the configuration.
        parts: Sample sets by part; a part without samples is absent.
        info: Plain values that building the model needs (grid, classes); kept in the checkpoint.
        split: Participants by part.
        split_sha256: Hash of the split, to notice another one on resume.
        fingerprint: Hash of what was read, to notice other data on resume.
        built_in_data: Whether the built-in cohort stands in for the user's data.
        left_out: (name, reason) of everything that was found and not used.
        notes: Sentences the user should read.
        sites: Participant -> where they were measured, as far as known.
        datasets: Participant -> which of several joined datasets they are of; empty for one.
        drawn: The training part as an epoch draws it, where that is not each sample once.
    """

    objective: str
    parts: Mapping[Part, SampleSet]
    info: Mapping[str, Any]
    split: Mapping[str, list[str]]
    split_sha256: str
    fingerprint: str
    built_in_data: bool = False
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sites: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    drawn: SampleSet | None = None


@dataclass(frozen=True)
class PrimaryMetric:
    """Name the metric that chooses the best checkpoint, and its good direction."""

    name: str
    mode: Literal["min", "max"]

    def is_better(self, value: float, than: float | None) -> bool:
        """Return whether `value` beats `than`; NaN never does, anything beats None."""
        if than is None or value != value:
            return value == value
        return value < than if self.mode == "min" else value > than


@dataclass(frozen=True)
class Summary:
    """Hold the judgement of one part.

    Args:
        metrics: Name -> value.
        ci95: Name -> (low, high) by bootstrap over participants; absent where undefined.
        baselines: Baseline name -> its metrics on the same rows.
        per_subject: One row of plain values per unit, the owner under `participant`.
        n: Units judged.
        baseline_ci95: Baseline name -> its intervals from the same resamples.
        unit: Plural of what was judged.
        details: Plain values that only this objective has, such as a confusion matrix.
        notes: Sentences the user should read.
        arrays: Name -> array that is kept under `embeddings/` as `<name>.npy`.
    """

    metrics: Mapping[str, float]
    ci95: Mapping[str, tuple[float, float]]
    baselines: Mapping[str, Mapping[str, float]]
    per_subject: Rows
    n: int
    baseline_ci95: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    unit: str = "subjects"
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class BaselineRows:
    """Hold rows as `Task.eval_step` gives them, from plain methods instead of the model.

    Args:
        rows: Baseline name -> its rows on what is judged.
        notes: How they were made, and why one is missing.
    """

    rows: Mapping[str, Rows] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Explainer(Protocol):
    """Explain outputs batch by batch, then write maps and tables."""

    def step(self, model: nn.Module, batch: Batch) -> None:
        """Explain the samples of a batch."""
        ...

    def write(self, folder: Path) -> list[str]:
        """Write what was found into a folder; return sentences the user should read."""
        ...


@dataclass(frozen=True)
class StepOutput:
    """Hold the result of one training step.

    Args:
        loss: Scalar with gradient.
        logs: Scalars to log.
        terms: Of how many equal terms the loss is the mean, where samples have unlike numbers;
            None when it is a mean over samples. A task gives it always or never.
    """

    loss: torch.Tensor
    logs: Mapping[str, float] = field(default_factory=dict)
    terms: int | None = None


class Task(ABC):
    """Own the maths of one objective.

    Args:
        config: The run's configuration.

    Attributes:
        n_pictures: How many more rows of `eval_step` may carry small arrays under `picture`, name
            -> array, for a report; none unless a judgement asks.
    """

    n_pictures: int = 0

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def primary_metric(self) -> PrimaryMetric:
        """Return the metric that chooses the best checkpoint."""

    def build(self, info: Mapping[str, Any]) -> nn.Module:
        """Return the untrained model for data described by `RunData.info`."""
        return build_model(self.config, info)

    def fit(self, data: RunData) -> None:
        """Learn what the task itself needs of the training part (target scaler, class shares)."""
        del data  # most objectives need nothing

    @abstractmethod
    def train_step(self, model: nn.Module, batch: Batch) -> StepOutput:
        """Return the loss of one batch."""

    @property
    def starts_trained(self) -> bool:
        """Return whether the first weights are a result that training has to beat."""
        return False

    @property
    def joins_batches(self) -> bool:
        """Return whether a loss over all samples of a step is no mean over its batches'."""
        return False

    def join(self, batches: Sequence[Batch]) -> Batch:
        """Return one batch of the batches of a step; asked for where `joins_batches`.

        Raises:
            NotImplementedError: The task does not say how.
        """
        raise NotImplementedError(f"{type(self).__name__} joins {len(batches)} batches")

    @property
    def mixes_samples(self) -> bool:
        """Return whether no process may be without a sample of a batch, as in batch statistics."""
        return False

    @abstractmethod
    def eval_step(self, model: nn.Module, batch: Batch) -> Rows:
        """Return one row of plain values per sample of the batch."""

    @abstractmethod
    def summarise(self, rows: Rows) -> Summary:
        """Return metrics, intervals, baselines and the per-subject table of gathered rows."""

    def summarise_baseline(self, rows: Rows) -> Summary:
        """Return the judgement of a baseline's rows; what `tune` chose is the model's alone."""
        return self.summarise(rows)

    def beside(self, rows: Rows, baselines: Mapping[str, Rows]) -> Mapping[str, Any]:
        """Return details of the model's rows against each baseline's, of the same people."""
        return {}

    def prediction_rows(self, rows: Rows) -> Rows:
        """Return the rows that `--save-predictions` keeps as a table of plain values."""
        return rows

    @property
    def needs_validation(self) -> bool:
        """Return whether `tune` chooses something before a part is judged."""
        return False

    def tune(self, rows: Rows | None) -> list[str]:
        """Choose on the validation part what judging needs, such as a threshold.

        Args:
            rows: Its rows; None when there is no validation part.

        Returns:
            Sentences the user should read.
        """
        del rows
        return []

    def keep_predictions(self, folder: Path) -> None:
        """Be told, before a part is judged, to keep predictions that are files; rows are kept.

        Args:
            folder: Where; made when something is written.
        """
        del folder

    def ensemble(self, models: Sequence[nn.Module]) -> nn.Module:
        """Return one model that gives what several give together.

        Raises:
            UsageError: Outputs of this objective have no mean.
        """
        raise UsageError(
            f"{type(self).__name__} has no mean over {len(models)} models",
            where="--ensemble",
            hint="judge each by itself: leave --ensemble out",
        )

    def embed_step(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return one vector per sample, (B, E).

        Raises:
            UsageError: Models of this objective have none.
        """
        del model, batch
        raise UsageError(
            f"{type(self).__name__} gives no embeddings", hint="leave --embeddings out"
        )

    def explainer(
        self, method: str, samples: Sequence[SampleSet], train: SampleSet | None
    ) -> Explainer:
        """Return what explains the model's outputs on samples.

        Args:
            method: How.
            samples: The parts that will be explained.
            train: The training part, to compare with; None when it is not here.

        Raises:
            UsageError: Models of this objective cannot be explained, or not so.
        """
        del method, samples, train
        raise UsageError(
            f"{type(self).__name__} has no output to explain", hint="leave --explain out"
        )

    def baseline_rows(
        self, train: SampleSet, judged: Sequence[SampleSet], listener: Listener
    ) -> BaselineRows:
        """Fit plain methods on the training part and apply them to what is judged.

        Args:
            train: The training part.
            judged: The parts that are judged.
            listener: Hears about the work.
        """
        del train, judged, listener  # most objectives are compared by closed forms in `summarise`
        return BaselineRows()

    def init_from(self, model: nn.Module, weights: Mapping[str, torch.Tensor]) -> str:
        """Start `model` from weights of another run.

        Args:
            model: The untrained model.
            weights: Tensors by name, prefixes of wrappers already stripped.

        Returns:
            One sentence: what was taken and what was not.

        Raises:
            NeuroError: The weights do not fit.
        """
        load_weights(model, weights, label="--init-from")
        return f"all {len(weights)} tensors were taken"

    def state_dict(self) -> dict[str, Any]:
        """Return what `fit` learned as plain values, for the checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        del state
