"""Readers: one made-up session through three layouts, plain arrays, and what must be refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurocli.core.errors import InputError
from neurocli.systems.calcium.discover import find_allen
from neurocli.systems.calcium.prepare import process_session
from neurocli.systems.calcium.read import open_sessions
from neurocli.systems.calcium.session import Session
from neurocli.systems.calcium.synthetic import CohortSpec, Simulated, simulate
from neurocli.systems.calcium.write_layouts import write_domains, write_masks, write_nwb1

SPEC = CohortSpec(n_neurons=(12,), n_frames=60, n_repeats=10, n_trials=3)
LAYOUTS = {"masks": write_masks, "domains": write_domains, "nwb1": write_nwb1}


@pytest.fixture(scope="module")
def made() -> Simulated:
    return simulate(SPEC, 0)


@pytest.fixture(scope="module")
def files(made: Simulated, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layouts")
    return {name: write(made, folder / f"{name}.h5") for name, write in LAYOUTS.items()}


def only(path: Path) -> Session:
    (session,) = open_sessions(path)
    return session


def test_three_layouts_give_the_same_session(files: dict[str, Path], made: Simulated) -> None:
    first = only(files["masks"])
    assert np.array_equal(first.traces, made.traces)
    for name in ("domains", "nwb1"):
        other = only(files[name])
        assert other.rows(slice(None)).tobytes() == made.traces.tobytes()
        assert other.rate_hz == pytest.approx(30.0, abs=1e-9)
        for part, segments in first.segments.items():
            assert np.array_equal(segments, other.segments[part]), (name, part)
        for label in ("movie_one", "movie_one_repeat", "direction", "temp_freq"):
            assert np.array_equal(first.labels[label], other.labels[label]), (name, label)


def test_labels_are_what_was_shown(files: dict[str, Path], made: Simulated) -> None:
    session = only(files["domains"])
    movie = made.stimuli["natural_movie_one"]
    assert np.array_equal(session.labels["movie_one"][movie.start], movie.values["frame"])
    gratings = made.stimuli["drifting_gratings"]
    middle = (gratings.start + gratings.stop) // 2
    assert np.array_equal(session.labels["direction"][middle], gratings.values["direction"])
    # 24 trials and a movie without gaps: every frame else has no direction.
    shown = (gratings.stop - gratings.start).sum()
    assert (session.labels["direction"] >= 0).sum() == shown


def test_parts_follow_the_published_rule(files: dict[str, Path]) -> None:
    session = only(files["masks"])
    repeat = session.labels["movie_one_repeat"]
    for part, repeats in (("train", range(8)), ("val", [8]), ("test", [9])):
        frames = np.concatenate([np.arange(a, b) for a, b in session.segments[part]])
        assert set(repeat[frames]) - {-1} == set(repeats)


def test_traces_are_mapped_not_read(files: dict[str, Path]) -> None:
    assert isinstance(only(files["masks"]).traces, np.memmap)


def test_a_stored_session_is_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    found = find_allen([files["masks"]], {"rate_hz": 30.0})
    process_session(found.items[0], tmp_path, {"rate_hz": 30.0})
    first, stored = only(files["masks"]), only(tmp_path)
    assert np.array_equal(first.traces, stored.traces)
    assert stored.segments.keys() == first.segments.keys()
    assert np.array_equal(stored.labels["movie_one"], first.labels["movie_one"])


def test_the_description_tells_sizes_parts_and_risks(files: dict[str, Path]) -> None:
    (note,) = find_allen([files["masks"]], {"rate_hz": 30.0}).notes
    for word in (
        "12 neurons",
        "30.00 Hz",
        "train",
        "drifting_gratings 24",
        "segments",
        "cross a cut",
    ):
        assert word in note


def test_arrays_with_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "rat.npz"
    position = rng.random(500)
    np.savez(path, neural=rng.normal(size=(7, 500)), position=position, lap=np.arange(500) // 50)
    session = only(path)  # neurons first: 500 values of labels tell the axis of time
    assert session.traces.shape == (500, 7)
    assert session.labels["position"] == pytest.approx(position, abs=1e-6)
    assert session.labels["lap"].dtype.kind == "i"
    assert any("neurons first" in text for text in session.repairs)


def test_an_archive_of_matrices_is_several_sessions(tmp_path: Path) -> None:
    path = tmp_path / "many.npz"
    rng = np.random.default_rng(0)
    np.savez(path, a_C=rng.normal(size=(5, 400)), b_C=rng.normal(size=(9, 300)))
    assert [s.traces.shape for s in open_sessions(path)] == [(400, 5), (300, 9)]


def test_dead_neurons_and_gaps_are_told(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32)
    values[:, 1] = np.nan
    values[:, 2] = 3.0
    values[100:104, 0] = np.nan  # 4 frames at 30 Hz: filled
    values[200:230, :] = np.nan  # a second: cut
    path = tmp_path / "gaps.npz"
    np.savez(path, neural=values)
    session = only(path)
    assert session.n_neurons == 4
    assert session.neurons == ("0", "3", "4", "5")
    row = session.rows(np.array([101]))[0, 0]
    low, high = sorted((values[99, 0], values[104, 0]))
    assert low <= row <= high
    assert session.segments["train"].tolist() == [[0, 200], [230, 420]]
    told = " ".join(session.repairs)
    for word in ("1 all-NaN", "1 constant", "4 frames with NaN were filled", "30 frames in longer"):
        assert word in told


def test_suite2p_keeps_cells_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "F.npy", rng.random((5, 300)).astype(np.float32) + 10)
    np.save(tmp_path / "iscell.npy", np.array([[1, 0.9], [0, 0.1], [1, 0.8], [0, 0.2], [1, 0.7]]))
    session = only(tmp_path)
    assert session.neurons == ("0", "2", "4")
    assert session.traces.shape == (300, 3)


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("was-executed"),))


def test_a_pickle_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = tmp_path / "data.npz"
    plain.write_bytes(pickle.dumps(Payload()))
    inside = tmp_path / "inside.npy"
    np.save(inside, np.array([Payload()], dtype=object), allow_pickle=True)
    for path in (plain, inside):
        with pytest.raises(InputError, match=r"pickle|Python objects"):
            open_sessions(path)
    assert not (tmp_path / "was-executed").exists()


def test_truncated_hdf5(files: dict[str, Path], tmp_path: Path) -> None:
    content = files["masks"].read_bytes()
    path = tmp_path / "cut.h5"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"damaged|half written") as caught:
        open_sessions(path)
    assert str(path) in str(caught.value.where)


def broken(source: Path, target: Path, change: object) -> Path:
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "r+") as file:
        change(file["calcium_traces"])  # type: ignore[operator]
    return target


def test_masks_that_overlap_or_do_not_fit(files: dict[str, Path], tmp_path: Path) -> None:
    def overlap(group: h5py.Group) -> None:
        group["test_mask"][:5] = True

    def shorten(group: h5py.Group) -> None:
        values = group["valid_mask"][:-3]
        del group["valid_mask"]
        group["valid_mask"] = values

    for change, word in ((overlap, "shares 5 frames"), (shorten, "values for")):
        path = broken(files["masks"], tmp_path / f"{word.split()[0]}.h5", change)
        with pytest.raises(InputError, match=word) as caught:
            open_sessions(path)
        assert "calcium_traces/" in str(caught.value.where)


def test_transposed_traces_are_turned(files: dict[str, Path], tmp_path: Path) -> None:
    def turn(group: h5py.Group) -> None:
        values = group["df_over_f"][...].T.copy()
        del group["df_over_f"]
        group["df_over_f"] = values

    session = only(broken(files["masks"], tmp_path / "turned.h5", turn))
    assert np.array_equal(session.traces, only(files["masks"]).traces)
    assert any("turned" in text for text in session.repairs)


def test_all_neurons_missing(tmp_path: Path) -> None:
    path = tmp_path / "nan.npy"
    np.save(path, np.full((50, 4), np.nan))
    with pytest.raises(InputError, match=r"all 4 neurons are NaN"):
        open_sessions(path)


def test_nwb_without_imaging_is_refused(real: Path) -> None:
    (path,) = (real / "calcium" / "nwb_units").glob("*.nwb")
    with pytest.raises(InputError, match=r"without optical physiology") as caught:
        open_sessions(path)
    assert caught.value.where == f"{path}:processing"


def test_real_traces(real: Path) -> None:
    (plane,) = open_sessions(real / "calcium" / "suite2p")
    assert plane.traces.shape == (2000, 20)  # iscell accepts 20 of 219 regions
    shapes = [s.traces.shape for s in open_sessions(real / "calcium" / "caiman_traces.npz")]
    assert sorted(shapes) == [(2000, 16), (3000, 58), (3000, 70)]
