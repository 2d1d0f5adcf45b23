"""Read sessions that are folders or arrays: suite2p output, `.npz`, `.npy`, HDF5 with one matrix.

Nothing tells their rate but the caller. Other arrays of an `.npz` or HDF5 that have one row per
frame become labels: whole numbers are classes, other numbers are continuous.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.arrays import read_npy, read_npz
from neurocli.core.data.hdf5 import h5_dataset, h5_names, h5_read
from neurocli.core.data.mapped import h5_map
from neurocli.core.errors import InputError
from neurocli.systems.calcium.session import Session, checked_parts, names_of, rate_of
from neurocli.systems.calcium.stimuli import derived_parts

NAMES = ("df_over_f", "dff", "dFF", "neural", "traces", "spikes", "data", "X", "C")
_TIMES = ("timestamps", "time", "t")
_MASKS = {"train": "train_mask", "val": "valid_mask", "test": "test_mask"}
_NEUROPIL = 0.7  # the usual share of the neuropil signal that is taken off
_BASELINE = 8.0  # percentile that stands for F0


def read_suite2p(folder: Path, rate_hz: float) -> Session:
    """Read the accepted cells of a suite2p plane as dF/F.

    dF/F is (F - 0.7 Fneu - F0) / F0 with F0 the 8th percentile of each cell.

    Args:
        folder: Holds `F.npy`, and `Fneu.npy` and `iscell.npy` where they exist.
        rate_hz: Frames per second; suite2p keeps it in a file that would run code.

    Raises:
        InputError: An array is damaged or does not fit the others.
    """
    raw = _matrix(folder / "F.npy", mapped=True)
    keep = np.ones(len(raw), dtype=bool)
    repairs = []
    if (folder / "iscell.npy").is_file():
        said = _matrix(folder / "iscell.npy")
        if len(said) != len(raw):
            raise InputError(folder / "iscell.npy", f"has shape {said.shape} for {len(raw)} cells")
        keep = said[:, 0] > 0.5
        repairs.append(f"{int(keep.sum())} of {len(raw)} regions are cells")
    if not keep.any():
        raise InputError(folder / "iscell.npy", "accepts no cell", "curate the cells first")
    values = np.asarray(raw[keep], dtype=np.float64)
    if (folder / "Fneu.npy").is_file():
        neuropil = _matrix(folder / "Fneu.npy", mapped=True)
        if neuropil.shape != raw.shape:
            raise InputError(folder / "Fneu.npy", f"has shape {neuropil.shape}, F has {raw.shape}")
        values = values - _NEUROPIL * neuropil[keep]
        repairs.append(f"{_NEUROPIL} of the neuropil signal was taken off")
    traces = _relative(values).T.astype(np.float32)
    names = [str(cell) for cell in np.flatnonzero(keep)]
    name = folder.parent.name if folder.name in ("plane0", "suite2p") else folder.name
    return _session(name, traces, rate_hz, {}, ("suite2p", names, tuple(repairs)))


def _matrix(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    values = read_npy(path, mapped=mapped)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiub":
        raise InputError(
            path,
            f"has shape {values.shape} of {values.dtype}, a table of numbers is needed",
            "one row per region is needed",
        )
    return values


def _relative(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (F - F0) / F0 of cells (N, T)."""
    # A missing frame must not take its whole cell along; cells without a number stay NaN.
    gaps = np.isnan(values).any(1) & ~np.isnan(values).all(1)
    base = np.percentile(values, _BASELINE, axis=1, keepdims=True)
    height = np.abs(values).mean(1, keepdims=True)
    if gaps.any():
        base[gaps] = np.nanpercentile(values[gaps], _BASELINE, axis=1, keepdims=True)
        height[gaps] = np.nanmean(np.abs(values[gaps]), axis=1, keepdims=True)
    # A baseline near zero after the neuropil is gone would blow the ratio up.
    found: npt.NDArray[np.float64] = (values - base) / np.maximum(
        np.abs(base), height * 1e-3 + 1e-12
    )
    return found


def read_arrays(path: Path, rate_hz: float) -> list[Session]:
    """Read an `.npz` or `.npy` file.

    An `.npz` with a matrix named like traces is one session with labels; one whose matrices have
    other names holds one session each.

    Args:
        path: The file.
        rate_hz: Frames per second where no time stamps tell them.

    Raises:
        InputError: The file is damaged or holds no matrix.
    """
    if path.suffix == ".npy":
        return [_from_arrays(path.stem, read_npy(path, mapped=True), {}, rate_hz, str(path))]
    found = read_npz(path)
    main = next((name for name in NAMES if name in found and found[name].ndim == 2), None)
    if main is not None:
        rest = {name: values for name, values in found.items() if name != main}
        return [_from_arrays(path.stem, found[main], rest, rate_hz, f"{path}:{main}")]
    matrices = {name: v for name, v in found.items() if v.ndim == 2 and v.dtype.kind in "fiu"}
    if not matrices:
        listing = ", ".join(f"{n} {v.shape}" for n, v in list(found.items())[:4])
        raise InputError(
            path, f"holds no matrix of traces ({listing})", "frames x neurons is needed"
        )
    return [
        _from_arrays(f"{path.stem}-{name}", values, {}, rate_hz, f"{path}:{name}")
        for name, values in matrices.items()
    ]


def find_matrix(file: Any) -> str | None:
    """Return the name of a matrix of traces at the root of an HDF5 file, or None."""
    for name in NAMES:
        if name in h5_names(file) and getattr(file[name], "ndim", 0) == 2:
            return name
    return None


def read_hdf5(file: Any, path: Path, rate_hz: float) -> Session:
    """Read a matrix at the root of an HDF5 file, with labels beside it.

    Args:
        file: From `open_h5`; `find_matrix` found one.
        path: Its path.
        rate_hz: Frames per second where no time stamps tell them.

    Raises:
        InputError: A dataset is damaged or does not fit.
    """
    main = find_matrix(file)
    assert main is not None
    traces = h5_map(h5_dataset(file, main, n_dims=2))
    rest = {
        name: h5_read(h5_dataset(file, name))
        for name in h5_names(file)
        if name != main and getattr(file[name], "shape", None) and file[name].dtype.kind in "fiub"
    }
    return _from_arrays(path.stem, traces, rest, rate_hz, f"{path}:{main}")


def _from_arrays(
    name: str,
    traces: npt.NDArray[Any],
    rest: Mapping[str, npt.NDArray[Any]],
    rate_hz: float,
    where: str,
) -> Session:
    if traces.ndim != 2 or traces.dtype.kind not in "fiu":
        raise InputError(
            where, f"has shape {traces.shape} of {traces.dtype}, frames x neurons is needed"
        )
    repairs = []
    times = next((rest[key] for key in _TIMES if key in rest and rest[key].ndim == 1), None)
    lengths = [len(v) for v in rest.values() if v.ndim >= 1]
    is_told = any(length == traces.shape[1] for length in lengths)
    if (is_told and traces.shape[0] not in lengths) or (
        not lengths and traces.shape[0] < traces.shape[1]
    ):
        traces = traces.T
        repairs.append("the traces are stored neurons first and were turned")
    n_frames = traces.shape[0]
    rate, start = rate_hz, 0.0
    if times is not None:
        try:
            if len(times) != n_frames:
                raise InputError(where, f"{len(times)} times for {n_frames} frames")
            start, rate = float(times[0]), rate_of(times, where)
        except InputError:
            start = 0.0
            repairs.append(
                f"the {len(times)} time stamps are no clock of the {n_frames} frames: "
                f"{rate_hz:g} Hz was taken instead"
            )
    masks = {part: key for part, key in _MASKS.items() if key in rest}
    labels = {
        key: _label(values)
        for key, values in rest.items()
        if key not in (*_TIMES, *_MASKS.values())
        and values.ndim in (1, 2)
        and len(values) == n_frames
        and values.dtype.kind in "fiub"
    }
    session = _session(name, traces, rate, labels, ("array", None, tuple(repairs)), start)
    if not masks:
        return session
    base = where.rpartition(":")[0] or where
    parts = checked_parts(
        {part: rest[key].astype(bool) for part, key in masks.items()},
        n_frames,
        {part: f"{base}:{key}" for part, key in masks.items()},
    )
    return Session(**{**vars(session), "segments": parts, "split": "masks of the file"})


def _label(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.int32) if values.dtype.kind in "iub" else values.astype(np.float32)


def _session(
    name: str,
    traces: npt.NDArray[Any],
    rate_hz: float,
    labels: Mapping[str, npt.NDArray[Any]],
    about: tuple[str, list[str] | None, tuple[str, ...]],
    start_s: float = 0.0,
) -> Session:
    layout, neurons, repairs = about
    segments, split = derived_parts({}, len(traces), rate_hz)
    return Session(
        name=name,
        traces=traces,
        rate_hz=rate_hz,
        start_s=start_s,
        segments=segments,
        labels=labels,
        neurons=names_of(traces.shape[1], neurons),
        layout=layout,
        split=split,
        repairs=repairs,
    )
