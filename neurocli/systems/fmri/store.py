"""The doors to stored runs: open one by its content, find all below a folder, write one.

Readable are packed, dense and patch HDF5 of this program, `fmri_data` HDF5 of older converters,
and folders of `frame_{i}.pt`. All give the same clips.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from neurocli.core.data.frames import FIRST_FRAME
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.output import MANIFEST_FILE
from neurocli.core.errors import InputError
from neurocli.systems.fmri.store_base import RunInfo, RunStore
from neurocli.systems.fmri.store_frames import FrameStore
from neurocli.systems.fmri.store_open import open_hdf5
from neurocli.systems.fmri.store_write import StoreForm, write_store

__all__ = [
    "RunInfo",
    "RunStore",
    "StoreForm",
    "find_stores",
    "open_store",
    "participant_of",
    "scan_runs",
    "write_store",
]

_BIDS_PERSON = re.compile(r"(sub-[A-Za-z0-9]+)(?:_.*)?")
_SUFFIXES = (".h5", ".hdf5")
SCAN_DEPTH = 4  # as deep as img/<release>/<subject> below a root


def participant_of(name: str) -> str:
    """Return the person that a run's name tells, or the name itself.

    >>> participant_of("sub-01_task-rest_run-2"), participant_of("100206")
    ('sub-01', '100206')
    """
    match = _BIDS_PERSON.fullmatch(name)
    return match[1] if match else name


def open_store(path: Path) -> RunStore:
    """Open a stored run.

    Args:
        path: An HDF5 file or a folder of frames.

    Returns:
        The store; its subject is what the file says, else named after the path.

    Raises:
        InputError: There is no run, or it is damaged or incomplete.
    """
    if path.is_dir():
        name = path.name
        return FrameStore(path, (name, participant_of(name)))
    name = path.stem if path.suffix in _SUFFIXES else path.name
    return open_hdf5(path, (name, participant_of(name)))


def find_stores(folder: Path) -> list[tuple[str, str, Path]]:
    """List the stored runs of a dataset.

    A folder of ours is listed by its manifest (finished runs only), others are scanned: HDF5 files
    and folders with `frame_0.pt`, up to three levels down.

    Args:
        folder: A preprocessed folder, a folder of HDF5 files, a root of frame folders, or one run.

    Returns:
        (subject, participant, path), sorted by subject.

    Raises:
        InputError: The path is missing, nothing is found, or two runs have one name.
    """
    if not folder.exists():
        raise InputError(folder, "does not exist", "give a folder that `neuro preprocess` wrote")
    if folder.is_file() or (folder / FIRST_FRAME).is_file():
        store = open_store(folder)
        return [(store.subject, store.participant, folder)]
    manifest = folder / MANIFEST_FILE
    found = _listed(folder, manifest) if manifest.is_file() else list(scan_runs(folder))
    if not found:
        raise InputError(
            folder,
            "holds no stored run (looked for .h5 files and folders with frame_0.pt)",
            "make one with `neuro preprocess`",
        )
    found.sort()
    for (name, _, first), (again, _, second) in pairwise(found):
        if name == again:
            raise InputError(
                folder,
                f"two runs are named {name}: {first.relative_to(folder)}, "
                f"{second.relative_to(folder)}",
                "give the folder of one of them",
            )
    return found


def _listed(folder: Path, manifest: Path) -> list[tuple[str, str, Path]]:
    found = []
    for subject, record in Manifest(manifest).records().items():
        if record.get("status") == "done":
            # A missing file is met when it is opened, where it costs one run and not the rest.
            path = _main_file(folder, record)
            found.append((subject, str(record.get("participant") or subject), path))
    return found


def _main_file(folder: Path, record: dict[str, Any]) -> Path:
    names = record.get("files")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise InputError(folder / MANIFEST_FILE, f"{record['subject']} has no files")
    path = folder / names[0]
    # A manifest may come from anywhere and must not lead out of its folder.
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(folder / MANIFEST_FILE, f"{record['subject']} lies outside: {names[0]}")
    return path


def scan_runs(folder: Path, depth: int = SCAN_DEPTH) -> Iterator[tuple[str, str, Path]]:
    """Yield what looks like a stored run below a folder, without opening it.

    Args:
        folder: Where to look.
        depth: Levels of folders, this one included.

    Yields:
        (subject, participant, path).

    Raises:
        InputError: A folder cannot be listed.
    """
    if (folder / FIRST_FRAME).is_file():
        yield folder.name, participant_of(folder.name), folder
        return
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(folder, f"cannot be listed: {error.strerror or error}") from error
    for path in entries:
        if path.is_dir():
            if depth > 1:
                yield from scan_runs(path, depth - 1)
        elif path.suffix in _SUFFIXES and path.is_file():
            name = folder.name if path.stem == "bold" else path.stem
            yield name, participant_of(name), path
