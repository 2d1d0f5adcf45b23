"""Find the runs that a user means by files and folders.

`nifti`: each file is one subject, named after it; folders are searched in themselves and one level
below. `bids`: a root, a derivatives root or one participant's folder; preprocessed runs are taken
where there are some, else the raw ones. `frames`: folders of `frame_{i}.pt`. Files are judged when
they are processed, so that a bad one never stops the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.data.frames import STATS_FILE, frame_paths
from neurocli.core.data.items import Found, Item
from neurocli.core.data.nifti import read_header
from neurocli.core.data.workers import reason_text
from neurocli.core.errors import InputError
from neurocli.systems.fmri.bids import stem_of
from neurocli.systems.fmri.mask import mask_sources
from neurocli.systems.fmri.store import participant_of, scan_runs

# Words of names that single volumes carry; a file is left out only when it is one, too.
_VOLUME_WORDS = frozenset(
    ["mask", "masks", "brainmask", "t1w", "t1", "t2w", "t2", "flair", "anat", "anatomy",
     "atlas", "atlases", "aparc", "aseg", "seg", "dseg", "probseg", "dtissue", "roi", "rois",
     "template", "parcellation", "boldref", "sbref", "ref", "reference", "mean", "fmap",
     "magnitude", "phasediff"]
)  # fmt: skip
_NAMED = 3


def find_nifti(sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List plain NIfTI runs, one subject per file.

    Folders are searched in themselves and one level below, hidden files left alone. Volumes (3D)
    whose name says what they are (mask, T1w, atlas ...) are left out with a note; other volumes
    become items and fail. Where two files of one folder have the same name, the name of their own
    folder goes before it.

    Args:
        sources: Files and folders.
        options: Values of `PreprocessOptions`.

    Raises:
        InputError: A folder holds no NIfTI file; no source exists.
        UsageError: The mask is no file.
    """
    masks = mask_sources(str(options["mask"]))
    found: dict[Path, str] = {}
    left_out: list[str] = []
    failures: list[tuple[str, str]] = []
    missing: list[InputError] = []
    for source in sources:
        if source.is_dir():
            runs, volumes = _scan_folder(source)
            found |= runs
            left_out += volumes
        elif source.exists() or source.is_symlink():
            found[source] = stem_of(source) or source.name
        else:
            missing.append(InputError(source, "does not exist", "check the name and the folder"))
            failures.append((stem_of(source) or source.name, reason_text(missing[-1])))
    if missing and not found:
        raise missing[0]
    items = [
        Item(name, participant_of(name), (path, *masks), {"kind": "nifti"})
        for path, name in found.items()
    ]
    notes = []
    if left_out:
        named = ", ".join(left_out[:_NAMED]) + (" ..." if len(left_out) > _NAMED else "")
        notes.append(f"{len(left_out)} single volumes were left out by their names: {named}")
    return Found(items, failures, notes)


def _scan_folder(folder: Path) -> tuple[dict[Path, str], list[str]]:
    """Return run names by path, and the names of volumes that were left out."""
    paths = list(_images(folder))
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.name.startswith("."):
            paths += _images(below)
    if not paths:
        is_bids = (folder / "dataset_description.json").exists()
        raise InputError(
            folder,
            "holds no .nii or .nii.gz, nor does a folder in it",
            "it is a BIDS dataset: use `neuro preprocess bids`" if is_bids else "check the folder",
        )
    left_out = [path for path in paths if _is_named_volume(path, folder)]
    runs = [path for path in paths if path not in left_out]
    if not runs:
        raise InputError(
            folder, f"holds no series, only {len(left_out)} volumes such as {left_out[0].name}"
        )
    names = {path: stem_of(path) or path.name for path in runs}
    counts = Counter(names.values())
    for path, name in names.items():
        if counts[name] > 1 and path.parent != folder:
            names[path] = f"{path.parent.name}_{name}"
    return names, [str(path.relative_to(folder)) for path in left_out]


def _images(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(folder, f"cannot be listed: {error.strerror or error}") from error
    return [path for path in entries if not path.name.startswith(".") and stem_of(path)]


def _is_named_volume(path: Path, folder: Path) -> bool:
    words = set(re.split(r"[^a-z0-9]+", str(path.relative_to(folder)).lower()))
    if not words & _VOLUME_WORDS:
        return False
    try:
        return read_header(path).n_frames == 1
    except InputError:
        return False


def find_frames(sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List folders of `frame_{i}.pt`, one subject per folder, named after it.

    Args:
        sources: Such folders, or folders that hold them up to three levels down.
        options: Values of `PreprocessOptions`.

    Raises:
        InputError: A source is missing or holds no frame folder.
        UsageError: The mask is no file.
    """
    masks = mask_sources(str(options["mask"]))
    items, failures = [], []
    for source in sources:
        if not source.is_dir():
            problem = "is a file, a folder is needed" if source.exists() else "does not exist"
            raise InputError(source, problem, "give a folder of frame_{i}.pt folders")
        folders = [run for run in scan_runs(source) if run[2].is_dir()]
        if not folders:
            raise InputError(
                source, "holds no folder with frame_0.pt", "check the folder, or use nifti or bids"
            )
        for subject, participant, path in folders:
            try:
                frames = frame_paths(path)
            except InputError as error:
                failures.append((subject, reason_text(error)))
                continue
            stats = [path / STATS_FILE] if (path / STATS_FILE).exists() else []
            sources_of = (*frames, *stats, *masks)
            items.append(Item(subject, participant, sources_of, {"kind": "frames"}))
    return Found(items, failures)
