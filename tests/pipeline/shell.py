"""Shell commands as a reader of the README runs them: `neuro` on PATH, a home of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def environment(root: Path, home: Path) -> dict[str, str]:
    binaries = Path(sys.executable).parent
    return {
        **os.environ,
        "HOME": str(home),
        "NEURO_CACHE": str(home / "cache"),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
    }


def run(script: str, where: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    where.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=where,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def needs_neuro() -> None:
    """Skip where `neuro` is not installed, as when the tests run from a bare source tree."""
    if not (Path(sys.executable).parent / "neuro").exists():
        pytest.skip("neuro is not installed in this environment: bash tests/run.sh installs it")
