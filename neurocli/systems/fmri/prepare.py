"""Turn one raw run into the standard file: brain voxels, frame by frame, with what is known of it.

Where the first frame of a run shows that everything but brain was set to zero, that frame's mask
is taken and every later frame is held against it, so that the file is inflated once; else a pass
before finds the brain. Memory is that of a few frames. Intensities stay raw unless a scaling is
asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurocli.core.data.frames import write_frames, write_stats
from neurocli.core.data.geometry import doubtful_size
from neurocli.core.data.items import Item
from neurocli.core.errors import InputError
from neurocli.core.paths import durable_json
from neurocli.systems.fmri.brain import Brain, RunJob, find_brain, guess_brain, output_grid
from neurocli.systems.fmri.config import PreprocessOptions
from neurocli.systems.fmri.qc_figure import draw_quality
from neurocli.systems.fmri.quality import PER_FRAME, quality
from neurocli.systems.fmri.rows import OutsideMaskError
from neurocli.systems.fmri.series import open_series
from neurocli.systems.fmri.store import open_store
from neurocli.systems.fmri.store_base import Float32, RunInfo, RunStore
from neurocli.systems.fmri.write_run import WrittenRun, write_run

FORMAT_VERSION = "fmri-run/5"
"""Changes whenever the output of `process_run` does, the painted runs of `dummy` included."""

RUN_FILE, QC_FILE = "bold.h5", "qc.json"
_TR_TOLERANCE = 1e-3


def process_run(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Process one run into a folder.

    Args:
        item: From a finder of this room.
        folder: Private and empty; gets `bold.h5` (packed), `qc.json` and, when asked for,
            `frame_{i}.pt` with `global_stats.pt`.
        options: Values of `PreprocessOptions`.

    Returns:
        Fields for the manifest.

    Raises:
        InputError: The source or the mask is damaged, of another kind or of another grid, holds
            NaN or Inf, or nothing but one value.
        NeuroError: No brain was found, or a scaling cannot be applied.
    """
    settings = PreprocessOptions.model_validate(dict(options))
    series = open_series(item)
    if series.scaling != "none" and settings.scaling != "none":
        raise InputError(
            series.path, f"is already scaled ({series.scaling})", "choose --scaling none"
        )
    grid = output_grid(series, settings)
    guess = guess_brain(RunJob(item, settings, series, grid))
    if guess is not None:
        # The mask that the whole run tells may be another one.
        with contextlib.suppress(OutsideMaskError):
            return _process(RunJob(item, settings, series, grid), folder, guess)
    job = RunJob(item, settings, series, grid)
    return _process(job, folder, Brain(*find_brain(job)))


def _process(job: RunJob, folder: Path, brain: Brain) -> dict[str, Any]:
    info = _info(job, brain)
    return _describe(job, folder, info, write_run(job, folder / RUN_FILE, brain, info))


def _info(job: RunJob, brain: Brain) -> RunInfo:
    series, settings = job.series, job.settings
    usual = job.item.details.get("spaces", ())
    if usual and series.shape[:3] not in [tuple(space) for space in usual]:
        grids = ", ".join("x".join(map(str, space)) for space in usual)
        own = "x".join(map(str, series.shape[:3]))
        job.notes.append(f"its grid {own} is none of those usual for this cohort ({grids})")
    if (doubt := doubtful_size(series.shape, series.affine)) is not None:
        job.notes.append(f"{doubt}; volumes in ml and --space mni2mm depend on it")
    return RunInfo(
        subject=job.item.subject,
        participant=job.item.participant,
        shape=(*job.grid.shape, series.shape[3]),
        tr_s=_repetition_time(job),
        affine=job.grid.affine,
        scaling=series.scaling if settings.scaling == "none" else settings.scaling,
        mask_source=brain.source,
        space=settings.space,
    )


def _repetition_time(job: RunJob) -> float | None:
    header, sidecar = job.series.tr_s, job.item.details.get("tr_s")
    if job.settings.tr_s is not None:
        return job.settings.tr_s
    if header is not None and sidecar is not None:
        if abs(header - sidecar) > _TR_TOLERANCE * sidecar:
            told = job.item.details.get("tr_source", "the sidecar")
            job.notes.append(
                f"the header says a repetition time of {header:g} s and {told} {sidecar:g} s; "
                "the header was taken"
            )
        return header
    known = header if header is not None else sidecar
    if header is None and sidecar is not None and "tr_source" in job.item.details:
        told = job.item.details["tr_source"]
        job.notes.append(f"the file tells no repetition time; {told} says {sidecar:g} s")
    if known is None:
        job.notes.append("no repetition time is known; give --tr SECONDS")
    return None if known is None else float(known)


def _describe(job: RunJob, folder: Path, info: RunInfo, run: WrittenRun) -> dict[str, Any]:
    seen, stats = run.seen, run.stats
    maps = seen.tally.moments()
    if not maps[1].any():
        job.notes.append("no voxel changes over time")
    report = quality(seen.trace, maps, seen.brain.mask, info.affine)
    durable_json(folder / QC_FILE, {"schema": "neuro/qc/1", "subject": info.subject, **report})
    files = [RUN_FILE, QC_FILE]
    if job.settings.figure == "svg":
        files.append(draw_quality(folder, report))
    if job.settings.frames == "pt":
        with open_store(folder / RUN_FILE) as store:
            files += write_frames(folder, _volumes(store))
        files.append(write_stats(folder, stats))
    return {
        "files": files,
        "shape": list(info.shape),
        "dtype": str(run.dtype),
        "affine": info.affine.tolist(),
        "tr_s": info.tr_s,
        "stats": {
            **stats.as_dict(),
            "n_voxels_in_mask": report["n_voxels_in_mask"],
            "qc": {key: value for key, value in report.items() if key not in PER_FRAME},
        },
        "notes": job.notes,
    }


def _volumes(store: RunStore) -> Iterator[Float32]:
    for block in store.iter_blocks():
        for row in block:
            volume = np.full(store.mask.shape, store.background, dtype=np.float32)
            volume[store.mask] = row
            yield volume
