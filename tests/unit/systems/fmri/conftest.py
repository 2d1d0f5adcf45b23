"""A run on disk and a folder for what preparation makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_files import bold, write_nifti


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder."""
    path = tmp_path / "item"
    path.mkdir()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a small run as NIfTI."""
    return write_nifti(tmp_path / "run1.nii.gz", bold())
