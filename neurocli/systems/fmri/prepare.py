"""Turn one raw run into the standard file: brain voxels, frame by frame, with what is known of it.

The run is read twice at most (once to find the brain where no mask is given), volume by volume;
only the masked matrix (T, V) is held. Intensities stay raw unless a scaling is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurocli.core.data.frames import write_frames, write_stats
from neurocli.core.data.items import Item
from neurocli.core.data.scaling import background_value, scale
from neurocli.core.data.statistics import GlobalStats, global_stats, voxel_stats
from neurocli.core.errors import InputError
from neurocli.core.paths import durable_json
from neurocli.systems.fmri.brain import RunJob, find_brain, judge_nonfinite, output_grid
from neurocli.systems.fmri.config import PreprocessOptions
from neurocli.systems.fmri.quality import quality
from neurocli.systems.fmri.series import Series, open_series
from neurocli.systems.fmri.store_base import Float32, Mask, RunInfo, block_frames
from neurocli.systems.fmri.store_write import StoreForm, write_store

FORMAT_VERSION = "fmri-run/3"
"""Changes whenever the output of `process_run` does, the painted runs of `dummy` included."""

RUN_FILE, QC_FILE = "bold.h5", "qc.json"
_FORM = StoreForm(layout="packed", dtype="float32")
_TR_TOLERANCE = 1e-3


def process_run(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Process one run into a folder.

    Args:
        item: From a finder of this room.
        folder: Private and empty; gets `bold.h5` (packed float32), `qc.json` and, when asked for,
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
    job = RunJob(item, settings, series, output_grid(series, settings))
    mask, source = find_brain(job)
    values_TV = _extract(job, mask)
    stats = series.stats or _stats(values_TV, series)
    info = RunInfo(
        subject=item.subject,
        participant=item.participant,
        shape=(*job.grid.shape, series.shape[3]),
        tr_s=_repetition_time(job),
        affine=job.grid.affine,
        scaling=series.scaling if settings.scaling == "none" else settings.scaling,
        mask_source=source,
        space=settings.space,
        source_sha256=series.sha256,
    )
    return _write(job, folder, info, mask, values_TV, stats)


def _repetition_time(job: RunJob) -> float | None:
    header, sidecar = job.series.tr_s, job.item.details.get("tr_s")
    if job.settings.tr_s is not None:
        return job.settings.tr_s
    if header is not None and sidecar is not None:
        if abs(header - sidecar) > _TR_TOLERANCE * sidecar:
            job.notes.append(
                f"the header says a repetition time of {header:g} s and the sidecar {sidecar:g} s; "
                "the header was taken"
            )
        return header
    known = header if header is not None else sidecar
    if known is None:
        job.notes.append("no repetition time is known; give --tr SECONDS")
    return None if known is None else float(known)


def _extract(job: RunJob, mask: Mask) -> Float32:
    """Return the in-mask values (T, V)."""
    series, grid = job.series, job.grid
    n_frames, n_voxels = series.shape[3], int(np.count_nonzero(mask))
    inside = np.flatnonzero(mask)
    values = np.empty((n_frames, n_voxels), dtype=np.float32)
    n_bad = 0
    for row, volume in zip(values, series.volumes(), strict=True):
        # Interpolation would spread a NaN, so it must go before; otherwise only brain counts.
        raw = volume if grid.is_resampled else volume.reshape(-1)[inside]
        bad = ~np.isfinite(raw)
        if bad.any():
            n_bad += int(np.count_nonzero(bad))
            raw = np.where(bad, np.float32(0), raw)
        row[:] = grid.place(raw, series.affine).reshape(-1)[inside] if grid.is_resampled else raw
    n_seen = n_frames * (int(np.prod(series.shape[:3])) if grid.is_resampled else n_voxels)
    judge_nonfinite(job, n_bad, n_seen, is_final=True)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise InputError(
            series.path, f"every value inside the mask is {low:g}", "give another file or --mask"
        )
    return values


def _stats(values_TV: Float32, series: Series) -> GlobalStats:
    return global_stats(lambda: _row_blocks(values_TV), series.background)


def _row_blocks(values_TV: Float32) -> Iterator[Float32]:
    step = block_frames(values_TV.shape[1])
    for start in range(0, len(values_TV), step):
        yield values_TV[start : start + step]


def _write(
    job: RunJob, folder: Path, info: RunInfo, mask: Mask, values_TV: Float32, stats: GlobalStats
) -> dict[str, Any]:
    mean, std = voxel_stats(values_TV)
    if not std.any():
        job.notes.append("no voxel changes over time")
    blocks = _scaled_blocks(job.settings.scaling, values_TV, stats, (mean, std))
    background = (
        job.series.background
        if job.settings.scaling == "none"
        else background_value(job.settings.scaling, stats)
    )
    write_store(
        folder / RUN_FILE,
        info,
        mask=mask,
        blocks=blocks,
        stats=stats,
        form=_FORM,
        background=background,
    )
    report = quality(values_TV, mean, std, mask)
    durable_json(folder / QC_FILE, {"schema": "neuro/qc/1", "subject": info.subject, **report})
    files = [RUN_FILE, QC_FILE]
    if job.settings.frames == "pt":
        files += write_frames(folder, _volumes(blocks, mask, background))
        files.append(write_stats(folder, stats))
    return {
        "files": files,
        "shape": list(info.shape),
        "dtype": _FORM.dtype,
        "affine": info.affine.tolist(),
        "tr_s": info.tr_s,
        "stats": {
            **stats.as_dict(),
            "n_voxels_in_mask": report["n_voxels_in_mask"],
            "qc": {key: value for key, value in report.items() if key != "spike_frames"},
        },
        "notes": job.notes,
    }


def _scaled_blocks(
    method: str,
    values_TV: Float32,
    stats: GlobalStats,
    maps: tuple[Float32, Float32],
) -> Callable[[], Iterator[Float32]]:
    def give() -> Iterator[Float32]:
        for block in _row_blocks(values_TV):
            if method == "none":
                yield block
            else:
                yield scale(block, method, stats=stats, voxel_mean_V=maps[0], voxel_std_V=maps[1])

    return give


def _volumes(
    blocks: Callable[[], Iterable[Float32]], mask: Mask, background: float
) -> Iterator[Float32]:
    for block in blocks():
        for row in block:
            volume = np.full(mask.shape, background, dtype=np.float32)
            volume[mask] = row
            yield volume
