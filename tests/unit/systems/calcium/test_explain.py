"""Scores of neurons as a command gives them: against the truth, and against `attribute` itself."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurocli import evaluate
from neurocli.core.engine.outcome import RunResult
from neurocli.core.errors import UsageError
from neurocli.systems.calcium.attribution import attribute
from neurocli.systems.calcium.dummy import opened
from neurocli.systems.calcium.explain import NeuronExplainer
from neurocli.systems.calcium.models.encoder import SessionEncoders
from neurocli.systems.calcium.samples import About, Piece, PieceSet, Recordings
from neurocli.systems.calcium.scaling import Scaler
from neurocli.systems.calcium.synthetic import CohortSpec, simulate


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "neurons.csv").open()))


def test_neurons_that_follow_the_movie_have_the_larger_scores(
    run: RunResult, tmp_path: Path
) -> None:
    result = evaluate(run.checkpoint, out=tmp_path / "judged", explain="attribution")
    rows = rows_of(tmp_path / "judged" / "explanations")
    for session, size in (("synthetic-1", 80), ("synthetic-2", 70)):
        own = [row for row in rows if row["session"] == session]
        assert len(own) == size
        tuned = np.array([row["is_tuned"] == "1" for row in own])
        assert 0.2 < tuned.mean() < 0.6  # four in ten by the generator
        score = np.array([float(row["jacobian"]) for row in own])
        # The area as the share of pairs in the right order, 0.5 by chance. The specification asks
        # for 0.9 of a whole run; this one has a quarter of its frames and 120 steps.
        area = float((score[tuned][:, None] > score[~tuned]).mean())
        assert area > 0.8
        note = next(n for n in result.notes if n.startswith(f"{session}: area"))
        said = re.search(r"jacobian (\d\.\d+) \((\S+) to (\S+)\)", note)
        assert said is not None
        told, low, high = map(float, said.groups())
        assert told == pytest.approx(area, abs=6e-4)
        assert low <= told <= high


def pieces(n_frames: int = 200) -> PieceSet:
    """Return two segments to judge and one that decoders are fitted on."""
    session = opened(simulate(CohortSpec(n_neurons=(9,), n_frames=50, n_repeats=4, n_trials=0), 0))
    about = About((session.name,), (), 0, (30.0,))
    empty = np.zeros(n_frames, dtype=np.int64)
    recordings = Recordings([session], [empty], [np.zeros((n_frames, 1))], (2, 3), about)
    return PieceSet(recordings, [
        Piece(0, "fit", "train", 0, 100), Piece(0, "judge", "test", 100, 140),
        Piece(0, "choose judge", "test", 140, 200),
    ])  # fmt: skip


def explained(part: PieceSet, folder: Path) -> tuple[list[dict[str, str]], SessionEncoders, Scaler]:
    torch.manual_seed(0)
    model = SessionEncoders([9], encoder="offset5", hidden=8, outputs=3).eval()
    scaler = Scaler(torch.rand(9) + 0.5, torch.randn(9))
    found = NeuronExplainer("attribution", [part], [scaler])
    for index in range(len(part)):  # in batches of one, which must not matter
        found.step(model, part.collate([part.sample(index, 0)]))
    found.write(folder)
    return rows_of(folder), model, scaler


def test_scores_are_those_of_all_judged_windows(tmp_path: Path) -> None:
    part = pieces()
    rows, model, scaler = explained(part, tmp_path)
    session = part.recordings.sessions[0]
    judged = [torch.from_numpy(session.rows(slice(*ends))) for ends in ((100, 140), (140, 200))]
    windows = torch.cat([own.unfold(0, 5, 1).mT for own in judged])
    expected = attribute(model, windows * scaler.factor + scaler.shift)
    for at, row in enumerate(rows):
        assert float(row["jacobian"]) == pytest.approx(float(expected.jacobian[at]), rel=1e-5)
        assert float(row["inverse"]) == pytest.approx(float(expected.inverse[at]), rel=1e-4)


def test_many_windows_are_thinned_evenly(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("neurocli.systems.calcium.explain._MOST_WINDOWS", 12)
    part = pieces()
    rows, model, scaler = explained(part, tmp_path)
    session = part.recordings.sessions[0]
    # 36 + 56 = 92 windows, every eighth of them counted over both segments: 5 and then 7.
    starts = [100 + s if s < 36 else 140 + s - 36 for s in range(0, 92, 8)]
    windows = torch.from_numpy(np.stack([session.rows(slice(s, s + 5)) for s in starts]))
    expected = attribute(model, windows * scaler.factor + scaler.shift)
    for at, row in enumerate(rows):
        assert float(row["jacobian"]) == pytest.approx(float(expected.jacobian[at]), rel=1e-5)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown explanation 'gradients'"):
        NeuronExplainer("gradients", [pieces()], [])
