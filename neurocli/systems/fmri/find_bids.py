"""Find functional runs in BIDS datasets and fMRIPrep derivatives, old names included."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurocli.core.data.items import Found, Item
from neurocli.core.data.output import PEOPLE_FILE, read_people
from neurocli.core.data.workers import reason_text
from neurocli.core.errors import InputError, UsageError
from neurocli.systems.fmri.bids import (
    PERSON_PREFIX,
    BidsFile,
    Sidecars,
    derivative_roots,
    functional_files,
    is_root,
    stem_of,
)
from neurocli.systems.fmri.confounds import find_confounds
from neurocli.systems.fmri.mask import mask_sources

# Standard spaces before individual ones: only there do voxels of two people correspond.
_SPACES = ("MNI152NLin2009cAsym", "MNI152NLin6Asym", "MNI152")
_INDIVIDUAL = ("T1w", "func", "boldref", "scanner", "")


@dataclass(frozen=True)
class _Dataset:
    """Hold one source: the root that was meant, derivatives below it, and where its metadata is."""

    root: Path
    derivatives: tuple[Path, ...]
    metadata: Path
    people: frozenset[str] | None


@dataclass(frozen=True)
class _Run:
    file: BidsFile
    mask: Path | None
    unused_mask: Path | None
    tr_s: float | None
    confounds: Path | None


def find_bids(sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List the runs of BIDS datasets.

    For every run the preprocessed image is taken where derivatives hold one (standard spaces
    first), else the raw one. Its brain mask goes along when it is of the same space; whether the
    grids agree is checked when the run is processed. A person with one run gives the subject its
    name; where anyone has several, the entities that differ are added.

    Args:
        sources: Roots, derivatives roots, or folders of one participant.
        options: Values of `PreprocessOptions`.

    Returns:
        Items and, from `participants.tsv`, the phenotypes of their people.

    Raises:
        InputError: A source is missing or holds no functional run.
        UsageError: A source is a file, or the mask is no file.
    """
    masks = mask_sources(str(options["mask"]))
    is_own_mask = options["mask"] == "auto"
    runs: list[_Run] = []
    failures: list[tuple[str, str]] = []
    notes: list[str] = []
    people: dict[str, dict[str, str | None]] = {}
    for source in sources:
        dataset = _dataset(source)
        found = _runs(dataset, failures, notes)
        if not found and not failures:
            raise InputError(
                source, "holds no *_bold.nii or *_bold.nii.gz in sub-*/func", "check the folder"
            )
        runs += found
        people |= _phenotypes(dataset, {run.file.person for run in found}, notes)
    if is_own_mask:
        notes += _mask_notes(runs)
    names = _subject_names([run.file for run in runs])
    wanted = {"mask": is_own_mask, "confounds": options.get("confounds", "none") != "none"}
    items = []
    for run in runs:
        beside = {
            key: path
            for key, path in (("mask", run.mask), ("confounds", run.confounds))
            if path is not None and wanted[key]
        }
        sources = (run.file.path, *beside.values(), *masks)
        details = {"kind": "nifti", "tr_s": run.tr_s, **beside}
        items.append(Item(names[run.file.path], run.file.person, sources, details))
    return Found(items, failures, notes, people or None)


def _dataset(source: Path) -> _Dataset:
    if not source.exists():
        raise InputError(source, "does not exist", "give a BIDS root (a folder with sub-* in it)")
    if not source.is_dir():
        raise UsageError(
            "bids takes folders",
            where=str(source),
            hint="for single files use `neuro preprocess nifti FILE...`",
        )
    people = None
    root = source
    if source.resolve().name.startswith(PERSON_PREFIX):
        root, people = source.resolve().parent, frozenset([source.resolve().name])
    derivatives = tuple(derivative_roots(root))
    if not is_root(root) and not derivatives:
        raise InputError(root, "holds no sub-* folder", "give a BIDS root or a derivatives root")
    home = root.resolve().parent
    if home.name == "derivatives" and is_root(home.parent):
        # Derivatives often leave metadata and phenotypes to the dataset they were made from.
        return _Dataset(root, derivatives, home.parent, people)
    return _Dataset(root, derivatives, root, people)


def _runs(dataset: _Dataset, failures: list[tuple[str, str]], notes: list[str]) -> list[_Run]:
    raw: dict[Any, BidsFile] = {}
    derived: defaultdict[Any, list[BidsFile]] = defaultdict(list)
    masks: defaultdict[Any, list[BidsFile]] = defaultdict(list)
    for home in dict.fromkeys([dataset.root, *dataset.derivatives]):
        for file in functional_files(home, dataset.people):
            if file.is_brain_mask:
                masks[file.run_key].append(file)
            elif file.entities.get("part") == "phase":
                continue
            elif file.is_preprocessed_bold:
                derived[file.run_key].append(file)
            elif file.is_raw_bold and home == dataset.root:
                if file.run_key in raw:
                    first = raw[file.run_key].path.name
                    notes.append(f"{first} and {file.path.name} are one run; the first was taken")
                raw.setdefault(file.run_key, file)
    chosen = [
        _preferred(derived[key]) if key in derived else raw[key] for key in {**raw, **derived}
    ]
    notes += _choice_notes(chosen, derived)
    sidecars = Sidecars((dataset.metadata, dataset.root, *dataset.derivatives))
    runs = []
    for file in sorted(chosen, key=lambda file: file.path):
        try:
            runs.append(_run(file, masks[file.run_key], sidecars))
        except InputError as error:
            failures.append((stem_of(file.path) or file.path.name, reason_text(error)))
    return runs


def _run(file: BidsFile, masks: Iterable[BidsFile], sidecars: Sidecars) -> _Run:
    same = [mask.path for mask in masks if mask.grid_key == file.grid_key]
    other = [mask.path for mask in masks if mask.grid_key != file.grid_key]
    return _Run(
        file,
        mask=same[0] if same else None,
        unused_mask=other[0] if other and not same else None,
        tr_s=sidecars.repetition_time(file),
        confounds=find_confounds(file.path.parent, file.run_stem),
    )


def _preferred(files: Sequence[BidsFile]) -> BidsFile:
    def rank(file: BidsFile) -> tuple[int, str]:
        space = file.entities.get("space", "")
        if space in _INDIVIDUAL:
            order = len(_SPACES) + 1 + _INDIVIDUAL.index(space)
        else:
            order = next((i for i, s in enumerate(_SPACES) if space.startswith(s)), len(_SPACES))
        return order, str(file.path)

    return min(files, key=rank)


def _choice_notes(
    chosen: Sequence[BidsFile], derived: Mapping[Any, Sequence[BidsFile]]
) -> list[str]:
    notes = []
    n_derived = sum(file.is_preprocessed_bold for file in chosen)
    if n_derived:
        rest = len(chosen) - n_derived
        also = f", {rest} only raw" if rest else ""
        notes.append(f"{n_derived} of {len(chosen)} runs are taken preprocessed{also}")
    several = [key for key, files in derived.items() if len(files) > 1]
    if several:
        spaces = sorted({file.entities.get("space", "native") for file in chosen})
        taken = ", ".join(spaces)
        notes.append(f"{len(several)} runs exist in several spaces or resolutions; taken: {taken}")
    if any("echo" in file.entities for file in chosen):
        notes.append("the echoes of multi-echo runs are taken as runs of their own")
    return notes


def _mask_notes(runs: Sequence[_Run]) -> list[str]:
    unused = [run.unused_mask.name for run in runs if run.unused_mask]
    if not unused:
        return []
    return [
        f"{len(unused)} masks of derivatives are of another space than their run and were not used "
        f"(such as {unused[0]}); the brain is found in the run itself"
    ]


def _subject_names(files: Sequence[BidsFile]) -> dict[Path, str]:
    """Return one id per run: the person, and what tells a person's runs apart anywhere."""
    by_person: defaultdict[str, list[BidsFile]] = defaultdict(list)
    for file in files:
        by_person[file.person].append(file)
    differing = {
        key
        for group in by_person.values()
        for file in group
        for key, _ in file.run_key
        if len({other.entities.get(key) for other in group}) > 1
    }
    names = {}
    for file in files:
        parts = [f"{key}-{value}" for key, value in file.entities.items() if key in differing]
        names[file.path] = "_".join([file.person, *parts])
    return names


def _phenotypes(
    dataset: _Dataset, people: set[str], notes: list[str]
) -> dict[str, dict[str, str | None]]:
    path = dataset.metadata / PEOPLE_FILE
    try:
        table = {_with_prefix(person): row for person, row in read_people(path).items()}
    except InputError as error:
        notes.append(f"phenotypes are left out: {reason_text(error)}")
        return {}
    if not table:
        return {}
    absent = sorted(people - set(table))
    if absent:
        notes.append(f"{len(absent)} people have no row in {PEOPLE_FILE}, such as {absent[0]}")
    unused = len(set(table) - people)
    if unused and dataset.people is None:
        notes.append(f"{unused} of {len(table)} people in {PEOPLE_FILE} have no run here")
    return {person: row for person, row in table.items() if person in people}


def _with_prefix(person: str) -> str:
    return person if person.startswith(PERSON_PREFIX) else f"{PERSON_PREFIX}{person}"
