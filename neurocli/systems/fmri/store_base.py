"""What every stored run can do, whatever file it lies in.

A store gives the values of brain voxels as (t, V) float32, V in C order of the mask's True voxels,
so models and scalings never see a file format. Handles open on first use, once per process, and a
store travels to workers as its path. Letters: X Y Z space, T all frames, t some frames, V voxels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from neurocli.core.data.geometry import axis_codes
from neurocli.core.data.statistics import GlobalStats, global_stats
from neurocli.core.errors import InputError, NeuroError

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Shape4 = tuple[int, int, int, int]

_BLOCK_BYTES = 16 << 20
_SPREAD_FLOOR = 1e-12  # below this share of the level a spread is float64 rounding
_MIN_BACKGROUND = 0.05


@dataclass(frozen=True)
class RunInfo:
    """Describe a run as its file does.

    Args:
        subject: Unique id of the run.
        participant: The person.
        shape: (X, Y, Z, T).
        tr_s: Repetition time in seconds; None when unknown.
        affine: Voxel indices to millimetres, (4, 4) float64.
        scaling: Method already applied to the values; "none" for raw intensities.
        mask_source: file, derivative, computed, none or nonzero.
        space: native or mni2mm.
        source_sha256: Digest of the file it was made from; None when unknown.
    """

    subject: str
    participant: str
    shape: Shape4
    tr_s: float | None
    affine: npt.NDArray[np.float64]
    scaling: str
    mask_source: str
    space: str
    source_sha256: str | None = None

    @property
    def orientation(self) -> str:
        """Return the direction of each axis, e.g. "LAS"."""
        return axis_codes(self.affine)

    def named(self, subject: str, participant: str) -> RunInfo:
        """Return the same run under another name."""
        return replace(self, subject=subject, participant=participant)


class RunStore(ABC):
    """Give the values of one stored run.

    Args:
        path: The file or folder.
    """

    block_bytes = _BLOCK_BYTES

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def info(self) -> RunInfo:
        """Return what the file says about the run."""

    @abstractmethod
    def _read(self, frames: range) -> Float32:
        """Return in-mask values (t, V), a new array."""

    @abstractmethod
    def _load_mask(self) -> Mask:
        """Return the mask (X, Y, Z)."""

    @abstractmethod
    def close(self) -> None:
        """Let go of open files; the next read opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def subject(self) -> str:
        """Return the unique id of the run."""
        return self.info.subject

    @property
    def participant(self) -> str:
        """Return the person."""
        return self.info.participant

    @property
    def shape(self) -> Shape4:
        """Return (X, Y, Z, T)."""
        return self.info.shape

    @property
    def n_frames(self) -> int:
        """Return T."""
        return self.info.shape[3]

    @property
    def tr_s(self) -> float | None:
        """Return the repetition time in seconds, or None."""
        return self.info.tr_s

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """Return the map from voxel indices to millimetres, (4, 4)."""
        return self.info.affine

    @property
    def scaling(self) -> str:
        """Return the scaling that the stored values already carry."""
        return self.info.scaling

    @property
    def background(self) -> float:
        """Return the value that marks voxels outside the brain in the stored values."""
        return 0.0

    @property
    def patch_size(self) -> tuple[int, int, int] | None:
        """Return the voxels of a patch along X, Y, Z when values lie patch by patch, else None."""
        return None

    @property
    def is_proven_finite(self) -> bool:
        """Tell whether reading a frame already shows that its values are finite."""
        return False

    @cached_property
    def mask(self) -> Mask:
        """Return the brain, (X, Y, Z) bool."""
        return self._load_mask()

    @property
    def n_voxels(self) -> int:
        """Return V."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def stats(self) -> GlobalStats:
        """Return the statistics of the unscaled run; computed where the file has none."""
        return self._load_stats()

    @cached_property
    def voxel_moments(self) -> tuple[Float32, Float32]:
        """Return mean and standard deviation of each voxel over time, `(V,)` each."""
        return self._load_moments()

    def _load_stats(self) -> GlobalStats:
        return global_stats(self.iter_blocks, self.background)

    def _load_moments(self) -> tuple[Float32, Float32]:
        moments = VoxelMoments()
        for block in self.iter_blocks():
            moments.add(block)
        return moments.result()

    @property
    def voxel_mean_V(self) -> Float32:
        """Return the mean of each voxel over time, (V,) float32, of the stored values."""
        return self.voxel_moments[0]

    @property
    def voxel_std_V(self) -> Float32:
        """Return the unbiased standard deviation of each voxel over time, (V,) float32."""
        return self.voxel_moments[1]

    def read_packed(self, frames: slice) -> Float32:
        """Read some frames.

        Args:
            frames: Start, stop and positive step; bounds are cut to the run as Python does.

        Returns:
            In-mask values (t, V) float32, a new array, all finite.

        Raises:
            InputError: The file is damaged or holds NaN or Inf.
            NeuroError: No frame is asked for, or the step is not positive.
        """
        wanted = range(*frames.indices(self.n_frames))
        if not wanted or wanted.step < 1:
            raise NeuroError(
                f"frames {frames.start}:{frames.stop}:{frames.step} of {self.n_frames} are none",
                where=str(self.path),
            )
        values = self._read(wanted)
        if not self.is_proven_finite:
            check_finite(values, self.path, wanted)
        return values

    def iter_blocks(self) -> Iterator[Float32]:
        """Yield all frames as blocks (t, V) of a bounded size."""
        step = block_frames(self.n_voxels, self.block_bytes)
        for start in range(0, self.n_frames, step):
            yield self.read_packed(slice(start, start + step))


def block_frames(n_voxels: int, n_bytes: int = _BLOCK_BYTES) -> int:
    """Return how many frames of float32 values a block of some bytes may hold, at least 1."""
    return max(1, n_bytes // (4 * max(1, n_voxels)))


def check_finite(values: npt.NDArray[Any], path: Path, frames: range) -> None:
    """Refuse values that are not finite.

    Raises:
        InputError: Names the file, how many they are and in which frame the first one is.
    """
    # One sum is much cheaper than a test of each value, and only a finite one proves anything.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum(dtype=np.float32)):
            return
    bad = ~np.isfinite(values)
    if bad.any():
        first = frames[int(bad.reshape(len(values), -1).any(axis=1).argmax())]
        raise InputError(
            path,
            f"{int(bad.sum())} values are NaN or Inf, the first in frame {first}",
            "make the file again with `neuro preprocess`",
        )


class VoxelMoments:
    """Merge mean and spread of every voxel block by block (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: npt.NDArray[np.float64] | float = 0.0
        self._squares: npt.NDArray[np.float64] | float = 0.0

    def add(self, block_TV: npt.NDArray[Any]) -> None:
        """Take a block of frames (t, V)."""
        values = block_TV.astype(np.float64)
        count = len(values)
        mean = values.mean(axis=0)
        shift = mean - self._mean
        total = self.count + count
        between = shift**2 * (self.count * count / total)
        self._squares = self._squares + ((values - mean) ** 2).sum(axis=0) + between
        self._mean = self._mean + shift * (count / total)
        self.count = total

    def result(self) -> tuple[Float32, Float32]:
        """Return mean and unbiased standard deviation, (V,) float32; 0 spread for constants."""
        mean = np.asarray(self._mean)
        std = np.sqrt(np.asarray(self._squares) / max(self.count - 1, 1))
        std[std <= _SPREAD_FLOOR * np.abs(mean)] = 0.0
        return mean.astype(np.float32), std.astype(np.float32)


@dataclass(frozen=True)
class Survey:
    """Hold what one look at all volumes of a run without a mask shows.

    Args:
        mask: Voxels that differ from the background in any frame.
        background: The value outside.
        scaling: Method that range, sign and background suggest was applied.
    """

    mask: Mask
    background: float
    scaling: str


def survey_volumes(volumes: Callable[[], Iterable[Float32]], path: Path) -> Survey:
    """Find background, mask and kind of values of a run that does not tell them.

    Background is 0 where some voxel is 0 throughout, else the minimum where a good part of the
    voxels never leave it, else there is none.

    Args:
        volumes: Gives the volumes (X, Y, Z).
        path: For errors.

    Raises:
        InputError: A value is not finite, or all are equal.
    """
    lowest: Float32 | None = None
    highest: Float32 | None = None
    for index, volume in enumerate(volumes()):
        check_finite(volume[None], path, range(index, index + 1))
        lowest = volume.copy() if lowest is None else np.minimum(lowest, volume)
        highest = volume.copy() if highest is None else np.maximum(highest, volume)
    if lowest is None or highest is None or lowest.min() == highest.max():
        raise InputError(path, "all voxels of all frames are equal", "there is nothing to learn")
    floor, top = float(lowest.min()), float(highest.max())
    differs = (lowest != 0) | (highest != 0)
    background = 0.0
    if differs.all() and np.mean(highest == floor) >= _MIN_BACKGROUND:
        differs, background = highest > floor, floor
    return Survey(differs, background, _likely_scaling(floor, top, background))


def _likely_scaling(floor: float, top: float, background: float) -> str:
    if floor < 0:
        return "znorm_zeroback" if background == 0 else "znorm_minback"
    return "minmax" if top <= 1 else "none"
