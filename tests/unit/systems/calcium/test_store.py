"""Stored sessions: what is written comes back, and what was damaged since is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurocli import preprocess
from neurocli.core.errors import InputError, UsageError
from neurocli.systems.calcium.discover import find_allen
from neurocli.systems.calcium.dummy import built_in_sessions, opened
from neurocli.systems.calcium.prepare import process_session
from neurocli.systems.calcium.read import open_sessions
from neurocli.systems.calcium.session import PARTS, Session
from neurocli.systems.calcium.store import is_stored, read_stored, write_stored
from neurocli.systems.calcium.synthetic import CohortSpec, simulate

SPEC = CohortSpec(n_neurons=(5,), n_frames=30, n_repeats=10, n_trials=0)


@pytest.fixture(scope="module")
def session() -> Session:
    return opened(simulate(SPEC, 0))


@pytest.fixture
def folder(session: Session, tmp_path: Path) -> Path:
    write_stored(session, tmp_path)
    return tmp_path


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "session.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_everything_comes_back(session: Session, folder: Path) -> None:
    found = read_stored(folder)
    assert found.rows(slice(None)).tobytes() == session.rows(slice(None)).tobytes()
    for key in ("name", "rate_hz", "start_s", "neurons", "layout", "split", "stimuli", "repairs"):
        assert getattr(found, key) == getattr(session, key), key
    for part in PARTS:
        assert np.array_equal(found.segments[part], session.segments[part])
    assert set(found.labels) == set(session.labels)
    for name, values in session.labels.items():
        assert found.labels[name].dtype == values.dtype
        assert np.array_equal(found.labels[name], values, equal_nan=values.dtype.kind == "f")


def test_the_traces_are_a_map_that_nobody_can_write(folder: Path) -> None:
    found = read_stored(folder)
    assert found.mapped_bytes == 300 * 5 * 4  # frames, neurons, bytes of a float32
    with pytest.raises(ValueError, match="read-only"):
        found.traces[0, 0] = 1.0
    rows = found.rows(slice(0, 3))
    rows += 1.0  # what is handed out is the caller's own
    assert not np.array_equal(found.rows(slice(0, 3)), rows)


def test_writing_twice_gives_the_same_bytes(session: Session, folder: Path) -> None:
    names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    before = {path: path.read_bytes() for path in names}
    told = write_stored(session, folder)
    assert {path: path.read_bytes() for path in names} == before
    assert sorted(told) == sorted(str(path.relative_to(folder)) for path in names)
    assert told[0] == "session.json"


def test_only_the_used_neurons_are_stored(session: Session, tmp_path: Path) -> None:
    some = replace(session, columns=np.array([0, 3]), neurons=("a", "d"),
                   is_tuned=np.array([True, False]))  # fmt: skip
    write_stored(some, tmp_path)
    found = read_stored(tmp_path)
    assert found.neurons == ("a", "d")
    assert found.is_tuned is not None
    assert found.is_tuned.tolist() == [True, False]
    assert np.array_equal(found.traces, session.traces[:, [0, 3]])


def test_labels_with_odd_names_get_safe_files(session: Session, tmp_path: Path) -> None:
    values = np.arange(300, dtype=np.float32)
    write_stored(replace(session, labels={"../lick rate": values}), tmp_path)
    assert [p.name for p in (tmp_path / "labels").iterdir()] == [".._lick_rate.npy"]
    assert np.array_equal(read_stored(tmp_path).labels[".._lick_rate"], values)


def test_labels_that_would_share_a_file_are_refused(session: Session, tmp_path: Path) -> None:
    labels = {"a b": np.zeros(300), "a_b": np.ones(300)}
    with pytest.raises(InputError, match="two labels that are 'a_b'"):
        write_stored(replace(session, labels=labels), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda r: r.update(schema="other/1"), "'other/1', neuro/calcium-session/1 is needed"),
        (lambda r: r.pop("name"), "no sound description: 'name'"),
        (lambda r: r.update(rate_hz=0), "rate_hz is 0.0"),
        (lambda r: r.update(rate_hz=-30), "rate_hz is -30.0"),
        (lambda r: r.update(rate_hz="fast"), "could not convert"),
        (lambda r: r.update(is_tuned=[True]), "is_tuned is no list of 5 truths"),
        (lambda r: r.update(is_tuned=[0] * 5), "is_tuned is no list of 5 truths"),
        (lambda r: r.update(segments=[1]), "no sound description"),
        (lambda r: r["segments"].update(train=[[1, 2, 3]]), "no sound description"),
        (lambda r: r["segments"].update(train="abc"), "no sound description"),
        (lambda r: r["segments"].update(train=[[-5, 10]]), "'train' outside the 300 frames"),
        (lambda r: r["segments"].update(test=[[290, 301]]), "'test' outside the 300 frames"),
        (lambda r: r["segments"].update(train=[[20, 10]]), "'train' that run backward"),
        (lambda r: r["segments"].update(train=[[0, 9], [5, 12]]), "backward or overlap"),
        (lambda r: r["segments"].update(train=[[0, 50]], val=[[49, 60]]), "share frame 49"),
        (lambda r: r.update(labels=[3]), "labels is no list of texts"),
        (lambda r: r.update(labels=None), "labels is no list of texts"),
        (lambda r: r.update(labels=["../secret"]), "which is no file name"),
        (lambda r: r.update(neurons="abcde"), "neurons is no list of texts"),
        (lambda r: r.update(stimuli=["movie"]), "no sound description"),
        (lambda r: r.update(repairs=[1]), "repairs is no list of texts"),
    ],
)
def test_descriptions_that_are_not_sound(folder: Path, change: Any, word: str) -> None:
    edit(folder, change)
    with pytest.raises(InputError, match=word) as caught:
        read_stored(folder)
    assert caught.value.where == str(folder / "session.json")


@pytest.mark.parametrize(
    ("name", "array", "word"),
    [
        ("traces", np.zeros((300, 4), np.float32), r"\(300, 4\), which session.json does not"),
        ("traces", np.zeros((300, 5)).astype("U3"), "of <U3"),
        ("traces", np.zeros(300), r"has shape \(300,\)"),
        ("traces", np.float32(1), r"has shape \(\)"),
        ("labels/truth", np.zeros(299), r"has shape \(299,\)"),
        ("labels/truth", np.float32(0), r"has shape \(\)"),
        ("labels/truth", np.zeros((300, 1, 1)), r"has shape \(300, 1, 1\)"),
        ("labels/truth", np.zeros(300).astype("U3"), "of <U3"),
    ],
)
def test_arrays_that_do_not_fit(folder: Path, name: str, array: Any, word: str) -> None:
    np.save(folder / f"{name}.npy", array)
    with pytest.raises(InputError, match=word) as caught:
        read_stored(folder)
    assert caught.value.where == str(folder / f"{name}.npy")


def test_files_that_are_cut_or_gone(folder: Path) -> None:
    traces = folder / "traces.npy"
    content = traces.read_bytes()
    traces.write_bytes(content[:-5])
    with pytest.raises(InputError, match="is cut short: 5995 of 6000 bytes"):
        open_sessions(folder)
    traces.unlink()
    with pytest.raises(InputError, match="does not exist") as caught:
        open_sessions(folder)
    assert caught.value.where == str(traces)
    (folder / "session.json").write_text('{"schema": ')
    with pytest.raises(InputError, match="is no sound JSON"):
        open_sessions(folder)


def test_segments_that_touch_are_sound(folder: Path) -> None:
    edit(folder, lambda r: r["segments"].update(train=[[0, 50], [50, 60]], val=[[60, 61]]))
    assert read_stored(folder).segments["train"].tolist() == [[0, 50], [50, 60]]


# Preparing


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a folder with two sessions in one archive and a third in another."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "raw"
    folder.mkdir()
    np.savez(folder / "a.npz", u=rng.normal(size=(300, 4)), v=rng.normal(size=(200, 3)))
    np.save(folder / "b.npy", rng.normal(size=(250, 2)))
    return folder


def test_a_prepared_session_tells_its_size_and_clock(sources: Path, tmp_path: Path) -> None:
    found = find_allen([sources / "a.npz"], {"rate_hz": 12.5})
    assert [item.subject for item in found.items] == ["a-u", "a-v"]
    target = tmp_path / "one"
    target.mkdir()
    told = process_session(found.items[1], target, {"rate_hz": 12.5})
    assert told["shape"] == [200, 3]
    assert told["tr_s"] == pytest.approx(0.08)  # 1 / 12.5 Hz
    # 200 frames: train to 140, val from 140 + 12 to 160, test from 160 + 12 (round(12.5) is 12).
    assert told["stats"] == {"train": 140, "val": 8, "test": 28}


def test_a_rerun_does_only_what_changed(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = preprocess("allen", sources, out=out)
    assert (first.done, first.skipped, first.failed) == (3, 0, 0)
    again = preprocess("allen", sources, out=out)
    assert (again.done, again.skipped) == (0, 3)
    stamp = (out / "a-u" / "traces.npy").stat().st_mtime_ns
    np.save(sources / "b.npy", np.random.default_rng(9).normal(size=(250, 2)))
    third = preprocess("allen", sources, out=out)
    assert (third.done, third.skipped) == (1, 2)
    assert (out / "a-u" / "traces.npy").stat().st_mtime_ns == stamp
    expected = np.load(sources / "b.npy").astype(np.float32)
    assert np.array_equal(read_stored(out / "b").traces, expected)


def test_a_bad_file_costs_only_itself(sources: Path, tmp_path: Path) -> None:
    np.save(sources / "bad.npy", np.zeros((30, 2)))
    result = preprocess("allen", sources, out=tmp_path / "out")
    assert (result.done, result.failed) == (3, 1)
    ((name, reason),) = result.failures
    assert name == "bad.npy"
    assert "all 2 neurons are constant" in reason
    assert sum(is_stored(path) for path in (tmp_path / "out").iterdir()) == 3


def test_two_files_of_one_name_are_refused(sources: Path, tmp_path: Path) -> None:
    np.savez(sources / "b.npz", neural=np.random.default_rng(1).normal(size=(90, 2)))
    with pytest.raises(UsageError, match="2 inputs have the id 'b'"):
        preprocess("allen", sources, out=tmp_path / "out")


def test_what_was_prepared_opens_like_its_source(sources: Path, tmp_path: Path) -> None:
    preprocess("allen", sources, out=tmp_path / "out")
    by_name = {session.name: session for session in open_sessions(sources / "a.npz")}
    for name, source in by_name.items():
        (stored,) = open_sessions(tmp_path / "out" / name)
        assert np.array_equal(stored.traces, source.rows(slice(None)))
        assert stored.split == source.split


def test_the_built_in_cohort_is_the_specified_one() -> None:
    sessions = built_in_sessions(replace(SPEC, n_neurons=(5, 7)))
    assert [session.name for session in sessions] == ["synthetic-1", "synthetic-2"]
    assert [session.traces.shape for session in sessions] == [(300, 5), (300, 7)]
    assert "truth" in sessions[0].labels
