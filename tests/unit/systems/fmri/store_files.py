"""One small run and its store, for the tests of stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from run_files import AFFINE, ball

from neurocli.core.data.statistics import global_stats
from neurocli.systems.fmri.store import RunInfo, StoreForm, write_store

SHAPE = (7, 6, 5)
N = 9
MASK = ball(SHAPE, 0.45)
RANDOM = np.random.default_rng(3)
# Whole numbers below 2048 are exact in float16, int16 and float32 alike.
VALUES = RANDOM.integers(1, 2000, (N, int(MASK.sum()))).astype(np.float32)
DENSE = np.zeros((*SHAPE, N), dtype=np.float32)
DENSE[MASK] = VALUES.T
STATS = global_stats(lambda: [VALUES])

INFO = RunInfo(
    "sub-7_run-1", "sub-7", (*SHAPE, N), 0.72, AFFINE, "none", "file", "native", "f" * 64
)


def write(path: Path, layout: str = "packed", dtype: str = "float16", **more: Any) -> Path:
    more.setdefault("blocks", lambda: [VALUES[:4], VALUES[4:]])
    info = more.pop("info", INFO)
    form = StoreForm(layout, dtype, more.pop("compression", "none"))
    write_store(path, info, mask=MASK, stats=STATS, form=form, **more)
    return path
