"""The datasets of a run: one folder, or several that are joined into one training set.

Ids of joined datasets carry the dataset's name (`ukb.sub-01`), so that nobody is taken for somebody
else. Datasets on different voxels are refused by name: a model would learn to tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurocli.core.data.documents import read_json
from neurocli.core.errors import InputError, UsageError
from neurocli.core.events import Listener
from neurocli.systems.fmri.config import FmriDataBlock, JoinedData
from neurocli.systems.fmri.found import Found, FoundRun, scan_dataset

JOIN_KEY = "data.join"
_SAME_TR = 0.01  # repetition times closer than this share count as equal


@dataclass(frozen=True)
class Source:
    """Name one dataset of a run.

    Args:
        folder: Where it is.
        table: Its phenotypes; the file need not exist.
        name: Stands before its ids; None for a dataset that is alone.
        weight: Its share of an epoch, over the sum of all; None draws every clip once.
        split: A split file with its own ids.
        built_in: Whether it was made from built-in data.
    """

    folder: Path
    table: Path
    name: str | None = None
    weight: float | None = None
    split: str | None = None
    built_in: bool = False


def open_sources(
    data: FmriDataBlock, listener: Listener, like: Mapping[str, Any] | None
) -> list[Source]:
    """Return the datasets that a configuration names, or the built-in cohort.

    Args:
        data: The data block.
        listener: Hears about the making of the built-in cohort.
        like: `RunData.info` of the data a model was trained on; where those were joined, ids of
            this data carry a name too, so that people who were trained on are recognised.

    Raises:
        UsageError: Two datasets have one name, or joined ones are judged by a model of one.
        InputError: A folder does not exist.
    """
    known = [str(entry["name"]) for entry in (like or {}).get("datasets", ())]
    if data.join and like is not None and not known:
        raise UsageError(
            "the checkpoint was trained on one dataset, whose ids carry no name: people it was "
            "trained on would not be recognised among joined ones",
            where=JOIN_KEY,
            hint="judge one dataset at a time with --data",
        )
    if data.join:
        return _joined(data.join)
    if data.path is None:
        from neurocli.systems.fmri.dummy import built_in_cohort

        folder = built_in_cohort(listener=listener)
        return [Source(folder, _table(folder, data.table), built_in=True)]
    folder = _existing(data.path)
    name = _name_of(folder) if known else None
    return [Source(folder, _table(folder, data.table), name, built_in=_is_built_in(folder))]


def _joined(entries: Sequence[JoinedData]) -> list[Source]:
    sources: dict[str, Source] = {}
    for entry in entries:
        folder = _existing(entry.path)
        name = entry.name or _name_of(folder)
        if name in sources:
            raise UsageError(
                f"two datasets are called {name}: {sources[name].folder} and {folder}",
                where=JOIN_KEY,
                hint=f"name them: -s '{JOIN_KEY}=[{{path: A, name: a}}, {{path: B, name: b}}]'",
            )
        table = _table(folder, entry.table)
        is_built_in = _is_built_in(folder)
        sources[name] = Source(folder, table, name, entry.weight, entry.split, is_built_in)
    return list(sources.values())


def _existing(path: str) -> Path:
    folder = Path(path)
    if not folder.exists():
        raise InputError(folder, "no such dataset", "make one with `neuro convert-hdf5`")
    return folder


def _name_of(folder: Path) -> str:
    own = folder.resolve()
    return re.sub(r"[^A-Za-z0-9_-]+", "-", own.name if own.is_dir() else own.stem) or "data"


def _is_built_in(folder: Path) -> bool:
    # A cohort that was prepared from built-in data stays marked through every later step.
    path = folder / "dataset.json"
    return path.is_file() and bool(read_json(path).get("built_in_data", False))


def _table(folder: Path, table: str | None) -> Path:
    root = folder if folder.is_dir() else folder.parent
    return Path(table) if table else root / "participants.tsv"


def scan_sources(sources: Sequence[Source], data: FmriDataBlock) -> Found:
    """List the usable runs of all datasets, one dataset after another.

    Raises:
        InputError: A dataset has no usable run.
        UsageError: Joined datasets have different voxels.
    """
    pieces = [scan_dataset(source.folder, data, source.name) for source in sources]
    if len(pieces) == 1:
        return pieces[0]
    found = Found()
    for piece in pieces:
        found.usable += piece.usable
        found.scalings |= piece.scalings
        found.spacings_mm |= piece.spacings_mm
        found.patches |= piece.patches
        found.left_out += piece.left_out
        found.digest += piece.digest
        found.notes += piece.notes
    if len(found.scalings) > 1 and data.scaling != "voxel-z":
        told = [f"{s.name} ({', '.join(sorted(p.scalings))})" for s, p in _pairs(sources, pieces)]
        raise UsageError(
            f"joined datasets were stored with different scalings: {', '.join(told)}",
            where=JOIN_KEY,
            hint="prepare them with the same --scaling, or set data.scaling=voxel-z, which is the "
            "same after any of them",
        )
    _check_grids(sources, pieces, is_allowed=data.mixed_grids)
    found.notes += _repetition_times(sources, pieces, data)
    return found


def _pairs(sources: Sequence[Source], pieces: Sequence[Found]) -> Iterable[tuple[Source, Found]]:
    return zip(sources, pieces, strict=True)


def _check_grids(sources: Sequence[Source], pieces: Sequence[Found], *, is_allowed: bool) -> None:
    grids = [{_grid_text(each) for each in piece.usable} for piece in pieces]
    if is_allowed or len(set().union(*grids)) == 1:
        return
    told = [
        f"{source.name} has {' and '.join(sorted(own))}"
        for source, own in zip(sources, grids, strict=True)
    ]
    raise UsageError(
        f"joined datasets lie on different voxels: {'; '.join(told)}",
        where=JOIN_KEY,
        hint="prepare them with `neuro preprocess --space mni2mm`, or join them as they are with "
        "-s data.mixed_grids=true",
    )


def _grid_text(run: FoundRun) -> str:
    return f"{'x'.join(f'{size:g}' for size in run.spacing_mm)} mm {run.orientation}"


def _repetition_times(
    sources: Sequence[Source], pieces: Sequence[Found], data: FmriDataBlock
) -> list[str]:
    times: dict[str, float] = {}
    for source, piece in _pairs(sources, pieces):
        known = sorted(each.tr_s for each in piece.usable if each.tr_s is not None)
        if known:
            times[str(source.name)] = known[len(known) // 2]
    if not times or max(times.values()) <= min(times.values()) * (1 + _SAME_TR):
        return []
    n_frames = (data.sequence_length - 1) * data.stride_within + 1
    told = [f"{n_frames * tr:.3g} s of {name} ({tr:g} s a frame)" for name, tr in times.items()]
    return [
        f"repetition times differ and are not resampled: a clip of {n_frames} frames spans "
        f"{', '.join(told)}"
    ]
