"""How surely a voxel matters: the mean of what it adds over lines, by its standard error.

Each voxel's weights start as random numbers of its own, which training leaves in place: a voxel may
add much on every line, now up, now down, because its weights are large. Over its own spread such a
voxel falls behind one that adds a little in the same direction every time. The clips of a run share
frames and their lines share baselines, so the ratio ranks voxels and is no test.

Letters: K lines; H W D space.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float64]

FEWEST_LINES = 4  # the spread of fewer is chance
_FLOOR = 0.1  # of the median standard error: what hardly varies by chance does not stand out


class LineTally:
    """Add up maps of lines, without keeping them."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Map = np.zeros(())
        self._squares: Map = np.zeros(())

    def add(self, lines_KHWD: Map) -> None:
        """Add the maps of some lines.

        Args:
            lines_KHWD: What each voxel adds on each line.
        """
        self.count += len(lines_KHWD)
        self._sum = self._sum + lines_KHWD.sum(0)
        self._squares = self._squares + np.square(lines_KHWD).sum(0)

    @property
    def mean(self) -> Map:
        """Return the mean over lines."""
        return np.asarray(self._sum / self.count)

    def snr(self, brain_HWD: npt.NDArray[np.bool_]) -> Map | None:
        """Return the mean over lines by its standard error, signed.

        Args:
            brain_HWD: What is inside.

        Returns:
            0 outside and where nothing is added; None with fewer than `FEWEST_LINES` lines.
        """
        if self.count < FEWEST_LINES:
            return None
        mean = self.mean
        spread = np.maximum(self._squares / self.count - mean**2, 0.0)
        error = np.sqrt(spread / (self.count - 1))
        error = error + _FLOOR * np.median(error[brain_HWD])
        told = brain_HWD & (error > 0)
        return np.asarray(np.divide(mean, error, out=np.zeros_like(mean), where=told))
