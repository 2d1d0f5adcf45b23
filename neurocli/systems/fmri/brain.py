"""Decide where a run's brain is, on the grid that the output will have.

A given mask must lie on the run's own grid, and so must one from derivatives: nothing is ever
applied voxel by voxel across grids. Without a usable one the brain is found in the mean image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.geometry import grid_text, mni_grid, resample, same_grid
from neurocli.core.data.items import Item
from neurocli.core.errors import InputError, NeuroError
from neurocli.systems.fmri.config import PreprocessOptions
from neurocli.systems.fmri.mask import (
    MIN_VOXELS,
    check_size,
    choose_mask,
    looks_stripped,
    read_mask,
)
from neurocli.systems.fmri.series import Series
from neurocli.systems.fmri.store_base import Float32, Mask


@dataclass(frozen=True)
class OutputGrid:
    """Say where the output's voxels lie and how a volume gets there."""

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    is_resampled: bool

    def place(self, volume: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> Float32:
        """Return a volume on this grid: linear for intensities, nearest for masks."""
        if not self.is_resampled:
            return np.asarray(volume, dtype=np.float32)
        is_label = volume.dtype == bool
        return resample(volume, affine, self.shape, self.affine, order=0 if is_label else 1)


@dataclass
class RunJob:
    """Carry one item through the steps."""

    item: Item
    settings: PreprocessOptions
    series: Series
    grid: OutputGrid
    notes: list[str] = field(default_factory=list)


def output_grid(series: Series, settings: PreprocessOptions) -> OutputGrid:
    """Return the grid that the options ask for."""
    if settings.space == "native":
        x, y, z, _ = series.shape
        return OutputGrid((x, y, z), series.affine, is_resampled=False)
    shape, affine = mni_grid()
    return OutputGrid(shape, affine, is_resampled=True)


@dataclass(frozen=True)
class Brain:
    """Say where a run's brain is.

    Args:
        mask: Brain (X, Y, Z) on the output's grid.
        source: What told it.
        is_guess: Only the first frame was seen; the others must be held against it.
    """

    mask: Mask
    source: str
    is_guess: bool = False


def guess_brain(job: RunJob) -> Brain | None:
    """Take the brain from the first frame of a run where all else was set to zero.

    Args:
        job: The run and its options.

    Returns:
        The guess; None where a mask is given, the run is not stripped, or it must be looked at
        whole before anything can be said.

    Raises:
        InputError: The file is damaged within its first frame.
    """
    series, stored = job.series, job.series.stored
    is_told = job.settings.mask != "auto" or "mask" in job.item.details or series.mask is not None
    if is_told or job.grid.is_resampled or stored is None or stored.inter != 0:
        return None
    first = next(iter(series.volumes()))
    if not np.isfinite(first).all() or not looks_stripped(first):
        return None
    mask = first != 0
    return None if np.count_nonzero(mask) < MIN_VOXELS else Brain(mask, "nonzero", is_guess=True)


def find_brain(job: RunJob) -> tuple[Mask, str]:
    """Find the brain of a run.

    Args:
        job: The run and its options; gains notes.

    Returns:
        Mask (X, Y, Z) on the output's grid, and what told it: file, derivative, computed, nonzero
        or none.

    Raises:
        InputError: A given mask is of another grid, the run holds NaN or nothing but zeros, no
            brain stands out, or the header places the run outside the target grid.
    """
    mask, source, affine = _native_brain(job)
    if not job.grid.is_resampled:
        return mask, source
    job.notes.append("placed on the MNI152 2 mm grid by its header alone: no registration was done")
    if same_grid(mask.shape, affine, job.grid.shape, job.grid.affine):
        return mask, source
    placed = job.grid.place(mask, affine) > 0
    try:
        check_size(placed, job.grid.affine)
    except NeuroError as error:
        raise InputError(
            job.series.path,
            f"its header places it outside the MNI152 box ({error.message})",
            "normalise the run first, e.g. with fMRIPrep, or use --space native",
        ) from error
    return placed, source


def _native_brain(job: RunJob) -> tuple[Mask, str, npt.NDArray[np.float64]]:
    series, wanted = job.series, job.settings.mask
    if wanted == "none":
        return np.ones(series.shape[:3], dtype=bool), "none", series.affine
    if wanted != "auto":
        return _given_mask(job, Path(wanted))
    offered = job.item.details.get("mask")
    if offered is not None:
        found = read_mask(Path(offered))
        own = grid_text(series.shape, series.affine)
        if same_grid(found.mask.shape, found.affine, series.shape, series.affine):
            return found.mask, "derivative", series.affine
        job.notes.append(
            f"mask {Path(offered).name} ({found.grid}) was not used, the run is on {own}; "
            "a mask was computed"
        )
    if series.mask is not None:
        return series.mask, series.mask_source, series.affine
    mean = _mean_image(job)
    try:
        mask, source = choose_mask(mean, series.affine)
    except NeuroError as error:
        raise InputError(series.path, error.message, error.hint) from error
    return mask, source, series.affine


def _given_mask(job: RunJob, path: Path) -> tuple[Mask, str, npt.NDArray[np.float64]]:
    found, series = read_mask(path), job.series
    if not found.is_binary:
        job.notes.append(f"mask {path.name} holds other values than 0 and 1; above 0.5 is brain")
    homes = [(series.shape[:3], series.affine), (job.grid.shape, job.grid.affine)]
    if any(same_grid(found.mask.shape, found.affine, *home) for home in homes):
        return found.mask, "file", found.affine
    raise InputError(
        path,
        f"mask is on {found.grid}, the run on {grid_text(series.shape, series.affine)}",
        "resample the mask to the run's grid, or use --mask auto",
    )


def _mean_image(job: RunJob) -> Float32:
    series = job.series
    total = np.zeros(series.shape[:3], dtype=np.float64)
    n_bad = 0
    for volume in series.volumes():
        bad = ~np.isfinite(volume)
        n_bad += int(np.count_nonzero(bad))
        total += np.where(bad, 0, volume)
    judge_nonfinite(job, n_bad, total.size * series.shape[3], is_final=False)
    if not total.any():
        raise InputError(series.path, "every value is 0", "give another file")
    return np.asarray(total / series.shape[3], dtype=np.float32)


def judge_nonfinite(job: RunJob, n_bad: int, n_values: int, *, is_final: bool) -> None:
    """Refuse or note values that are not finite, as the options say.

    Args:
        job: The run; gains a note when they are taken as 0.
        n_bad: How many there are.
        n_values: Among how many.
        is_final: Whether this look is the one that is noted.

    Raises:
        InputError: There are some and `nonfinite` is "error".
    """
    if n_bad == 0:
        return
    text = f"{n_bad} of {n_values} values ({100 * n_bad / n_values:.2g} %) are NaN or Inf"
    if job.settings.nonfinite == "error":
        raise InputError(
            job.series.path, text, "repair the run, or take them as 0 with --set nonfinite=zero"
        )
    if is_final:
        job.notes.append(f"{text} and were taken as 0")
