"""What must start fast imports nothing heavy, seen in `sys.modules` of a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neurocli.cli.app import COMMANDS

HEAVY = (
    *("torch", "numpy", "pandas", "h5py", "nibabel", "monai", "sklearn", "scipy", "matplotlib"),
    *("deepspeed", "nilearn", "jinja2", "mpi4py"),
)

PROGRAM = """
import json, sys
from neurocli.cli.main import main
for words in json.loads(sys.argv[1]):
    if main(words) != 0:
        sys.exit(f"{words} failed")
found = sorted(name for name in sys.argv[2].split(",") if name in sys.modules)
print("HEAVY:" + json.dumps(found))
"""

GROUPS = {"models": ("list", "show"), "presets": ("list", "show", "copy"),
          "config": ("show", "validate")}  # fmt: skip


def _heavy_after(lines: list[list[str]], root: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(lines), ",".join(HEAVY)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.rpartition("HEAVY:")[2])
    return found


def test_the_root_page(root: Path) -> None:
    assert _heavy_after([["--help"]], root) == []
    assert _heavy_after([["--version"]], root) == []


@pytest.mark.parametrize("name", [row.name for row in COMMANDS])
def test_the_page_of_a_command(name: str, root: Path) -> None:
    pages = [[name, "--help"], *([name, verb, "--help"] for verb in GROUPS.get(name, ()))]
    assert _heavy_after(pages, root) == []


def test_lists_and_configurations(root: Path) -> None:
    lines = [
        ["models", "list"],
        ["models", "list", "--json"],
        ["models", "show", "fmamba"],
        ["presets", "list"],
        ["presets", "show", "fmri/tiny"],
        ["config", "show", "fmamba", "-p", "fmri/tiny"],
        ["flops", "fmamba"],
    ]
    assert _heavy_after(lines, root) == []


def test_the_package_itself(root: Path) -> None:
    program = (
        "import sys, neurocli\n"
        "dir(neurocli); neurocli.list_models(); neurocli.list_presets(); neurocli.__version__\n"
        f"sys.exit(str([name for name in {HEAVY!r} if name in sys.modules] or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


def test_the_root_page_imports_no_command(root: Path) -> None:
    program = (
        "import sys\n"
        "from neurocli.cli.main import main\n"
        "main(['--help'])\n"
        "sys.exit(str([name for name in sys.modules if name.startswith('neurocli.cli.commands.')"
        " or name.split('.')[0] in ('rich', 'pydantic', 'yaml')] or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""
