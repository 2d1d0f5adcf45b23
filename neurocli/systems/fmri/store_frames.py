"""Runs stored as `frame_{i}.pt` files: raw with statistics, or scaled before they were written."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neurocli.core.data.frames import frame_paths, read_frame, read_stats
from neurocli.core.data.statistics import GlobalStats
from neurocli.core.errors import InputError, NeuroError
from neurocli.systems.fmri.store_base import (
    Float32,
    Mask,
    RunInfo,
    RunStore,
    Survey,
    survey_volumes,
)


class FrameStore(RunStore):
    """Read a folder of frames. Repetition time and affine are unknown to this format.

    Args:
        path: The folder.
        person: Subject and participant.
    """

    def __init__(self, path: Path, person: tuple[str, str]) -> None:
        super().__init__(path)
        self._person = person
        self._paths = frame_paths(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self._person)

    @cached_property
    def _stored_stats(self) -> GlobalStats | None:
        try:
            return read_stats(self.path)
        except InputError:
            raise
        except NeuroError as error:
            raise InputError(self.path, error.message, error.hint) from error

    @cached_property
    def info(self) -> RunInfo:
        """Return what the folder says about the run."""
        return RunInfo(
            subject=self._person[0],
            participant=self._person[1],
            shape=(*self._grid, len(self._paths)),
            tr_s=None,
            affine=np.eye(4),
            scaling=self._survey.scaling if self._stored_stats is None else "none",
            mask_source="nonzero",
            space="native",
        )

    @cached_property
    def _survey(self) -> Survey:
        return survey_volumes(self.volumes, self.path)

    def volumes(self) -> Iterator[Float32]:
        """Yield all frames as whole volumes (X, Y, Z)."""
        return self._volumes(range(len(self._paths)))

    def _volumes(self, frames: range) -> Iterator[Float32]:
        for index in frames:
            volume = read_frame(self._paths[index])
            if volume.shape != self._grid:
                raise InputError(
                    self._paths[index], f"is {volume.shape}, the first frame {self._grid}"
                )
            yield volume

    @cached_property
    def _grid(self) -> tuple[int, int, int]:
        x, y, z = read_frame(self._paths[0]).shape
        return x, y, z

    def _load_mask(self) -> Mask:
        return self._survey.mask

    @property
    def background(self) -> float:
        """Return the value outside the mask."""
        return self._survey.background

    def close(self) -> None:
        """Do nothing: frames are opened one by one."""

    def _load_stats(self) -> GlobalStats:
        computed = super()._load_stats()
        stored = self._stored_stats.as_dict() if self._stored_stats else {}
        return GlobalStats.from_mapping({**computed.as_dict(), **stored})

    def _read(self, frames: range) -> Float32:
        return np.stack([volume[self.mask] for volume in self._volumes(frames)])
