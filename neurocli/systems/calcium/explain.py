"""Which neurons an embedding follows, as a table: `explanations/neurons.csv`.

Each neuron has the two scores of `attribution`, over windows spread evenly over the judged
segments. Where sessions are made up and it is known who follows the stimuli, the notes tell the
area under the curve that parts those neurons from the others by score.

Letters: T frames, L frames of a window, N neurons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurocli.core.engine.judgement import table_text
from neurocli.core.engine.task import Batch, Rows
from neurocli.core.metrics.bootstrap import bootstrap_ci
from neurocli.core.metrics.classification import auroc
from neurocli.core.names import lookup
from neurocli.core.paths import durable_write
from neurocli.systems.calcium.attribution import attribute
from neurocli.systems.calcium.models.encoder import SessionEncoders
from neurocli.systems.calcium.samples import PieceSet
from neurocli.systems.calcium.scaling import Scaler

METHODS = {"attribution": "size of the embedding's derivative by each neuron"}
SCORES = ("jacobian", "inverse")
_MOST_WINDOWS, _TOGETHER = 256, 32
Columns = Mapping[str, npt.NDArray[Any]]


class NeuronExplainer:
    """Score the neurons of every session.

    Args:
        method: A name of `METHODS`.
        parts: The segments that will come.
        scalers: Scale of the neurons of each session.

    Raises:
        UsageError: The method is unknown.
    """

    def __init__(self, method: str, parts: Sequence[PieceSet], scalers: Sequence[Scaler]) -> None:
        lookup("explanation", method, METHODS)
        self._scalers = scalers
        recordings = parts[0].recordings
        self._sessions, self._length = recordings.sessions, sum(recordings.field)
        total: dict[int, int] = {}
        for part in parts:
            for piece in part.pieces:
                if "judge" in piece.role:
                    n_windows = piece.stop - piece.start - self._length + 1
                    total[piece.session] = total.get(piece.session, 0) + n_windows
        self._every = {number: -(-n // _MOST_WINDOWS) for number, n in total.items()}
        self._seen = dict.fromkeys(total, 0)
        self._n_scored = dict.fromkeys(total, 0)
        self._sums: dict[int, Tensor] = {}

    def step(self, model: nn.Module, batch: Batch) -> None:
        """Score windows of the judged segments of a batch.

        Args:
            model: In evaluation mode.
            batch: Of the segments' `collate`, on the model's device.
        """
        for at, sample in enumerate(batch["samples"]):
            piece = sample["piece"]
            if "judge" in piece.role:
                windows = self._windows(batch["rows"][at], piece.session)
                for some in torch.split(windows, _TOGETHER):
                    self._add(cast(SessionEncoders, model), some, piece.session)

    def _windows(self, rows: Tensor, number: int) -> Tensor:
        """Return scaled windows (B, L, N) of a segment (T, N), those whose turn it is."""
        scaler, every = self._scalers[number], self._every[number]
        every_window = rows.unfold(0, self._length, 1).mT
        first = -self._seen[number] % every
        self._seen[number] += len(every_window)
        factor, shift = scaler.factor.to(rows.device), scaler.shift.to(rows.device)
        return every_window[first::every] * factor + shift

    def _add(self, model: SessionEncoders, windows: Tensor, number: int) -> None:
        found = attribute(model, windows, number)
        scores = torch.stack([found.jacobian, found.inverse]).double().cpu() * len(windows)
        self._sums[number] = self._sums.get(number, torch.zeros_like(scores)) + scores
        self._n_scored[number] += len(windows)

    def write(self, folder: Path) -> list[str]:
        """Write the table.

        Args:
            folder: Where it goes.

        Returns:
            Sentences the user should read.

        Raises:
            NeuroError: The disk is full or the folder cannot be written.
        """
        rows: Rows = []
        said: list[str] = []
        for number, total in sorted(self._sums.items()):
            session = self._sessions[number]
            scores = (total / self._n_scored[number]).numpy()
            truth = session.is_tuned
            for at, name in enumerate(session.neurons):
                row: dict[str, Any] = {"session": session.name, "neuron": name}
                row |= {key: float(scores[i, at]) for i, key in enumerate(SCORES)}
                rows.append(row if truth is None else {**row, "is_tuned": int(truth[at])})
            if truth is not None and 0 < truth.sum() < len(truth):
                said.append(f"{session.name}: {_area_text(truth, scores)}")
        durable_write(folder / "neurons.csv", table_text(rows))
        count = sum(self._n_scored.values())
        return [*said, f"scores of {len(rows)} neurons over {count} windows are in {folder}"]


def _area_text(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> str:
    """Say how well each score tells tuned neurons, with intervals over neurons."""
    told = []
    for at, name in enumerate(SCORES):
        columns = {"truth": truth.astype(np.int64), "score": scores[at]}
        area = auroc(columns["truth"], columns["score"])
        limits = bootstrap_ci(columns, {"area": _area}).get("area")
        told.append(
            f"{name} {area:.3f}" + (f" ({limits[0]:.3f} to {limits[1]:.3f})" if limits else "")
        )
    return f"area under the curve for neurons that follow the stimuli: {', '.join(told)}"


def _area(columns: Columns) -> float:
    truth = columns["truth"]
    return auroc(truth, columns["score"]) if 0 < truth.sum() < len(truth) else float("nan")
