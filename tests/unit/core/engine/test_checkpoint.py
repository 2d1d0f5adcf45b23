"""Checkpoints: whole or absent, two generations, nothing but plain values."""

from __future__ import annotations

import errno
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurocli.core.engine import checkpoint as module
from neurocli.core.engine.checkpoint import (
    SCHEMA,
    check_plain,
    load_checkpoint,
    load_latest,
    save_checkpoint,
)
from neurocli.core.errors import InputError, NeuroError


def _payload(step: int = 1) -> dict[str, Any]:
    return {
        "state_dict": {"weight": torch.arange(6.0).reshape(2, 3) + step},
        "progress": {"step": step},
        "config": {"train": {"betas": [0.9, 0.99]}, "name": "Jürgen", "none": None},
    }


def test_round_trip(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "deep" / "last.pth", _payload())
    found = load_checkpoint(path)
    assert found["schema"] == SCHEMA
    assert torch.equal(found["state_dict"]["weight"], _payload()["state_dict"]["weight"])
    assert {key: found[key] for key in ("progress", "config")} == {
        key: _payload()[key] for key in ("progress", "config")
    }
    assert list(path.parent.iterdir()) == [path]


def test_torch_itself_still_opens_it(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "last.pth", _payload())
    assert torch.load(path, weights_only=True)["progress"] == {"step": 1}


def test_same_payload_same_bytes(tmp_path: Path) -> None:
    one = save_checkpoint(tmp_path / "a" / "last.pth", _payload()).read_bytes()
    assert save_checkpoint(tmp_path / "b" / "best.pth", _payload()).read_bytes() == one


@pytest.mark.parametrize(
    ("value", "place", "kind"),
    [
        ({"a": [1, {"b": np.float64(1.0)}]}, r"x\.a\[1\]\.b", "float64"),
        ({"path": Path("x")}, r"x\.path", "PosixPath"),
        ({"names": {"a"}}, r"x\.names", "set"),
        ({1.5: "x"}, "x", "key is a float"),
        ((lambda: 0,), r"x\[0\]", "function"),
    ],
)
def test_other_objects_are_refused_where_they_are(value: Any, place: str, kind: str) -> None:
    with pytest.raises(NeuroError, match=rf"^{place}: .*{kind}"):
        check_plain(value, where="x")


def test_refused_payload_leaves_the_old_file(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "last.pth", _payload(1))
    with pytest.raises(NeuroError, match="ndarray"):
        save_checkpoint(path, {**_payload(2), "mean": np.zeros(2)}, keep_previous=True)
    assert load_checkpoint(path)["progress"] == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_two_generations_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path / "last.pth", _payload(step), keep_previous=True)
    steps = {p.name: load_checkpoint(p)["progress"]["step"] for p in tmp_path.iterdir()}
    assert steps == {"last.pth": 3, "last.prev.pth": 2}


def test_two_generations_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    test_two_generations_are_kept(tmp_path)


def test_full_disk_keeps_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path / "last.pth", _payload(step), keep_previous=True)

    original = Path.open

    def on_a_full_disk(path: Path, mode: str = "r", **options: Any) -> Any:
        return original(Path("/dev/full") if "w" in mode else path, mode, **options)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with pytest.raises(NeuroError, match=r"last\.pth: cannot write: No space left"):
        save_checkpoint(tmp_path / "last.pth", _payload(3), keep_previous=True)
    monkeypatch.undo()
    steps = {p.name: load_checkpoint(p)["progress"]["step"] for p in tmp_path.iterdir()}
    assert steps == {"last.pth": 2, "last.prev.pth": 1}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"schema": "neuro/checkpoint/9", "state_dict": {}}, "schema is 'neuro/checkpoint/9'"),
        ({"state_dict": {}}, "weights of another program"),
        ([1, 2], "weights of another program"),
        ({"schema": SCHEMA, "state_dict": [1]}, "has no 'state_dict'"),
    ],
)
def test_foreign_content_is_named(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "foreign.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=rf"foreign\.pth: .*{problem}"):
        load_checkpoint(path)


def test_latest_falls_back_and_says_so(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    for step in (1, 2):
        save_checkpoint(tmp_path / "last.pth", _payload(step), keep_previous=True)
    found = load_latest(tmp_path)
    assert found is not None
    assert (found[0].name, found[1]["progress"]["step"], found[2]) == ("last.pth", 2, [])
    content = (tmp_path / "last.pth").read_bytes()
    (tmp_path / "last.pth").write_bytes(content[: len(content) // 2])
    found = load_latest(tmp_path)
    assert found is not None
    assert (found[0].name, found[1]["progress"]["step"]) == ("last.prev.pth", 1)
    assert found[2] == [
        "last.pth is cut short or damaged at its end; the run goes on from the one saved before it"
    ]
    (tmp_path / "last.prev.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"no checkpoint can be read: .*cut short.*is empty"):
        load_latest(tmp_path)


def test_latest_without_the_newest_takes_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.prev.pth", _payload(4))
    found = load_latest(tmp_path)
    assert found is not None
    assert found[1]["progress"]["step"] == 4


def _save_for_ever(folder: Path) -> None:
    big = torch.zeros(200_000)
    for step in range(1_000_000):
        payload = {"state_dict": {"weight": big + step}, "progress": {"step": step}}
        save_checkpoint(folder / "last.pth", payload, keep_previous=True)


def test_kill_while_saving_never_leaves_a_torn_checkpoint(tmp_path: Path) -> None:
    rng = random.Random(0)
    for trial in range(20):
        folder = tmp_path / str(trial)
        child = os.fork()
        if child == 0:
            _save_for_ever(folder)
        while not (folder / "last.prev.pth").exists():
            pass
        for _ in range(int(rng.random() * 30_000)):
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        steps = []
        for name in ("last.pth", "last.prev.pth"):
            payload = load_checkpoint(folder / name)
            weight = payload["state_dict"]["weight"]
            assert bool((weight == payload["progress"]["step"]).all())
            steps.append(payload["progress"]["step"])
        assert steps[0] - steps[1] in (0, 1)


def test_names_are_the_documented_ones() -> None:
    assert (module.LAST, module.PREVIOUS, module.BEST) == ("last.pth", "last.prev.pth", "best.pth")
