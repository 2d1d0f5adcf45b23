"""What stands in the repository: the fixed top level, and nothing of the machine it was made on."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from source import ROOT

ALLOWED = {
    "neurocli",
    "tests",
    "completions",
    "examples",
    "pyproject.toml",
    "README.md",
    "LICENSE",
}
MACHINE = re.compile(r"/(?:work|farm|root)/")


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def test_top_level_is_fixed() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= ALLOWED


def test_no_path_of_a_machine() -> None:
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace")
        found = MACHINE.search(text)
        assert found is None or path.name == Path(__file__).name, f"{path}: {found}"


def test_packages_have_an_init() -> None:
    for path in (ROOT / "neurocli").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"
