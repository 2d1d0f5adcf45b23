"""What a dataset folder holds for a run: which runs, which windows of them, what is left out.

Every run that is found and not used is listed with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from neurocli.core.data.geometry import axis_codes, voxel_size_mm
from neurocli.core.data.windows import window_starts
from neurocli.core.errors import InputError, NeuroError
from neurocli.core.names import choices_text
from neurocli.systems.fmri.clips import ClipReader, Run
from neurocli.systems.fmri.config import FmriDataBlock
from neurocli.systems.fmri.store import RunStore, find_stores, open_store
from neurocli.systems.fmri.targets import Targets

Triple = tuple[int, int, int]


@dataclass
class FoundRun:
    """Hold a usable run.

    Args:
        run: What it is.
        shape: Its grid.
        n_frames: Its length.
        tr_s: Repetition time in seconds; None when unknown.
        starts: First frames of its windows.
        spacing_mm: Voxel size, to 0.01 mm.
        orientation: Direction of each axis, e.g. "LAS".
    """

    run: Run
    shape: Triple
    n_frames: int
    tr_s: float | None
    starts: list[int]
    spacing_mm: tuple[float, ...]
    orientation: str


@dataclass
class Found:
    """Collect what a dataset folder holds while it is read.

    Args:
        usable: Runs with at least one window, sorted by id.
        scalings: Scalings that the files carry.
        spacings_mm: Voxel sizes.
        patches: Sizes of the patches that files hold; None for files of voxels.
        left_out: (name, reason) of each run that is not used.
        digest: One line per thing that was read, to notice other data later.
        notes: Sentences the user should read.
    """

    usable: list[FoundRun] = field(default_factory=list)
    scalings: set[str] = field(default_factory=set)
    spacings_mm: set[tuple[float, ...]] = field(default_factory=set)
    patches: set[Triple | None] = field(default_factory=set)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    digest: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        """Return the usable runs."""
        return [each.run for each in self.usable]

    @property
    def shapes(self) -> list[Triple]:
        """Return the grid of each usable run."""
        return [each.shape for each in self.usable]

    @property
    def participants(self) -> list[str]:
        """Return whose runs they are, each person once."""
        return list(dict.fromkeys(each.run.participant for each in self.usable))


def scan_dataset(folder: Path, data: FmriDataBlock, dataset: str | None = None) -> Found:
    """List the runs of a dataset folder that are long enough for one window.

    Args:
        folder: A prepared folder, or one run.
        data: Says how windows are cut.
        dataset: Name that stands before the ids of a dataset that is joined with others.

    Returns:
        Usable runs, and the others with their reasons.

    Raises:
        InputError: There is no usable run.
    """
    found = Found()
    for own, _, path in find_stores(folder):
        subject = joined_id(dataset, own)
        try:
            store = open_store(path)
        except NeuroError as error:
            found.left_out.append((subject, error.message))
            continue
        starts = window_starts(
            store.n_frames,
            data.sequence_length,
            stride_within=data.stride_within,
            stride_between=data.stride_between,
        )
        if not starts:
            needed = data.sequence_length * data.stride_within
            reason = f"{store.n_frames} frames, shorter than one clip of {needed}"
            found.left_out.append((subject, f"{reason}; lower data.sequence_length"))
        else:
            found.usable.append(_usable(store, subject, starts, dataset))
            found.scalings.add(store.scaling)
            found.patches.add(store.patch_size)
            found.spacings_mm.add(found.usable[-1].spacing_mm)
            found.digest.append(f"{subject} {store.shape} {path.stat().st_size}")
        store.close()
    if not found.usable:
        raise _nothing(folder, found.left_out)
    return found


def _usable(store: RunStore, subject: str, starts: list[int], dataset: str | None) -> FoundRun:
    run = Run(subject, joined_id(dataset, store.participant), store.path, dataset)
    grid = cast(Triple, tuple(store.shape[:3]))
    spacing = tuple(round(size, 2) for size in voxel_size_mm(store.affine))
    orientation = axis_codes(store.affine)
    return FoundRun(run, grid, store.n_frames, store.tr_s, starts, spacing, orientation)


def joined_id(dataset: str | None, own: str) -> str:
    """Return an id that is unique among joined datasets; names hold no dot, so it can be undone.

    >>> joined_id("ukb", "sub-01"), joined_id(None, "sub-01")
    ('ukb.sub-01', 'sub-01')
    """
    return own if dataset is None else f"{dataset}.{own}"


def _nothing(folder: Path, left_out: Sequence[tuple[str, str]]) -> NeuroError:
    if not left_out:
        return InputError(
            folder, "holds no runs", "name a folder made by preprocess or convert-hdf5"
        )
    name, reason = left_out[0]
    more = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
    return InputError(folder, f"no usable run: {name}: {reason}{more}")


def keep_labelled(found: Found, targets: Targets) -> None:
    """Drop the people whose target is unknown, and say so.

    Args:
        found: Changed in place.
        targets: One value per participant.

    Raises:
        NeuroError: Nobody is left.
    """
    dropped = [name for name in found.participants if name not in targets.values]
    found.usable = [each for each in found.usable if each.run.participant in targets.values]
    if not found.usable:
        raise NeuroError(
            f"no participant of the dataset has a value of {targets.column}",
            hint="ids in the table must equal the dataset's; see participants in manifest.jsonl",
        )
    if dropped:
        found.notes.append(
            f"{len(dropped)} participants have no value of {targets.column} and take no part: "
            f"{choices_text(dropped)}"
        )


def leave_out_unpaired(found: Found, reader: ClipReader) -> None:
    """Drop the windows that no other window of their run lies outside of.

    Args:
        found: Changed in place; runs keep their places in the reader.
        reader: Of the same runs in the same order.

    Raises:
        NeuroError: No window is left.
    """
    for index, each in enumerate(found.usable):
        each.starts = [start for start in each.starts if reader.partners(index, start)]
        if not each.starts:
            found.left_out.append((each.run.subject, "too short for two clips that share no time"))
    if not any(each.starts for each in found.usable):
        raise NeuroError(
            f"no run is long enough for two clips of {reader.plan.length} frames",
            where="task.objective: contrastive",
            hint="lower data.sequence_length",
        )
