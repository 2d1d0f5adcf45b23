"""Runs in `fmri_data` of older converters."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from neurocli.core.data.hdf5 import check_chunks
from neurocli.core.data.statistics import GlobalStats
from neurocli.systems.fmri.store_base import (
    Float32,
    Mask,
    RunStore,
    Survey,
    block_frames,
    survey_volumes,
)
from neurocli.systems.fmri.store_hdf5 import DenseStore


class ForeignStore(DenseStore):
    """Read `fmri_data` of an older converter: what it does not say is found by looking."""

    # Where frames are interleaved, every block costs a pass over the file.
    block_bytes = 256 << 20

    @cached_property
    def _survey(self) -> Survey:
        check_chunks(self.data)
        return survey_volumes(self._all_volumes, self.path)

    def _all_volumes(self) -> Iterator[Float32]:
        x, y, z, n_frames = self.data.shape
        step = block_frames(x * y * z, self.block_bytes)
        for start in range(0, n_frames, step):
            for volume in self._volumes(range(start, min(n_frames, start + step))):
                yield self._values(volume)

    def _load_mask(self) -> Mask:
        return self._survey.mask

    @property
    def background(self) -> float:
        """Return the value outside the mask."""
        return self._survey.background

    def _scaling(self) -> str:
        if "scaling" in self.attributes:
            return str(self.attributes["scaling"])
        # The converters copy statistics only beside raw intensities.
        return "none" if "global_mean" in self.attributes else self._survey.scaling

    def _load_stats(self) -> GlobalStats:
        computed = RunStore._load_stats(self)
        return GlobalStats.from_mapping({**computed.as_dict(), **self._stored_stats()})

    def _stored_stats(self) -> dict[str, float]:
        names = GlobalStats.__dataclass_fields__
        return {name: self._number(name) for name in names if name in self.attributes}

    def _load_moments(self) -> tuple[Float32, Float32]:
        return RunStore._load_moments(self)
