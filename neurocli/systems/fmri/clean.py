"""Regress nuisance signals out of a run and keep a band of frequencies, a few voxels at a time.

The work is nilearn's. The mean of each voxel is kept: intensities stay those of the scanner, and
zero goes on meaning "outside the brain".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.errors import InputError
from neurocli.systems.fmri.brain import RunJob
from neurocli.systems.fmri.confounds import Float64, read_confounds

_COLUMN_BYTES = 16 << 20


@dataclass(frozen=True)
class Cleaning:
    """Say what is taken out of a run.

    Args:
        confounds_TC: Nuisance signals, or None.
        high_pass_hz: Slower changes go, or None.
        low_pass_hz: Faster changes go, or None.
        tr_s: Repetition time in seconds; needed by both filters.
    """

    confounds_TC: Float64 | None
    high_pass_hz: float | None
    low_pass_hz: float | None
    tr_s: float | None


def cleaning_of(job: RunJob, tr_s: float | None) -> Cleaning:
    """Return what the options ask for; the job gains a note.

    Args:
        job: The run and its options.
        tr_s: Its repetition time.

    Raises:
        InputError: A confounds table or the repetition time is missing or does not fit.
    """
    settings, path = job.settings, job.series.path
    high, low = settings.high_pass_hz, settings.low_pass_hz
    said = []
    signals = None
    if settings.confounds != "none":
        table = job.item.details.get("confounds")
        if table is None:
            raise InputError(
                path,
                "has no confounds table of fMRIPrep beside it",
                "process fMRIPrep derivatives with `neuro preprocess bids`, or --confounds none",
            )
        signals, names = read_confounds(Path(table), settings.confounds, job.series.shape[3])
        said.append(f"{len(names)} confounds ({settings.confounds}) were regressed out")
    if high is not None or low is not None:
        if tr_s is None:
            raise InputError(
                path, "no repetition time is known for the filter", "give --tr SECONDS"
            )
        _check_band(path, high, low, tr_s)
        band = f"{high if high is not None else 0:g} to {'any' if low is None else f'{low:g}'} Hz"
        said.append(f"changes of {band} were kept")
    job.notes.append(f"{', '.join(said)}; voxel means were kept")
    return Cleaning(signals, high, low, tr_s)


def _check_band(path: Path, high: float | None, low: float | None, tr_s: float) -> None:
    nyquist = 0.5 / tr_s
    for value, name in ((high, "--high-pass"), (low, "--low-pass")):
        if value is not None and value >= nyquist:
            raise InputError(
                path,
                f"{name} {value:g} Hz cannot be told at a repetition time of {tr_s:g} s",
                f"give less than {nyquist:g} Hz",
            )


def clean_columns(values_TV: npt.NDArray[Any], cleaning: Cleaning, path: Path) -> None:
    """Clean a run in place.

    Args:
        values_TV: float32 (T, V), may be mapped from disk.
        cleaning: What is taken out.
        path: Names the run in errors.

    Raises:
        InputError: The run is too short for the filter or for its confounds.
    """
    from nilearn.signal import clean

    n_frames, n_voxels = values_TV.shape
    signals = cleaning.confounds_TC
    if signals is not None and signals.shape[1] >= n_frames - 1:
        raise InputError(
            path, f"{signals.shape[1]} confounds would leave nothing of {n_frames} frames"
        )
    is_filtered = cleaning.high_pass_hz is not None or cleaning.low_pass_hz is not None
    step = max(1, _COLUMN_BYTES // (8 * n_frames))
    for start in range(0, n_voxels, step):
        block = values_TV[:, start : start + step].astype(np.float64)
        mean = block.mean(axis=0)
        try:
            cleaned = clean(
                block - mean,
                detrend=False,
                standardize=None,
                confounds=signals,
                filter="butterworth" if is_filtered else False,
                low_pass=cleaning.low_pass_hz,
                high_pass=cleaning.high_pass_hz,
                t_r=cleaning.tr_s,
            )
        except ValueError as error:
            raise InputError(
                path,
                f"{n_frames} frames are too few for the filter ({error})",
                "leave --high-pass and --low-pass out",
            ) from error
        values_TV[:, start : start + step] = cleaned - cleaned.mean(axis=0) + mean
