"""Pictures of embeddings from files that are made by hand: what colours them, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from neurocli.core.paths import durable_json
from neurocli.systems.calcium.report import figures


def put(run: Path, name: str, x: Any, **labels: Any) -> None:
    """Write the files of one session: embedding, time and labels."""
    folder = run / "evaluations" / "test" / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", np.asarray(x, dtype=np.float32))
    np.save(folder / f"{name}.time_s.npy", np.arange(len(x)) / 30)
    for label, values in labels.items():
        np.save(folder / f"{name}.{label}.npy", np.asarray(values))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run folder with an evaluation and no session yet."""
    out = tmp_path / "run" / "evaluations" / "test"
    out.mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("{}")
    record = {"schema": "neuro/evaluate/1", "part": "test", "n": 20, "metrics": {"infonce": 1.0}}
    durable_json(out / "metrics.json", record)
    return tmp_path / "run"


X = np.random.default_rng(0).normal(size=(20, 3)) * [5, 2, 1]


def test_captions_tell_windows_label_share_and_file(run: Path) -> None:
    # The share of two components is that of the two largest eigenvalues of the covariance.
    put(run, "a", X, movie_one=np.arange(20))
    values = np.linalg.eigvalsh(np.cov(X.astype(np.float32).T))
    (found,) = figures(run)
    assert found.title == "Embedding of a, test"
    assert found.caption.startswith("20 of 20 windows by movie one; ")
    share = 100 * values[1:].sum() / values.sum()
    assert f"two principal components hold {share:.0f} % of the variance" in found.caption
    assert found.caption.endswith("run/evaluations/test/embeddings/a.npy")
    assert found.image.startswith(b"<?xml")
    assert found.image == figures(run)[0].image


@pytest.mark.parametrize(("labels", "word"), [
    ({"direction": np.arange(20), "lap": np.arange(20)}, "direction"),
    ({"scene": np.arange(20), "movie_one": np.arange(20)}, "movie one"),
    ({"running": np.arange(20.0), "truth": X, "lap": np.arange(20)}, "lap"),
    ({"movie_one_repeat": np.arange(20)}, "time [s]"),
    ({"place": X[:, :2]}, "time [s]"),  # two columns are no colour
    ({}, "time [s]"),
])  # fmt: skip
def test_what_colours_a_session(run: Path, labels: dict[str, Any], word: str) -> None:
    put(run, "a", X, **labels)
    assert f"windows by {word};" in figures(run)[0].caption


def test_windows_without_the_label_are_not_shown(run: Path) -> None:
    put(run, "a", X, movie_one=np.where(np.arange(20) < 5, -1, 3))
    assert figures(run)[0].caption.startswith("15 of 20 windows")
    put(run, "a", X, movie_one=np.where(np.arange(20) < 18, -1, 3))
    assert figures(run) == []  # two points make no picture


def test_windows_that_are_not_finite_are_not_shown(run: Path) -> None:
    put(run, "a", np.where(np.arange(20)[:, None] == 3, np.nan, X))
    assert figures(run)[0].caption.startswith("19 of 20 windows")


def test_long_sessions_are_thinned_and_many_are_cut(run: Path) -> None:
    rng = np.random.default_rng(1)
    put(run, "a", rng.normal(size=(7000, 2)), movie_one=np.arange(7000) % 300)
    # Every third of 7000 windows: 2334, since 3000 are the most.
    assert figures(run)[0].caption.startswith("2334 of 7000 windows")
    for name in "bcdef":
        put(run, name, X)
    assert [f.title for f in figures(run)] == [f"Embedding of {n}, test" for n in "abcd"]


@pytest.mark.parametrize("x", [
    X[:, :1], X[:, 0], X[:2], np.full_like(X, np.nan), np.zeros((20, 0)),
], ids=["one output", "no outputs", "two windows", "NaN", "empty"])  # fmt: skip
def test_what_cannot_be_drawn_is_left_out(run: Path, x: Any) -> None:
    put(run, "a", x)
    put(run, "b", X)
    assert [f.title for f in figures(run)] == ["Embedding of b, test"]


def test_damaged_and_unequal_files_are_left_out(run: Path) -> None:
    put(run, "a", X, movie_one=np.arange(19))
    put(run, "b", X)
    path = run / "evaluations" / "test" / "embeddings" / "b.npy"
    path.write_bytes(path.read_bytes()[:40])
    put(run, "c", X)
    assert [f.title for f in figures(run)] == ["Embedding of c, test"]


def test_a_session_is_not_coloured_by_one_whose_name_goes_on(run: Path) -> None:
    put(run, "mouse", X, lap=np.arange(20))
    put(run, "mouse.day2", X, depth=np.arange(20))
    words = [f.caption.split(" windows by ")[1].split(";")[0] for f in figures(run)]
    assert words == ["lap", "depth"]


def test_names_are_no_patterns(run: Path) -> None:
    put(run, "m[1]", X, movie_one=np.arange(20))
    assert "by movie one;" in figures(run)[0].caption


def test_a_run_without_embeddings_has_no_picture(run: Path) -> None:
    assert figures(run) == []


def test_consistency_of_every_pair_of_sessions(run: Path) -> None:
    record = {"part": "test", "n": 20, "metrics": {}}
    pairs: dict[str, Any] = {"sessions": ["<b>a", "b"], "r2": [[None, 0.75], [0.5, None]]}
    path = run / "evaluations" / "test" / "metrics.json"
    durable_json(path, {**record, "consistency_pairs": pairs})
    (figure,) = figures(run)
    assert figure.title == "Consistency between sessions, test"
    # The mean of 0.75 and 0.5; the diagonal says nothing.
    assert figure.alt == "R² between sessions is 0.50 to 0.75, mean 0.62."
    assert "n = 2 sessions; run/evaluations/test/metrics.json" in figure.caption
    texts = ["".join(n.itertext()) for n in ElementTree.fromstring(figure.image).iter()]
    assert {"<b>a", "0.75", "0.50", "session that is predicted"} <= set(texts)


@pytest.mark.parametrize("pairs", [
    3, {}, {"sessions": ["a", "b"]}, {"sessions": ["a", "b"], "r2": [[1], [2]]},
    {"sessions": ["a", "b"], "r2": [[None, None], [None, "x"]]}, {"sessions": ["a"], "r2": [[1]]},
])  # fmt: skip
def test_a_damaged_matrix_is_left_out(run: Path, pairs: Any) -> None:
    path = run / "evaluations" / "test" / "metrics.json"
    durable_json(path, {"part": "test", "metrics": {}, "consistency_pairs": pairs})
    assert figures(run) == []
