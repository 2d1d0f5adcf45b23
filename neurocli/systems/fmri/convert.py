"""Convert stored runs to one HDF5 file per subject.

Any source that `store` opens will do: preprocessed folders, frame folders, older HDF5. Values keep
the scaling they have. int16 files store `value = stored * scale_factor + offset` (root attributes):
lossless for whole numbers, else with steps of the largest distance from the background / 32767.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from neurocli.core.data import output
from neurocli.core.data.frames import STATS_FILE, frame_paths
from neurocli.core.data.items import Found, Item, OutputSpec, PrepareResult
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.runner import plan_items, refuse_own_source, run_items
from neurocli.core.errors import InputError, NeuroError, NotBuiltYetError
from neurocli.core.events import Listener, ignore
from neurocli.core.names import lookup
from neurocli.core.paths import safe_name
from neurocli.systems.fmri.store import find_stores, open_store
from neurocli.systems.fmri.store_write import StoreForm, write_store

FORMAT_VERSION = "fmri-hdf5/1"
"""Changes whenever the output of `convert_run` does."""

_PROCESS = f"{__name__}:convert_run"
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def convert_hdf5(
    src: Path,
    out: Path,
    *,
    jobs: int = 1,
    force: bool = False,
    dry_run: bool = False,
    listener: Listener = ignore,
    **form: str,
) -> PrepareResult:
    """Write one HDF5 file per run of a dataset.

    Args:
        src: A folder or file that holds stored runs.
        out: Output folder.
        jobs: Worker processes; the bytes do not depend on it.
        force: Take over a folder of another run and redo everything.
        dry_run: Only find and plan.
        listener: Told the progress.
        **form: `layout`, `dtype` and `compression`, see `StoreForm`.

    Returns:
        Counts, failures and notes.

    Raises:
        UsageError: An unknown word, or the output folder is another run's or the source.
        MissingDependencyError: zstd is asked for and absent.
        NotBuiltYetError: Started by an MPI launcher with several ranks.
        InputError: The source holds no stored run.
        NeuroError: Nothing could be converted.
    """
    for name in form:
        lookup("option", name, dict.fromkeys(StoreForm.__dataclass_fields__))
    wanted = StoreForm(**form)
    wanted.check()
    _refuse_mpi()
    refuse_own_source([src], out)
    found = find_runs(src)
    dataset = str(output.describe(src).get("dataset", "stored")) if src.is_dir() else "stored"
    spec = OutputSpec("fmri", "hdf5", dataset, FORMAT_VERSION, is_flat=True)
    options = asdict(wanted)
    if dry_run:
        return plan_items(found, out, spec=spec, options=options, force=force)
    return run_items(
        found,
        _PROCESS,
        out,
        spec=spec,
        options=options,
        jobs=jobs,
        listener=listener,
        force=force,
    )


def _refuse_mpi() -> None:
    for name in _MPI_SIZES:
        size = os.environ.get(name, "1")
        if size.isdigit() and int(size) > 1:
            raise NotBuiltYetError(
                f"{size} MPI ranks would all do the same work: conversion under mpiexec is not in "
                "this version",
                hint="run it once, without mpiexec, with --jobs N",
            )


def find_runs(src: Path) -> Found:
    """List the stored runs of a source as items.

    Args:
        src: A folder or file that holds stored runs.

    Raises:
        InputError: There is none.
    """
    items = [
        Item(subject, participant, _files(path), {"path": path, "subject": subject})
        for subject, participant, path in find_stores(src)
    ]
    if not src.is_dir():
        return Found(items)
    notes = []
    failed = [
        record["subject"]
        for record in Manifest(src / output.MANIFEST_FILE).records().values()
        if record.get("status") == "failed"
    ]
    if failed:
        notes.append(f"{len(failed)} runs failed in preprocess and are not here: {failed[0]} ...")
    people = output.read_people(src / output.PEOPLE_FILE) or None
    built_in = output.describe(src).get("built_in_data") is True
    return Found(items, notes=notes, participants=people, built_in_data=built_in)


def _files(path: Path) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    try:
        frames = frame_paths(path)
    except InputError:
        # Reported when the item is processed, so that the others go on.
        return ()
    stats = path / STATS_FILE
    return (*frames, stats) if stats.exists() else tuple(frames)


def convert_run(item: Item, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert one stored run into a folder.

    Args:
        item: From `find_runs`.
        folder: Private and empty; gets `<subject>.h5`.
        options: Fields of `StoreForm`.

    Returns:
        Fields for the manifest.

    Raises:
        InputError: The source is damaged or holds NaN.
        NeuroError: A value does not fit the dtype.
    """
    path = Path(item.details["path"])
    form = StoreForm(**options)
    name = f"{safe_name(item.subject)}.h5"
    with open_store(path) as store:
        info = store.info.named(item.subject, item.participant)
        try:
            write_store(
                folder / name,
                info,
                mask=store.mask,
                blocks=store.iter_blocks,
                stats=store.stats,
                form=form,
                background=store.background,
            )
        except InputError:
            raise
        except NeuroError as error:
            raise InputError(path, error.message, error.hint) from error
        return {
            "files": [name],
            "shape": list(info.shape),
            "dtype": form.dtype,
            "affine": info.affine.tolist(),
            "tr_s": info.tr_s,
            "stats": {**store.stats.as_dict(), "n_voxels_in_mask": store.n_voxels},
        }
