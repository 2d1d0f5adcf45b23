"""The manifest survives kills between and inside writes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from neurocli.core.data.manifest import Manifest, fingerprint
from neurocli.core.errors import InputError, NeuroError


@pytest.fixture
def manifest(tmp_path):
    return Manifest(tmp_path / "out" / "manifest.jsonl")


def test_the_last_line_of_a_subject_wins(manifest):
    assert manifest.records() == {}
    manifest.append({"subject": "b", "status": "failed"})
    manifest.append({"subject": "a", "status": "done"})
    manifest.append({"subject": "b", "status": "done", "shape": (2, 3)})
    assert manifest.records() == {
        "b": {"subject": "b", "status": "done", "shape": [2, 3]},
        "a": {"subject": "a", "status": "done"},
    }
    assert manifest.problems == []


def test_values_become_plain_json(manifest):
    manifest.append(
        {
            "subject": "ü\udcff\n",
            "mean": np.float32(1.5),
            "n": np.int64(3),
            "affine": np.eye(2),
            "tr_s": float("nan"),
            "stats": {"max": float("inf"), "files": ("a", "b")},
            "path": manifest.path.parent,
            "flag": np.bool_(True),
            "kinds": {"y", "x"},
        }
    )
    line = manifest.path.read_bytes()
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert (
        json.loads(line)
        == manifest.records()["ü\udcff\n"] | {}
        == {
            "subject": "ü\udcff\n",
            "mean": 1.5,
            "n": 3,
            "affine": [[1.0, 0.0], [0.0, 1.0]],
            "tr_s": None,
            "stats": {"max": None, "files": ["a", "b"]},
            "path": str(manifest.path.parent),
            "flag": True,
            "kinds": ["x", "y"],
        }
    )


def test_a_line_cut_at_any_byte_is_reported_and_harmless(manifest):
    manifest.append({"subject": "a", "status": "done"})
    whole = manifest.path.read_bytes()
    manifest.append({"subject": "b", "status": "done"})
    both = manifest.path.read_bytes()
    for length in range(len(whole) + 1, len(both)):
        manifest.path.write_bytes(both[:length])
        assert list(manifest.records()) == ["a"]
        assert manifest.problems == [f"{manifest.path}:2: the last line is cut short, left out"]
        manifest.append({"subject": "c", "status": "done"})
        found = manifest.records()
        # Only its newline was missing in the longest cut: then the line is whole again.
        assert list(found) == (["a", "b", "c"] if length == len(both) - 1 else ["a", "c"])


def test_foreign_lines_are_left_out_one_by_one(manifest):
    manifest.append({"subject": "a"})
    with manifest.path.open("ab") as handle:
        handle.write(b'\n\nnot json\n[1]\n{"status": 1}\n{"subject": 5}\n\xff\xfe\n')
        handle.write(b"[" * 100_000 + b"\n")
    manifest.append({"subject": "z"})
    assert list(manifest.records()) == ["a", "z"]
    assert [problem.split(":")[-2] for problem in manifest.problems] == [
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
    ]


def test_rewriting_sorts_and_keeps_the_newest(manifest):
    for subject, value in (("sub-10", 1), ("sub-2", 2), ("sub-10", 3)):
        manifest.append({"subject": subject, "value": value})
    manifest.rewrite()
    lines = [json.loads(line) for line in manifest.path.read_text().splitlines()]
    assert lines == [{"subject": "sub-10", "value": 3}, {"subject": "sub-2", "value": 2}]
    before = manifest.path.read_bytes()
    manifest.rewrite()
    assert manifest.path.read_bytes() == before
    manifest.rewrite({"x": {"subject": "x"}})
    assert list(manifest.records()) == ["x"]


def test_records_without_a_subject_are_refused(manifest):
    for record in ({}, {"subject": None}, {"subject": 3}):
        with pytest.raises(NeuroError, match="names no subject"):
            manifest.append(record)
    assert not manifest.path.exists()


def test_what_is_no_file_is_refused(manifest):
    manifest.path.mkdir(parents=True)
    with pytest.raises(InputError, match="is a folder"):
        manifest.records()
    with pytest.raises(NeuroError, match="cannot append"):
        manifest.append({"subject": "a"})


def test_an_empty_file_and_a_dead_link(manifest):
    manifest.path.parent.mkdir()
    manifest.path.touch()
    assert manifest.records() == {}
    manifest.path.unlink()
    manifest.path.symlink_to("nowhere/at/all")
    with pytest.raises(InputError, match="missing file"):
        manifest.records()


def _append_many(path, name):
    manifest = Manifest(path)
    for number in range(100):
        manifest.append({"subject": f"{name}-{number}", "text": "x" * 500})


def test_two_processes_lose_no_line(manifest):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_many, args=(manifest.path, n)) for n in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(manifest.records()) == 200
    assert manifest.problems == []


def _append_for_ever(path):
    manifest = Manifest(path)
    for number in range(10**6):
        manifest.append({"subject": f"sub-{number}", "text": "x" * 3000})


def test_a_killed_writer_loses_at_most_its_last_line(manifest):
    context = multiprocessing.get_context("fork")
    n_before = 0
    for delay_s in (0.02, 0.035, 0.05):
        worker = context.Process(target=_append_for_ever, args=(manifest.path,))
        worker.start()
        time.sleep(delay_s)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        found = manifest.records()
        assert len(found) >= n_before
        assert list(found) == [f"sub-{number}" for number in range(len(found))]
        assert all(record["text"] == "x" * 3000 for record in found.values())
        n_before = len(found)
    assert n_before > 0


def test_a_fingerprint_follows_content_options_and_version(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"12")
    b.write_bytes(b"3")
    options = {"scaling": "none", "tr_s": None, "mask": tmp_path / "m"}
    first = fingerprint([a, b], options, "1")
    os.utime(a, (0, 0))
    assert fingerprint([a, b], dict(reversed(options.items())), "1") == first
    others = {
        fingerprint([b, a], options, "1"),
        fingerprint([a], options, "1"),
        fingerprint([a, b], {**options, "scaling": "psc"}, "1"),
        fingerprint([a, b], options, "2"),
    }
    a.write_bytes(b"1")
    b.write_bytes(b"23")
    others.add(fingerprint([a, b], options, "1"))
    assert len(others | {first}) == 6
    with pytest.raises(InputError, match="does not exist"):
        fingerprint([tmp_path / "absent"], {}, "1")
