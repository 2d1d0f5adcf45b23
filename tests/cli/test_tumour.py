"""The tumour room from the shell: exit codes, hints, and what help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neurocli.systems.brats.synthetic import CohortSpec, write_tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_tree(tmp_path / "raw", "brats2021", CohortSpec(n_cases=3, shape=(16, 16, 12)))
    return tmp_path / "raw"


def test_a_bad_case_is_named_and_the_exit_code_is_3(neuro: Any, tree: Path, tmp_path: Path) -> None:
    next(tree.rglob("*00001_t1ce.nii")).unlink()
    answer = neuro("preprocess", "brats2021", tree, "-o", tmp_path / "out", "--json")
    assert answer.code == 3
    assert answer.json["done"] == 2
    ((name, reason),) = answer.json["failures"]
    assert name == "BraTS2021_00001"
    assert "no t1ce" in reason


def test_the_next_step_is_a_split(neuro: Any, tree: Path, tmp_path: Path) -> None:
    answer = neuro("preprocess", "brats2021", tree, "-o", tmp_path / "out")
    assert answer.code == 0
    assert "neuro split" in answer.err
    assert "convert-hdf5" not in answer.err


def test_options_of_preparation(neuro: Any, tree: Path, tmp_path: Path) -> None:
    words = ("preprocess", "brats2021", tree, "-o", tmp_path / "out")
    assert neuro(*words, "-s", "labels=et5").code == 2
    assert neuro(*words, "-s", "dtype=float16").code == 0


def test_raw_files_cannot_be_trained_on(neuro: Any, tree: Path, tmp_path: Path) -> None:
    answer = neuro("train", "unet3d_xs", "--data", tree, "-o", tmp_path / "run")
    assert answer.code == 1
    assert "neuro preprocess" in answer.err


def test_help_of_evaluate_names_the_windows(neuro: Any) -> None:
    text = neuro("evaluate", "--help").out
    for flag in ("--sliding-window", "--roi", "--overlap", "--blend", "--tta", "--empty"):
        assert flag in text


def test_data_of_another_room_are_refused(neuro: Any, tree: Path, tmp_path: Path) -> None:
    neuro("preprocess", "brats2021", tree, "-o", tmp_path / "out")
    answer = neuro("convert-hdf5", tmp_path / "out", "-o", tmp_path / "h5")
    assert answer.code == 2
    assert "not converted" in answer.err
