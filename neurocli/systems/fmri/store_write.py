"""Write one run as HDF5: packed (brain voxels only), dense (whole volumes) or cut into patches.

`packed` holds `bold` (T, V) and `mask`: a window is one contiguous read of a quarter of the grid.
`dense` keeps the layout of the SwiFT family: `fmri_data` (X, Y, Z, T), one frame per chunk,
statistics as root attributes. `patch` holds `patches` (T, P, S), the patches that touch the brain
in the order of a model's tokens.

int16 files hold `scale_factor` and `offset` as root attributes: value = stored * scale_factor +
offset; packed ones of other than whole numbers hold `residual_mean` and `residual_step` of every
voxel instead. Every frame carries a checksum: `frame_sums`, or that of its chunk. `complete` is
written last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.hdf5 import ZSTD_FILTER, create, has_zstd, write_h5
from neurocli.core.data.scaling import SCALINGS
from neurocli.core.data.statistics import GlobalStats
from neurocli.core.errors import MissingDependencyError, NeuroError, UsageError
from neurocli.core.names import lookup
from neurocli.systems.fmri.patch_grid import Triple, cut_mask, patch_size, word_sums
from neurocli.systems.fmri.store_base import Float32, Mask, RunInfo, VoxelMoments, check_finite
from neurocli.systems.fmri.store_numbers import Blocks, Encoder

RUN_SCHEMA = "neuro/fmri-run/1"
PACKED_DATA, DENSE_DATA, PATCH_DATA = "bold", "fmri_data", "patches"
FRAME_SUMS = "frame_sums"
LAYOUTS = ("dense", "packed", "patch")
AUTO = "auto"
DTYPES = ("float16", "int16", "float32")
_COMPRESSIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
    "lzf": {"compression": "lzf", "shuffle": True},
    "zstd": {"compression": ZSTD_FILTER, "compression_opts": (3,), "shuffle": True},
}
COMPRESSIONS = tuple(_COMPRESSIONS)


@dataclass(frozen=True)
class StoreForm:
    """Say how the numbers of a run are stored.

    Args:
        layout: dense (whole volumes), packed (brain voxels only) or patch (whole patches that
            touch the brain).
        dtype: float16, int16 or float32.
        compression: none, gzip, lzf or zstd.
        patch: Voxels of a patch along X, Y, Z; for the layout of that name only.
        scaling: Applied before values are stored; auto is voxel-z for patches of raw values, so
            that training reads them as they are, and none for the other layouts.
    """

    layout: str = "dense"
    dtype: str = "float16"
    compression: str = "none"
    patch: Triple | None = None
    scaling: str = AUTO

    def options(self) -> dict[str, Any]:
        """Return the fields that say something, as plain values."""
        return {k: v for k, v in asdict(self).items() if v not in (None, AUTO)}

    def check(self) -> None:
        """Refuse unknown words, sizes that do not fit the layout, and absent libraries.

        Raises:
            UsageError: A word is unknown, or a patch is missing or no patch.
            MissingDependencyError: zstd is asked for and absent.
        """
        lookup("layout", self.layout, dict.fromkeys(LAYOUTS))
        lookup("scaling", self.scaling, dict.fromkeys((AUTO, *SCALINGS)))
        if self.patch is not None:
            patch_size(self.patch)
        if (self.layout == "patch") != (self.patch is not None):
            raise UsageError(
                f"the layout {self.layout} goes {'with' if self.patch is None else 'without'} "
                "a patch size",
                where="--patch",
                hint="--patch 6,6,6 alone makes a patch store",
            )
        lookup("dtype", self.dtype, dict.fromkeys(DTYPES))
        lookup("compression", self.compression, _COMPRESSIONS)
        if self.compression == "zstd" and not has_zstd():
            raise MissingDependencyError(
                "zstd compression needs the package hdf5plugin",
                where="--compression",
                hint="pip install hdf5plugin, or choose none, gzip or lzf",
            )


def write_store(
    target: Path,
    info: RunInfo,
    *,
    mask: Mask,
    blocks: Blocks,
    stats: GlobalStats,
    form: StoreForm,
    background: float = 0.0,
) -> None:
    """Write one run, whole or not at all; the same values give the same bytes.

    Args:
        target: The final name.
        info: What is said about the run; its shape must fit the mask and the blocks.
        mask: Brain (X, Y, Z).
        blocks: Gives all frames as blocks (t, V) of in-mask values; called again for int16.
        stats: Statistics of the unscaled run.
        form: Layout, dtype and compression.
        background: Value outside the mask, which dense files hold.

    Raises:
        UsageError: The form has an unknown word.
        MissingDependencyError: zstd is asked for and absent.
        NeuroError: A value does not fit the dtype, or the disk is full.
    """
    form.check()
    per_voxel = form.layout == "packed"
    encoder = Encoder(form.dtype, blocks, background, per_voxel=per_voxel)
    fill = _FILLERS[form.layout]

    def write(file: Any) -> None:
        moments = VoxelMoments()
        extras = {**_COMPRESSIONS[form.compression], "dtype": encoder.dtype}
        parts = _Parts(info, mask, blocks, encoder, moments, background, form.patch)
        maps = fill(file, parts, extras)
        if moments.count != info.shape[3]:
            raise NeuroError(f"{moments.count} frames came of {info.shape[3]}", where=info.subject)
        create(file, "mask", mask.astype(np.uint8))
        for name, values in maps.items():
            create(file, name, values)
        for key, value in _attributes(info, form, stats, encoder, background).items():
            file.attrs[key] = value

    write_h5(target, write)


@dataclass(frozen=True)
class _Parts:
    info: RunInfo
    mask: Mask
    blocks: Blocks
    encoder: Encoder
    moments: VoxelMoments
    background: float
    patch: Triple | None

    def rows(self) -> Iterable[npt.NDArray[Any]]:
        """Yield stored frames (V,), counting their decoded values in."""
        for block in self.blocks():
            stored = self.encoder.encode(block)
            values = self.encoder.decode(stored)
            first = self.moments.count
            check_finite(values, Path(self.info.subject), range(first, first + len(values)))
            self.moments.add(values)
            yield from stored


def _fill_packed(file: Any, parts: _Parts, extras: Mapping[str, Any]) -> dict[str, Float32]:
    n_frames, n_voxels = parts.info.shape[3], int(np.count_nonzero(parts.mask))
    _fill_frames(file, PACKED_DATA, (n_frames, n_voxels), parts.rows(), extras)
    mean, std = parts.moments.result()
    maps = {"voxel_mean": mean, "voxel_std": std}
    if parts.encoder.residual is not None:
        maps["residual_mean"], maps["residual_step"] = parts.encoder.residual
    return maps


def _fill_frames(
    file: Any,
    name: str,
    shape: tuple[int, ...],
    frames: Iterable[npt.NDArray[Any]],
    extras: Mapping[str, Any],
) -> None:
    # Numbers in one piece are read several times as fast as chunks; frame_sums stand in for the
    # checksum that only chunks can carry.
    is_plain = "compression" not in extras
    storage = {"chunks": None, "fletcher32": False} if is_plain else {"chunks": (1, *shape[1:])}
    data = create(file, name, shape=shape, **storage, **extras)
    sums = np.zeros(shape[0], dtype=np.uint64)
    for index, frame in enumerate(frames):
        data[index] = frame
        sums[index] = word_sums(frame[None])[0]
    create(file, FRAME_SUMS, sums)


def _fill_dense(file: Any, parts: _Parts, extras: Mapping[str, Any]) -> dict[str, Float32]:
    shape = parts.info.shape
    data = create(file, DENSE_DATA, shape=shape, chunks=(*shape[:3], 1), **extras)
    volume = np.empty(shape[:3], dtype=parts.encoder.dtype)
    volume[...] = parts.encoder.encode(np.array(parts.background))
    for index, row in enumerate(parts.rows()):
        volume[parts.mask] = row
        data[..., index] = volume
    maps = {}
    for name, values, outside in zip(
        ("voxel_mean", "voxel_std"), parts.moments.result(), (parts.background, 0.0), strict=True
    ):
        maps[name] = np.full(shape[:3], outside, dtype=np.float32)
        maps[name][parts.mask] = values
    return maps


def _fill_patches(file: Any, parts: _Parts, extras: Mapping[str, Any]) -> dict[str, Float32]:
    cut = cut_mask(parts.mask, parts.patch or (1, 1, 1))
    shape = (parts.info.shape[3], cut.n_patches, cut.n_voxels)
    frame = np.empty(shape[1:], dtype=parts.encoder.dtype)
    frame[...] = parts.encoder.encode(np.array(parts.background))

    def frames() -> Iterable[npt.NDArray[Any]]:
        for row in parts.rows():
            frame.reshape(-1)[cut.inside] = row
            yield frame

    _fill_frames(file, PATCH_DATA, shape, frames(), extras)
    create(file, "places", cut.places)
    mean, std = parts.moments.result()
    return {"voxel_mean": mean, "voxel_std": std}


_FILLERS = {"packed": _fill_packed, "dense": _fill_dense, "patch": _fill_patches}


def _attributes(
    info: RunInfo, form: StoreForm, stats: GlobalStats, encoder: Encoder, background: float
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "schema": RUN_SCHEMA,
        "layout": form.layout,
        "subject": info.subject,
        "participant": info.participant,
        "n_frames": info.shape[3],
        "affine": np.asarray(info.affine, dtype=np.float64),
        "scaling": info.scaling,
        "background": float(background),
        "mask_source": info.mask_source,
        "space": info.space,
        "orientation": info.orientation,
        **stats.as_dict(),
    }
    if form.patch is not None:
        values["patch_size"] = np.asarray(form.patch, dtype=np.int16)
    if info.tr_s is not None:
        values["tr_s"] = float(info.tr_s)
    if info.source_sha256 is not None:
        values["source_sha256"] = info.source_sha256
    if form.dtype == "int16" and encoder.residual is None:
        values["scale_factor"] = encoder.scale_factor
        values["offset"] = encoder.offset
    return {**values, "complete": True}
