"""Plain features: components against scikit-learn, raw frames, and the scale they start from."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.decomposition import PCA

from neurocli.systems.calcium.baselines import baseline_rows
from neurocli.systems.calcium.samples import About, PieceSet, Recordings
from neurocli.systems.calcium.scaling import Scaler, fit_scaler
from neurocli.systems.calcium.session import Session

FIELD = (2, 3)
CUTS = {"train": [[0, 40], [50, 53], [60, 90]], "val": [[90, 110]], "test": [[110, 140]]}


def session(n_neurons: int, seed: int = 0, cuts: dict[str, Any] = CUTS) -> Session:
    """Return a session of 140 frames; its second training segment holds no window."""
    rng = np.random.default_rng(seed)
    traces = rng.normal(size=(140, n_neurons)) @ rng.normal(size=(n_neurons, n_neurons)) + 7
    segments = {part: np.array(own).reshape(-1, 2) for part, own in cuts.items()}
    names = tuple(map(str, range(n_neurons)))
    return Session(
        f"s{seed}", traces.astype(np.float32), 30.0, 0.0, segments, {}, names, "array", "none"
    )


def rows_of(sessions: list[Session], n_dims: int) -> tuple[Any, list[Scaler], list[str]]:
    keys = [np.zeros(140, dtype=np.int64) for _ in sessions]
    values = [np.zeros((140, 1)) for _ in sessions]
    about = About(tuple(s.name for s in sessions), (), 0, (30.0,) * len(sessions))
    recordings = Recordings(sessions, keys, values, FIELD, about)
    train, test = (
        PieceSet(recordings, recordings.pieces(part, role))
        for part, role in (("train", "fit"), ("test", "judge"))
    )
    scalers = [fit_scaler(own) for own in sessions]
    found = baseline_rows(train, [test], scalers, n_dims)
    return found.rows, scalers, list(found.notes)


def windows(x: npt.NDArray[np.float64], cuts: list[list[int]]) -> npt.NDArray[np.float64]:
    """Return all windows of five frames, one loop per window."""
    return np.array([x[i : i + 5].T.ravel() for a, b in cuts for i in range(a, b - 4)])


def scaled(own: Session) -> npt.NDArray[np.float64]:
    train = np.concatenate([own.traces[a:b] for a, b in CUTS["train"]]).astype(np.float64)
    return (own.traces - train.mean(0)) / train.std(0)


# Windows hold 5 frames: 4 neurons make 20 columns under 62 rows, 30 make 150 columns.
@pytest.mark.parametrize("n_neurons", [4, 30])
def test_components_are_scikit_learns(n_neurons: int) -> None:
    own = session(n_neurons)
    found = rows_of([own], 6)[0]["pca"][0]["embedding"]
    x = scaled(own)
    model = PCA(6).fit(windows(x, CUTS["train"]))
    expected = model.transform(windows(x, CUTS["test"]))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    signs = np.sign((found * expected).sum(0))  # an axis has no sign of its own
    assert found.shape == (26, 6)
    assert np.allclose(found * signs, expected, atol=1e-3)


def test_raw_frames_are_those_at_the_centres() -> None:
    own = session(4)
    row = rows_of([own], 3)[0]["raw"][0]
    # Centres of a segment from 110 to 140 with two frames before and three from there on.
    assert row["centre"].tolist() == list(range(112, 138))
    expected = scaled(own)[112:138]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(row["embedding"], expected, atol=1e-5)
    assert "rows" not in row


def test_every_session_has_components_of_its_own() -> None:
    one, two = session(4, 0), session(6, 1)
    both, alone = rows_of([one, two], 3)[0], rows_of([two], 3)[0]
    assert [row["participant"] for row in both["pca"]] == ["s0/test", "s1/test"]
    assert np.array_equal(both["pca"][1]["embedding"], alone["pca"][0]["embedding"])
    assert both["raw"][1]["embedding"].shape == (26, 6)


def test_held_out_frames_teach_nothing() -> None:
    one = session(5)
    other = session(5)
    other.traces[110:125] = 1e3  # within the judged part
    rows = [rows_of([own], 3)[0]["pca"][0]["embedding"] for own in (one, other)]
    assert np.array_equal(rows[0][15:], rows[1][15:])
    assert not np.allclose(rows[0][:10], rows[1][:10], atol=0.1)


def test_fewer_windows_than_components_give_what_there_is() -> None:
    # One training segment of 7 frames holds 3 windows.
    found = rows_of([session(4, cuts={**CUTS, "train": [[0, 7]]})], 8)[0]["pca"][0]["embedding"]
    assert found.shape[0] == 26
    assert 2 <= found.shape[1] <= 8
    assert np.isfinite(found).all()


def test_the_note_tells_how_many_components() -> None:
    assert rows_of([session(4)], 3)[2] == [
        "pca: 3 principal components of windows; raw: scaled frames"
    ]


def test_scales_survive_offsets_blocks_and_constant_neurons() -> None:
    # A level a million times the signal, over more frames than one block of 8192 holds.
    rng = np.random.default_rng(2)
    n = 20_000
    traces = np.column_stack([rng.normal(size=n), 1e4 + 0.1 * rng.normal(size=n), np.full(n, 3.0)])
    segments = {"train": np.array([[0, 9000], [9500, n]]), "val": np.array([[9000, 9500]])}
    own = Session(
        "s", traces.astype(np.float32), 30.0, 0.0, segments, {}, ("a", "b", "c"), "array", "none"
    )
    own.traces[9000:9500] = 1e6  # of another part
    scaler = fit_scaler(own)
    train = np.concatenate([own.traces[:9000], own.traces[9500:]]).astype(np.float64)
    assert np.allclose(1 / scaler.factor[:2].numpy(), train[:, :2].std(0), rtol=1e-5)
    assert np.allclose(-(scaler.shift / scaler.factor)[:2].numpy(), train[:, :2].mean(0), rtol=1e-5)
    assert scaler.factor[2] == scaler.shift[2] == 0  # left at its mean
