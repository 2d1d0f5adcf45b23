"""Every script in examples/ runs on built-in data."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from shell import environment, needs_neuro, run

# What makes a script short: options that it hands on. The values are words its output must hold.
SHORT = {
    "03_matched_cohort.sh": ("", "matched.json.report.html"),
    "04_tumours.sh": ("--steps 2", "dice_wt"),
    "05_calcium.sh": ("--steps 2", '"consistency"'),
    "06_genes.sh": ("--permutations 100", "r_at_1"),
    "python_api.py": ("", "FMamba with"),
}
QUICKSTART = ("01_fmri_pretrain.sh", "02_fmri_downstream.sh")


@pytest.fixture(scope="module")
def command_line() -> None:
    needs_neuro()


def test_every_example_is_run_here(root: Path) -> None:
    found = {path.name for path in (root / "examples").glob("[0-9p]*.[ps]*")}
    assert found == {*SHORT, *QUICKSTART}
    text = (root / "examples" / "quickstart.sh").read_text(encoding="utf-8")
    assert all(name in text for name in QUICKSTART)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_an_example_runs(root: Path, tmp_path: Path, command_line: None, name: str) -> None:
    options, words = SHORT[name]
    program = f"'{sys.executable}'" if name.endswith(".py") else "bash"
    env = {**environment(root, tmp_path), "NEURO_EXAMPLE_OUT": "out"}
    done = run(f"{program} '{root}/examples/{name}' {options}", tmp_path / "here", env)
    assert words in done.stdout


@pytest.mark.slow
def test_the_quickstart_ends_with_its_page(root: Path, tmp_path: Path, command_line: None) -> None:
    env = {**environment(root, tmp_path), "NEURO_VENV": str(Path(sys.executable).parents[1])}
    done = run(f"bash '{root}/examples/quickstart.sh' out", tmp_path / "here", env)
    report = Path(done.stdout.strip().splitlines()[-1].removeprefix("report: "))
    assert report.is_file()
    accuracy = float(re.findall(r'"accuracy": ([\d.]+)', done.stdout)[-2])
    assert accuracy >= 0.9  # the bar of the downstream preset
