"""Plain arrays, bare HDF5 and suite2p folders: what is traces, what is a label, what is refused."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurocli.core.data.arrays import npy_bytes
from neurocli.core.errors import InputError
from neurocli.systems.calcium.read import find_sources, is_suite2p, open_sessions
from neurocli.systems.calcium.session import Session


@pytest.fixture(scope="module")
def values() -> Any:
    return np.random.default_rng(0).normal(size=(300, 4))


def only(path: Path, rate_hz: float = 30.0) -> Session:
    (session,) = open_sessions(path, rate_hz)
    return session


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


# .npz and .npy


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i4", ">u2"])
def test_any_number_becomes_the_same_float32(tmp_path: Path, values: Any, dtype: str) -> None:
    stored = (100 * values + 500).astype(dtype)
    session = only(npz(tmp_path, neural=stored))
    # Expected: numpy's own conversion of what was stored.
    found = session.rows(slice(None))
    assert found.dtype == np.float32
    assert np.array_equal(found, stored.astype(np.float32))


def test_fortran_order_reads_the_same(tmp_path: Path, values: Any) -> None:
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    assert np.array_equal(only(tmp_path / "f.npy").rows(slice(None)), values.astype(np.float32))


@pytest.mark.parametrize(
    ("times", "rate", "start"),
    [(2.5 + np.arange(300) / 12.0, 12.0, 2.5), (np.linspace(0, 299, 300), 1.0, 0.0)],
)
def test_times_tell_the_rate(
    tmp_path: Path, values: Any, times: Any, rate: float, start: float
) -> None:
    session = only(npz(tmp_path, neural=values, timestamps=times))
    assert session.rate_hz == pytest.approx(rate)
    assert session.start_s == start
    assert not session.labels  # times are no label
    assert not session.repairs


@pytest.mark.parametrize(
    "times",
    [np.arange(300.0)[::-1], np.r_[np.arange(299.0), np.inf], np.full(300, np.nan), np.arange(7.0)],
)
def test_times_that_are_no_clock_are_told(tmp_path: Path, values: Any, times: Any) -> None:
    session = only(npz(tmp_path, neural=values, timestamps=times), 25.0)
    assert (session.rate_hz, session.start_s) == (25.0, 0.0)
    assert any("no clock" in text and "25 Hz" in text for text in session.repairs)


def test_labels_are_told_by_length_and_kind(tmp_path: Path, values: Any) -> None:
    session = only(
        npz(
            tmp_path,
            neural=values,
            lap=np.arange(300, dtype=np.uint8),
            lick=np.arange(300) % 2 == 0,
            place=np.ones((300, 2)),
            who=np.array(["a"] * 300),
            fps=np.float64(10),
            cube=np.ones((300, 2, 2)),
            short=np.ones(9),
        )
    )
    assert {name: (v.dtype.str, v.shape) for name, v in session.labels.items()} == {
        "lap": ("<i4", (300,)),
        "lick": ("<i4", (300,)),
        "place": ("<f4", (300, 2)),
    }


def test_masks_of_an_archive(tmp_path: Path, values: Any) -> None:
    frames = np.arange(300)
    path = npz(tmp_path, neural=values, train_mask=frames < 200, test_mask=frames > 250)
    session = only(path)
    assert session.segments["train"].tolist() == [[0, 200]]
    assert session.segments["val"].tolist() == []
    assert session.segments["test"].tolist() == [[251, 300]]
    assert session.split == "masks of the file"


def test_masks_that_overlap_or_are_short(tmp_path: Path, values: Any) -> None:
    frames = np.arange(300)
    path = npz(
        tmp_path, neural=values, train_mask=frames < 200, val_mask=0, valid_mask=frames > 190
    )
    with pytest.raises(InputError, match="shares 9 frames") as caught:
        open_sessions(path)
    assert caught.value.where == f"{path}:valid_mask"
    path = npz(tmp_path, neural=values, lap=frames, train_mask=frames[:-1] < 200)
    with pytest.raises(InputError, match="has 299 values for 300 frames") as caught:
        open_sessions(path)
    assert caught.value.where == f"{path}:train_mask"


def test_blocks_of_time_leave_a_second_out(tmp_path: Path, values: Any) -> None:
    session = only(npz(tmp_path, neural=values), 10.0)
    # 300 frames at 10 Hz: 70 % is 210, 80 % is 240, and one second is 10 frames.
    assert {part: own.tolist() for part, own in session.segments.items()} == {
        "train": [[0, 210]],
        "val": [[220, 240]],
        "test": [[250, 300]],
    }


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros(9), r"has shape \(9,\) of float64"),
        (np.float64(1), r"has shape \(\) of float64"),
        (np.ones((9, 3), dtype=bool), "of bool"),
        (np.array([["a"] * 3] * 9), "of <U1"),
        (np.zeros((0, 5)), "all 0 neurons are"),
        (np.zeros((5, 0)), "all 0 neurons are"),
        (np.zeros((9, 3)), "all 3 neurons are constant"),
    ],
)
def test_arrays_that_are_no_traces(tmp_path: Path, array: Any, word: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, array)
    with pytest.raises(InputError, match=word) as caught:
        open_sessions(path)
    assert str(path) in str(caught.value.where)


def test_an_archive_without_a_matrix_lists_what_it_holds(tmp_path: Path) -> None:
    path = npz(tmp_path, a=np.zeros(3), b=np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match=r"holds no matrix of traces \(a \(3,\), b \(2, 2, 2\)\)"):
        open_sessions(path)


def test_pickles_inside_an_archive(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "p.npz"
    for content in (pickle.dumps({"a": 1}), _object_array()):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("neural.npy", npy_bytes(values))
            archive.writestr("meta.npy", content)
        with pytest.raises(InputError, match=r"pickle|Python objects") as caught:
            open_sessions(path)
        assert caught.value.where == f"{path}:meta"


def _object_array() -> bytes:
    target = io.BytesIO()
    np.save(target, np.array([{}], dtype=object), allow_pickle=True)
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"\x80\x04\x95rest", "Python pickle"),
        (b"\x80\x02]q\x00.", "Python pickle"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"\x00\x01\x02\x03", "is no session file"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        open_sessions(path)
    assert caught.value.where == str(path)


# HDF5 with a matrix at the root


def test_bare_hdf5_with_labels_links_and_texts(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "b.h5"
    with h5py.File(path, "w") as file:
        file["neural"] = values.astype(np.float32)
        file["lap"] = np.arange(300) // 50
        file["who"] = np.array(["a"] * 300, dtype=object)
        file["more/deep"] = np.arange(300)
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["elsewhere"] = h5py.ExternalLink("no.h5", "/x")
    session = only(path)
    assert list(session.labels) == ["lap"]
    assert isinstance(session.traces, np.memmap)
    assert np.array_equal(session.rows(slice(None)), values.astype(np.float32))


def test_an_hdf5_of_something_else_lists_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "b.h5"
    with h5py.File(path, "w") as file:
        file["pictures"] = np.zeros((2, 3, 4))
    with pytest.raises(InputError, match=r"holds no calcium traces \(it holds pictures\)"):
        open_sessions(path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(InputError, match=r"it holds nothing"):
        open_sessions(path)


# suite2p


def suite2p(folder: Path, **arrays: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.fixture(scope="module")
def raw() -> Any:
    return np.random.default_rng(2).random((4, 200)) + 5


def test_relative_fluorescence_is_the_formula(tmp_path: Path, raw: Any) -> None:
    neuropil = np.random.default_rng(3).random((4, 200))
    folder = suite2p(tmp_path / "fish" / "plane0", F=raw, Fneu=neuropil)
    session = only(folder, 15.0)
    assert session.name == "fish"  # plane0 says nothing
    assert session.rate_hz == 15.0
    # A slow loop over cells: F - 0.7 Fneu, its 8th percentile by sorting and interpolation.
    for cell in range(4):
        signal = raw[cell] - 0.7 * neuropil[cell]
        place = 0.08 * 199
        ordered = sorted(signal)
        low = ordered[int(place)]
        base = low + (place - int(place)) * (ordered[int(place) + 1] - low)
        expected = [(value - base) / base for value in signal]
        assert session.rows(slice(None))[:, cell] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_baseline_of_zero_gives_finite_numbers(tmp_path: Path) -> None:
    trace = np.zeros((2, 200))
    trace[:, 150:] = np.random.default_rng(0).random((2, 50))
    found = only(suite2p(tmp_path / "p", F=trace)).rows(slice(None))
    # F0 is 0, so a thousandth of the mean height stands for it.
    expected = trace / (1e-3 * trace.mean(1, keepdims=True))
    assert found == pytest.approx(expected.T, rel=1e-5)


def test_one_missing_frame_costs_no_cell(tmp_path: Path, raw: Any) -> None:
    holed = raw.copy()
    holed[1, 7] = np.nan
    session = only(suite2p(tmp_path / "p", F=holed))
    assert session.neurons == ("0", "1", "2", "3")
    # The base of the cell is that of its 199 finite frames (numpy's own nanpercentile).
    base = np.nanpercentile(holed[1], 8)
    assert session.rows(slice(0, 1))[0, 1] == pytest.approx((holed[1, 0] - base) / base, rel=1e-5)
    assert any("1 frames with NaN were filled" in text for text in session.repairs)


def test_a_cell_without_a_number_is_dropped(tmp_path: Path, raw: Any) -> None:
    holed = raw.copy()
    holed[2] = np.nan
    assert only(suite2p(tmp_path / "p", F=holed)).neurons == ("0", "1", "3")


@pytest.mark.parametrize(
    ("name", "array", "word"),
    [
        ("F", np.zeros(9), r"has shape \(9,\)"),
        ("F", np.zeros((4, 0)), r"has shape \(4, 0\)"),
        ("F", np.full((4, 9), "a"), "of <U1"),
        ("iscell", np.zeros((4, 2)), "accepts no cell"),
        ("iscell", np.full((4, 2), np.nan), "accepts no cell"),
        ("iscell", np.ones((3, 2)), r"has shape \(3, 2\) for 4 cells"),
        ("iscell", np.ones(4), r"has shape \(4,\)"),
        ("iscell", np.ones((4, 0)), r"has shape \(4, 0\)"),
        ("iscell", np.full((4, 2), "a"), "of <U1"),
        ("Fneu", np.ones((4, 199)), r"has shape \(4, 199\), F has \(4, 200\)"),
        ("Fneu", np.full((4, 200), "a"), "of <U1"),
    ],
)
def test_planes_that_do_not_fit(tmp_path: Path, raw: Any, name: str, array: Any, word: str) -> None:
    folder = suite2p(tmp_path / "p", **{"F": raw, name: array})
    with pytest.raises(InputError, match=word) as caught:
        open_sessions(folder)
    assert caught.value.where == str(folder / f"{name}.npy")


# What a path means


def test_sources_of_a_folder(tmp_path: Path, raw: Any) -> None:
    np.save(tmp_path / "b.npy", raw)
    (tmp_path / "a.h5").write_bytes(b"x")
    (tmp_path / ".hidden.h5").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    plane = suite2p(tmp_path / "mouse" / "suite2p" / "plane1", F=raw)
    assert is_suite2p(plane)
    assert find_sources(tmp_path) == [tmp_path / "a.h5", tmp_path / "b.npy", plane]
    assert find_sources(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_sources(tmp_path / "no")
    with pytest.raises(InputError, match="holds no session"):
        find_sources(tmp_path)
    with pytest.raises(InputError, match=r"holds no F.npy"):
        open_sessions(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_sessions(tmp_path / "no.h5")
