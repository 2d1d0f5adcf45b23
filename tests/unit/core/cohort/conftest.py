"""Make the helpers of this folder importable, as `split_tables`, and hand out a table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a table of eighty made-up people."""
    from split_tables import cohort, write_table

    return write_table(tmp_path / "people.csv", cohort())
