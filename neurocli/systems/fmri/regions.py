"""Time courses of regions: an atlas on the runs' own grid, or cubes of voxels where there is none.

Baselines need a few dozen numbers per frame, not a voxel each. A run is read block by block and
only its region means are kept, so memory does not grow with the brain.

Letters: T frames, V in-mask voxels, R regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from neurocli.core.data.geometry import same_grid
from neurocli.core.data.nifti import read_image
from neurocli.core.errors import InputError
from neurocli.systems.fmri.clips import ClipReader

MAX_REGIONS = 100  # 4,950 connections
_FRAMES = 64  # read at once


@dataclass(frozen=True)
class Regions:
    """Hold a parcellation.

    Args:
        labels: (H, W, D) int, 0 outside, else 1..n, on the grid of clips.
        n: R.
        source: What they are, for people.
    """

    labels: npt.NDArray[np.int32]
    n: int
    source: str


def atlas_regions(path: Path, reader: ClipReader) -> Regions:
    """Read a parcellation.

    Args:
        path: NIfTI with whole numbers, 0 outside, on the grid of the runs.
        reader: Of the runs.

    Raises:
        InputError: The atlas lies on another grid, or holds fewer than two regions.
    """
    header, raw = read_image(path, n_dims=3)
    values = np.rint(raw).astype(np.int64)
    for index, run in enumerate(reader.runs):
        shape, affine = reader.space(index)
        if not same_grid(values.shape, header.affine, shape, affine):
            raise InputError(
                path,
                f"lies on another grid than {run.subject}",
                "resample it to the runs' grid, or leave task.atlas out for blocks of voxels",
            )
    found = np.unique(values[values > 0])
    if found.size < 2:
        raise InputError(path, f"holds {found.size} region", "name a parcellation")
    labels = np.zeros(reader.plan.grid, dtype=np.int32)
    inside = tuple(slice(0, size) for size in values.shape)
    labels[inside] = np.where(values > 0, np.searchsorted(found, values) + 1, 0)
    return Regions(labels, int(found.size), f"{found.size} regions of {path.name}")


def block_regions(reader: ClipReader, runs: Sequence[int], most: int = MAX_REGIONS) -> Regions:
    """Cut the grid into the smallest cubes that are few enough.

    Args:
        reader: Of the runs.
        runs: The training part's; a cube counts where each of them has brain in it.
        most: Upper limit of R.

    Returns:
        Cubes with brain in every run; in at least one when the runs share no cube.
    """
    masks = [reader.brain(run) for run in runs]
    for edge in range(1, max(reader.plan.grid) + 1):
        cubes = _cubes(reader.plan.grid, edge)
        inside = [np.bincount(cubes[mask], minlength=cubes.max() + 1) > 0 for mask in masks]
        shared = np.logical_and.reduce(inside)
        kept = np.flatnonzero(shared if shared.any() else np.logical_or.reduce(inside))
        if kept.size <= most:
            break
    number = np.zeros(cubes.max() + 1, dtype=np.int32)
    number[kept] = np.arange(1, kept.size + 1)
    return Regions(number[cubes], kept.size, f"{kept.size} cubes of {edge} voxels")


def _cubes(grid: tuple[int, int, int], edge: int) -> npt.NDArray[np.intp]:
    places = [np.arange(size) // edge for size in grid]
    counts = [int(place[-1]) + 1 for place in places]
    return np.ravel_multi_index(np.meshgrid(*places, indexing="ij"), counts)


def region_series(
    reader: ClipReader, run: int, regions: Regions, frames: slice
) -> npt.NDArray[np.float64]:
    """Return the mean of each region in each frame.

    Args:
        reader: Of the runs.
        run: Index into its runs.
        regions: The parcellation.
        frames: Consecutive frames.

    Returns:
        (T, R); 0 where a run has no voxel of a region.

    Raises:
        InputError: The file is damaged.
    """
    label_V = regions.labels[reader.brain(run)]
    voxels = np.flatnonzero(label_V)
    region = label_V[voxels] - 1
    share = 1.0 / np.bincount(region, minlength=regions.n)[region]
    mean_RV = csr_matrix((share, (region, voxels)), shape=(regions.n, label_V.size))
    blocks = reader.blocks(run, frames, _FRAMES)
    return np.concatenate([(mean_RV @ block.T.astype(np.float64)).T for block in blocks])
