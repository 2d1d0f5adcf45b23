"""The main job through the shell's own door, on a small built-in cohort, nothing replaced."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

COHORT = ["-s", "n_subjects=12", "-s", "n_frames=16"]
SMALL = [
    *("-p", "fmri/tiny", "-s", "model.embed_dim=16", "-s", "model.depth=1"),
    *("-s", "data.sequence_length=8"),
]


@pytest.mark.slow
def test_from_raw_files_to_a_report(
    neuro: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = neuro("preprocess", "dummy", "-o", "raw", *COHORT, "-q")
    assert (raw.code, raw.out) == (0, "raw\n"), raw.err
    h5 = neuro("convert-hdf5", "raw", "-o", "h5", "--json")
    assert (h5.code, h5.json["done"], h5.json["failed"]) == (0, 12, 0), h5.err
    again = neuro("convert-hdf5", "raw", "-o", "h5", "--json").json
    assert (again["done"], again["skipped"]) == (0, 12)
    split = neuro("split", "h5", "-o", "split.json", "--group", "family", "--json")
    assert split.code == 0, split.err
    assert split.json["groups"] == {"split": 0}
    assert sum(split.json["counts"].values()) == 12

    data = ["--data", "h5", "--split", "split.json"]
    first = neuro("train", "fmamba", "--pretrain", "ar", *data, *SMALL, "--steps", 6, "-o", "run",
                  "--json")  # fmt: skip
    assert first.code == 0, first.err
    assert first.json["steps"] == 6
    checkpoint = first.json["checkpoint"]
    assert Path(checkpoint).is_file()
    assert first.json["built_in_data"] is True
    judged = neuro("evaluate", checkpoint, "--data", "h5", "--json")
    assert judged.code == 0, judged.err
    assert {"loss", "skill_vs_persistence"} <= set(judged.json["metrics"])
    assert math.isfinite(judged.json["metrics"]["loss"])
    assert judged.json["n"] >= 1

    second = neuro("train", "fmamba_mlp", "--task", "sex", *data, *SMALL, "--steps", 4,
                   "--init-from", checkpoint, "-o", "head", "-q")  # fmt: skip
    assert second.code == 0, second.err
    text = neuro("evaluate", second.out.strip(), "--part", "all")
    assert text.code == 0, text.err
    assert "accuracy" in text.out
    assert "95 % interval" in text.out
    page = neuro("report", "run", "head", "-o", "report.html", "--json")
    assert page.code == 0, page.err
    assert Path(page.json["out"]).read_text(encoding="utf-8").startswith("<!")


def test_one_bad_file_is_code_3_the_rest_is_kept(neuro: Any, tmp_path: Path, real: Path) -> None:
    good = sorted((real / "fmri").rglob("*_bold.nii.gz"))[0]
    bad = tmp_path / "cut[red]off.nii.gz"
    bad.write_bytes(good.read_bytes()[:2000])
    answer = neuro("preprocess", "nifti", good, bad, "-o", tmp_path / "out", "--json")
    assert answer.code == 3, answer.err
    assert (answer.json["done"], answer.json["failed"]) == (1, 1)
    assert "cut[red]off: " in answer.err
    lines = (tmp_path / "out" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["status"] for line in lines} == {"done", "failed"}


def test_nothing_usable_is_code_1(neuro: Any, tmp_path: Path) -> None:
    bad = tmp_path / "empty.nii"
    bad.write_bytes(b"")
    answer = neuro("preprocess", "nifti", bad, "-o", tmp_path / "out")
    assert answer.code == 1
    assert "empty" in answer.err
    assert len([line for line in answer.err.splitlines() if line.startswith("error:")]) == 1


@pytest.fixture
def raw(neuro: Any, tmp_path: Path) -> Path:
    """Return a prepared folder of four made-up subjects."""
    folder = tmp_path / "raw"
    words = ["-s", "n_subjects=4", "-s", "n_frames=8"]
    assert neuro("preprocess", "dummy", "-o", folder, *words).code == 0
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["preprocess", "dummy", "-o", "new"],
        ["convert-hdf5", "raw", "-o", "new"],
        ["split", "raw", "-o", "new"],
        ["train", "fmamba", "--pretrain", "ar", "--data", "raw", "-o", "new", *SMALL],
        ["presets", "copy", "fmri/tiny", "-o", "new"],
    ],
    ids=lambda words: words[0],
)
def test_dry_runs_write_nothing(
    neuro: Any, raw: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(raw.parent)
    before = sorted(raw.parent.rglob("*"))
    answer = neuro(*words, "--dry-run", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["plan"]
    assert neuro(*words, "--dry-run").out.startswith(("Nothing was written", "would copy"))
    assert sorted(raw.parent.rglob("*")) == before


def test_an_output_of_something_else_is_refused(neuro: Any, raw: Path) -> None:
    answer = neuro("preprocess", "dummy", "-o", raw, "-s", "n_subjects=6")
    assert answer.code == 2
    assert "--force" in answer.err
