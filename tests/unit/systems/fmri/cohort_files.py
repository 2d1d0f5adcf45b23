"""A small cohort on disk, with values that tests can compute themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurocli.core.data.statistics import global_stats
from neurocli.core.paths import durable_json
from neurocli.systems.fmri.store_base import RunInfo
from neurocli.systems.fmri.store_write import StoreForm, write_store

SHAPE = (5, 4, 3)


def values_of(index: int, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (T, V) values and the mask (X, Y, Z) of one synthetic person."""
    random = np.random.default_rng(index)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:4, 1:3] = True
    mask[0, 0, 0] = index % 2 == 0
    mean = 1000 + 100 * random.standard_normal(mask.sum())
    noise = 10 * random.standard_normal((n_frames, mask.sum()))
    return (mean + noise).astype(np.float32), mask


def write_run(
    folder: Path,
    index: int,
    *,
    n_frames: int = 12,
    scaling: str = "none",
    tr_s: float = 2.0,
    spacing_mm: float = 3.0,
    **names: str,
) -> Path:
    """Write one run as a packed file; return its path."""
    values, mask = values_of(index, n_frames)
    subject = names.get("subject", f"s{index:02d}")
    info = RunInfo(
        subject=subject,
        participant=names.get("participant", subject),
        shape=(*SHAPE, n_frames),
        tr_s=tr_s,
        affine=np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]),
        scaling=scaling,
        mask_source="computed",
        space="native",
        source_sha256="0" * 64,
    )
    path = folder / f"{subject}.h5"
    write_store(
        path,
        info,
        mask=mask,
        blocks=lambda: [values],
        stats=global_stats(lambda: [values]),
        form=StoreForm("packed", "float32"),
    )
    return path


def write_cohort(
    folder: Path,
    n: int,
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    n_frames: int = 12,
    first: int = 0,
    **how: Any,
) -> Path:
    """Write n people with phenotypes, as `write_run` writes them; return the folder.

    Args:
        folder: Where.
        n: How many.
        columns: Name -> one cell per person.
        n_frames: Of each run.
        first: Number of the first one's values; names start at s00 all the same.
        **how: For `write_run`.
    """
    for index in range(n):
        write_run(folder, first + index, n_frames=n_frames, subject=f"s{index:02d}", **how)
    if columns is not None:
        lines = ["\t".join(["participant_id", *columns])]
        for index in range(n):
            cells = [str(values[index]) for values in columns.values()]
            lines.append("\t".join([f"s{index:02d}", *cells]))
        (folder / "participants.tsv").write_text("\n".join(lines) + "\n")
    return folder


def mark_built_in(folder: Path) -> None:
    """Mark a folder as made from built-in data."""
    durable_json(folder / "dataset.json", {"room": "fmri", "built_in_data": True})
