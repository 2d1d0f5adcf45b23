"""Differences of an experiment on the page: what its record says, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurocli.core.experiment.contest import write_comparison
from neurocli.core.metrics.contest import hold_contest
from neurocli.core.report.differences import read_differences
from neurocli.core.report.material import Material
from neurocli.core.report.page import page_of
from neurocli.core.report.sources import collect_sources

WriteRun = Callable[..., Path]


@pytest.fixture
def study(write_run: WriteRun, tmp_path: Path) -> Path:
    for name in ("fmamba_mlp", "fmamba"):
        write_run(f"study/{name}_seed_1", model=name)
    scores = {"fmamba_mlp": np.array([0.5, 0.75, 1.0]), "fmamba": np.array([0.25, 0.5, 0.75])}
    write_comparison(tmp_path / "study", [hold_contest("accuracy", scores, ["a", "b", "c"])])
    return tmp_path / "study"


def test_the_page_shows_them_with_their_intervals(study: Path) -> None:
    # Every case differs by 0.25, so every resample does.
    found = read_differences(study)
    (row,) = found.rows
    assert row[1:] == ("fmamba_mlp", "fmamba", "3", "0.25", "0.25 to 0.25")
    page = page_of(Material(collect_sources([study])))
    assert "Differences with intervals" in page
    assert "0.25 to 0.25" in page
    assert "study/comparison.json" in page


def test_a_damaged_record_is_told(study: Path) -> None:
    (study / "comparison.json").write_text('{"metrics": {"accuracy": {"pairs": [')
    page = page_of(Material(collect_sources([study])))
    assert "Differences with intervals" not in page
    assert "comparison.json: not one whole JSON object" in page


def test_runs_without_an_experiment_have_none(write_run: WriteRun) -> None:
    assert Material(collect_sources([write_run()])).differences is None
