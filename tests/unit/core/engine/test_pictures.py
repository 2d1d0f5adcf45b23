"""Pictures leave the rows before rows become tables, and stay small."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurocli.core.engine.pictures import take_pictures


def test_rows_lose_their_pictures() -> None:
    rows: list[dict[str, Any]] = [{"a": 1, "picture": {"x": np.ones(2)}}, {"a": 2}]
    found = take_pictures(rows)
    assert list(found) == ["x"]
    assert rows == [{"a": 1}, {"a": 2}]


def test_what_would_be_large_is_left_out() -> None:
    large = np.zeros((8 << 20) + 1, dtype=np.uint8)
    rows: list[dict[str, Any]] = [
        {"picture": {"small": np.zeros(8)}},
        {"picture": {"large": large}},
    ]
    assert list(take_pictures(rows)) == ["small"]
