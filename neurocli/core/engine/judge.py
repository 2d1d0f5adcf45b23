"""The steps of a judgement: rows of parts, a threshold, baselines, sites, embeddings.

Every step uses the same samples in the same order, so nothing is dropped or counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from neurocli.core.config.run import RunConfig
from neurocli.core.engine.parallel.team import current_team
from neurocli.core.engine.rows import each_batch, gather_rows
from neurocli.core.engine.task import Batch, Explainer, Rows, RunData, SampleSet, Summary, Task
from neurocli.core.events import Listener
from neurocli.core.metrics.bootstrap import MIN_PARTICIPANTS
from neurocli.core.metrics.measures import compare

_NAMES = ("participant", "subject")


@dataclass(frozen=True)
class Embeddings:
    """Hold one vector per sample.

    Args:
        features: (n, E) float32.
        names: `participant` and `subject` of each.
        starts: First frame of each.
    """

    features: npt.NDArray[np.float32]
    names: Mapping[str, list[str]]
    starts: list[int]


@dataclass(frozen=True)
class Judge:
    """Hold a rebuilt model and what is needed to judge it; the model is on `device`."""

    task: Task
    model: nn.Module
    config: RunConfig
    device: torch.device
    listener: Listener

    def rows(self, samples: Sequence[SampleSet]) -> Rows:
        """Return one row per sample of all given parts; of several ranks the first gets them."""
        found: Rows = []
        for part in samples:
            found += gather_rows(
                self.task, self.model, part, self.config, self.device, listener=self.listener
            )
        return found

    def tune(self, validation: SampleSet | None) -> list[str]:
        """Let the task choose on the validation part what it needs; return what it says."""
        if not self.task.needs_validation:
            return []
        rows = self.rows([validation]) if validation is not None else None
        return self.task.tune(rows) if current_team().is_first else []

    def embeddings(self, samples: Sequence[SampleSet]) -> Embeddings:
        """Return one vector per sample of all given parts.

        Raises:
            UsageError: The objective gives none.
        """
        vectors: list[npt.NDArray[np.float32]] = []
        names: dict[str, list[str]] = {key: [] for key in _NAMES}
        starts: list[int] = []

        def step(batch: Batch) -> None:
            vectors.append(self.task.embed_step(self.model, batch).float().cpu().numpy())
            for key in _NAMES:
                names[key] += batch[key]
            starts.extend(batch["start"])

        for part in samples:
            each_batch(
                step,
                self.model,
                part,
                self.config,
                self.device,
                label="embed",
                listener=self.listener,
            )
        return Embeddings(np.concatenate(vectors), names, starts)

    def explain(
        self, method: str, samples: Sequence[SampleSet], train: SampleSet | None
    ) -> Explainer:
        """Explain the model's outputs on all given parts; what was found is yet to be written.

        Args:
            method: A name that the task knows.
            samples: The parts.
            train: The training part; None when it is not here.

        Raises:
            UsageError: The objective or the method cannot be explained.
        """
        explainer = self.task.explainer(method, samples, train)

        def step(batch: Batch) -> None:
            explainer.step(self.model, batch)

        for part in samples:
            each_batch(
                step,
                self.model,
                part,
                self.config,
                self.device,
                label="explain",
                listener=self.listener,
            )
        return explainer


def with_baselines(
    task: Task,
    data: RunData,
    samples: Sequence[SampleSet],
    summary: Summary,
    listener: Listener,
    *,
    rows: Rows | None = None,
) -> tuple[Summary, list[str]]:
    """Add the baselines that are fitted on the training part.

    Args:
        task: Fits them and judges their rows.
        data: All parts.
        samples: The parts that are judged.
        summary: The model's judgement.
        listener: Hears about the work.
        rows: Of the model, for what compares them with a baseline's; None compares nothing.

    Returns:
        The judgement with more baselines, and sentences the user should read.
    """
    train = data.parts.get("train")
    if train is None:
        return summary, ["baselines that need the training part are left out: it is not here"]
    fitted = task.baseline_rows(train, samples, listener)
    judged = {name: task.summarise_baseline(own) for name, own in fitted.rows.items()}
    told = task.beside(rows, fitted.rows) if rows else {}
    return replace(
        summary,
        baselines={**summary.baselines, **{name: each.metrics for name, each in judged.items()}},
        baseline_ci95={
            **summary.baseline_ci95,
            **{name: each.ci95 for name, each in judged.items()},
        },
        details={**summary.details, **told},
    ), fitted.notes


def verdicts(summary: Summary, *, in_sample: bool) -> dict[str, dict[str, str]]:
    """Return baseline -> metric -> what the intervals carry; nothing on training data.

    Args:
        summary: The judgement.
        in_sample: Whether people of the training part were judged.
    """
    found: dict[str, dict[str, str]] = {}
    for baseline, values in summary.baselines.items():
        intervals = summary.baseline_ci95.get(baseline, {})
        found[baseline] = {
            name: "no claim"
            if in_sample
            else compare(name, summary.ci95.get(name), intervals.get(name, value))
            for name, value in values.items()
            if name in summary.metrics
        }
    return found


def per_group(task: Task, rows: Rows, groups: Mapping[str, str], word: str) -> list[dict[str, Any]]:
    """Return one row per group of people: its name, `n` participants, and metrics where enough.

    Args:
        task: Owner of the maths.
        rows: One per sample.
        groups: Participant -> group.
        word: What a group is, such as site; the column of its name.

    Returns:
        Nothing when all are of one group; groups of fewer than three people have no metrics.
    """
    grouped: dict[str, Rows] = {}
    for row in rows:
        grouped.setdefault(groups.get(row["participant"], "n/a"), []).append(row)
    if len(grouped) < 2:
        return []
    table = []
    for name, own in sorted(grouped.items()):
        n = len({row["participant"] for row in own})
        metrics = task.summarise(own).metrics if n >= MIN_PARTICIPANTS else {}
        table.append({word: name, "n": n, **metrics})
    return table
