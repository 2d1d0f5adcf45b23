"""What `preprocess` reads: one 4D run, whatever it is stored in.

A series hands out its volumes one by one, as often as asked, so that the steps behind it need the
memory of the brain voxels only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.items import Item
from neurocli.core.data.nifti import iter_frames, iter_stored, read_header
from neurocli.core.data.statistics import GlobalStats
from neurocli.core.errors import InputError
from neurocli.core.names import lookup
from neurocli.core.paths import file_sha256
from neurocli.systems.fmri.store_base import Float32, Mask, Shape4


@dataclass(frozen=True)
class StoredNumbers:
    """Give the numbers of a run as its file holds them.

    Args:
        give: Returns a fresh iterator over volumes, (X * Y * Z,) each, the first axis fastest;
            the next one overwrites the one before.
        dtype: Their type, with its byte order.
        slope: Values are numbers * slope + inter.
        inter: Added after scaling.
    """

    give: Callable[[], Iterator[npt.NDArray[Any]]]
    dtype: np.dtype[Any]
    slope: float
    inter: float


@dataclass(frozen=True)
class Series:
    """Hold one run on its way in.

    Args:
        path: Names it in errors.
        shape: (X, Y, Z, T), T >= 2.
        affine: Voxel indices to millimetres, (4, 4) float64.
        tr_s: Repetition time that the data itself tells, in seconds, or None.
        volumes: Gives a fresh iterator over all volumes (X, Y, Z) float32.
        sha256: Returns the digest of the source file, and may wait for it; None where it is not
            one file.
        mask: Brain that comes with the data; None where it must be found.
        mask_source: What told the mask.
        scaling: Method already applied to the values.
        background: Value outside the mask.
        stats: Statistics that come with the data; None to compute them.
        stored: The same volumes as stored numbers; None where values are all there is.
    """

    path: Path
    shape: Shape4
    affine: npt.NDArray[np.float64]
    tr_s: float | None
    volumes: Callable[[], Iterator[Float32]]
    sha256: Callable[[], str] | None = None
    mask: Mask | None = None
    mask_source: str = "file"
    scaling: str = "none"
    background: float = 0.0
    stats: GlobalStats | None = None
    stored: StoredNumbers | None = None


def open_series(item: Item) -> Series:
    """Open the run of an item.

    Args:
        item: Its details say the kind: nifti, frames or dummy.

    Raises:
        InputError: The source is damaged or no series.
    """
    return lookup("kind of series", str(item.details["kind"]), _OPENERS)(item)


def _open_nifti(item: Item) -> Series:
    path = item.sources[0]
    header = read_header(path)
    check_series(path, header.shape)
    x, y, z, t = header.shape
    return Series(
        path=path,
        shape=(x, y, z, t),
        affine=header.affine,
        tr_s=header.tr_s,
        volumes=lambda: iter_frames(header),
        sha256=lambda: item.digests()[0] if item.digests else file_sha256(path),
        stored=StoredNumbers(
            lambda: iter_stored(header),
            header.dtype,
            header.slope,
            header.inter,
        ),
    )


def check_series(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse an image that is no series.

    Raises:
        InputError: It is 3D or has one frame.
    """
    if len(shape) != 4 or shape[3] < 2:
        text = "x".join(map(str, shape))
        kind = "3D" if len(shape) != 4 else "one frame"
        raise InputError(
            path, f"{kind} ({text}) where a 4D series is needed", "give the functional run"
        )


def _open_frames(item: Item) -> Series:
    from neurocli.systems.fmri.store_frames import FrameStore

    folder = item.sources[0].parent
    with FrameStore(folder, (item.subject, item.participant)) as store:
        check_series(folder, store.shape)
        return Series(
            path=folder,
            shape=store.shape,
            affine=store.affine,
            tr_s=store.tr_s,
            volumes=store.volumes,
            mask=store.mask,
            mask_source=store.info.mask_source,
            scaling=store.scaling,
            background=store.background,
            stats=store.stats,
        )


def _open_dummy(item: Item) -> Series:
    from neurocli.systems.fmri.synthetic import CohortSpec, make_subject

    run = make_subject(int(item.details["index"]), CohortSpec(**item.details["spec"]))
    x, y, z, t = run.bold_XYZT.shape
    return Series(
        path=Path(item.subject),
        shape=(x, y, z, t),
        affine=run.affine,
        tr_s=run.tr_s,
        volumes=lambda: iter(np.moveaxis(run.bold_XYZT, 3, 0)),
        mask=run.mask,
    )


_OPENERS: Mapping[str, Callable[[Item], Series]] = {
    "nifti": _open_nifti,
    "frames": _open_frames,
    "dummy": _open_dummy,
}
