"""What may be named: runs, experiments of any shape, splits and profiles; nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocli.core.errors import InputError
from neurocli.core.report.sources import collect_sources

WriteRun = Callable[..., Path]
SPLIT = {"schema": "neuro/split-report/1", "split": "s.json", "n": 3}


def test_an_experiment_stands_for_its_runs_however_deep(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("study/unet/seed_1")
    write_run("study/unet/seed_2")
    write_run("study/other_seed_1")
    (tmp_path / "study" / "config.yaml").write_text("{}")  # its own record makes it no run
    (tmp_path / "study" / "model_comparison.csv").write_text("x\n")
    found = collect_sources([tmp_path / "study"])
    assert [run.name for run in found.runs] == ["other_seed_1", "seed_1", "seed_2"]
    assert found.tables == {"model_comparison.csv": tmp_path / "study" / "model_comparison.csv"}


def test_a_judgement_inside_a_run_is_no_run(write_run: WriteRun) -> None:
    run = write_run()
    (run / "again").mkdir()
    (run / "again" / "metrics.json").write_text("{}")
    assert [found.name for found in collect_sources([run]).runs] == ["first"]


def test_splits_and_profiles_are_told_by_their_schema(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"schema": "neuro/split/1"}')
    (tmp_path / "s.json.report.json").write_text(json.dumps(SPLIT))
    profile = {"schema": "neuro/profile/1", "models": [{"model": "fmamba", "params": 1}]}
    (tmp_path / "any.json").write_text(json.dumps(profile))
    # The split and its report are the same thing.
    names = ["s.json", "s.json.report.json", "any.json"]
    found = collect_sources([tmp_path / name for name in names])
    assert [split.name for split in found.splits] == ["s.json"]
    assert found.splits[0].source == "s.json.report.json"
    assert list(found.profiles[0].models) == ["fmamba"]
    assert found.names == ["s.json"]


@pytest.mark.parametrize("text", ["{}", "[1]", "not json", '{"schema": "neuro/train/1"}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        collect_sources([path])


def test_a_split_without_its_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"schema": "neuro/split/1"}')
    with pytest.raises(InputError, match=r"s\.json\.report\.json is not beside"):
        collect_sources([path])


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        collect_sources([tmp_path / "none"])
