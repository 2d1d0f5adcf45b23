"""Plain features in the embedding's place: scaled frames, and principal components of windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from neurocli.core.engine.task import BaselineRows, Rows, SampleSet
from neurocli.systems.calcium.samples import PieceSet
from neurocli.systems.calcium.scaling import Scaler

_MOST_WINDOWS = 4000

Float32 = npt.NDArray[np.float32]


def baseline_rows(
    train: SampleSet,
    judged: Sequence[SampleSet],
    scalers: Sequence[Scaler],
    n_dims: int,
    *,
    scale: float = 1.0,
) -> BaselineRows:
    """Return rows like the model's with plain features.

    Args:
        train: The training part, whose windows fit the components.
        judged: The parts that are judged.
        scalers: Scale of the neurons of each session.
        n_dims: Components, as many as the model's outputs.
        scale: Inverse temperature of the model.
    """
    fitted = cast(PieceSet, train)
    components = {
        number: _components(fitted, number, scalers[number], n_dims)
        for number in range(len(fitted.recordings.sessions))
    }
    rows: dict[str, Rows] = {"raw": [], "pca": []}
    for part in judged:
        own = cast(PieceSet, part)
        left, _ = own.recordings.field
        for index in range(len(own)):
            row = {**_row(own, index), "scale": scale}
            number = row["piece"].session
            scaled = _scaled(row.pop("rows").numpy(), scalers[number])
            n = len(row["centre"])
            mean, axes = components[number]
            windows = _windows(scaled, sum(own.recordings.field))
            rows["raw"].append({**row, "embedding": _unit(scaled[left : left + n])})
            rows["pca"].append(
                {**row, "embedding": _unit(np.asarray((windows - mean) @ axes, dtype=np.float32))}
            )
    return BaselineRows(
        rows, [f"pca: {n_dims} principal components of windows; raw: scaled frames"]
    )


def _row(part: PieceSet, index: int) -> dict[str, Any]:
    sample = part.sample(index, 0)
    piece = sample["piece"]
    about = part.recordings.about
    return {
        "participant": f"{about.names[piece.session]}/{piece.part}",
        "subject": about.names[piece.session],
        "start": piece.start,
        "about": about,
        **sample,
    }


def _scaled(rows: Float32, scaler: Scaler) -> Float32:
    found: Float32 = rows * scaler.factor.numpy() + scaler.shift.numpy()
    return found


def _windows(rows: Float32, length: int) -> Float32:
    """Return (n - L + 1, L N) windows below each other."""
    view = np.lib.stride_tricks.sliding_window_view(rows, length, axis=0)
    return view.reshape(len(view), -1)


def _components(
    train: PieceSet, number: int, scaler: Scaler, n_dims: int
) -> tuple[Float32, Float32]:
    length = sum(train.recordings.field)
    session = train.recordings.sessions[number]
    found = [
        _windows(_scaled(session.rows(slice(int(a), int(b))), scaler), length)
        for a, b in session.segments["train"]
        if b - a >= length
    ]
    stacked = np.concatenate(found)
    step = -(-len(stacked) // _MOST_WINDOWS)
    chosen = stacked[::step].astype(np.float64)
    mean = chosen.mean(0)
    centred = chosen - mean
    # The smaller of the two Gram matrices has the same leading vectors.
    if centred.shape[0] < centred.shape[1]:
        _, vectors = np.linalg.eigh(centred @ centred.T)
        axes = centred.T @ vectors[:, ::-1][:, :n_dims]
        axes /= np.maximum(np.linalg.norm(axes, axis=0), 1e-12)
    else:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :n_dims]
    return mean.astype(np.float32), axes.astype(np.float32)


def _unit(x: Float32) -> Float32:
    found: Float32 = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return found
