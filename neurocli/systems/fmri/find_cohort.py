"""Find the runs of a cohort in its own folder layout, and join its tables to them.

A source is the folder that holds the cohort as it was shipped, or the root of the SwiFT family:
`img/{subject}/frame_{i}.pt` with `metadata/` beside it.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from neurocli.core.data.frames import FIRST_FRAME, STATS_FILE, frame_paths
from neurocli.core.data.items import Found, Item
from neurocli.core.data.workers import reason_text
from neurocli.core.errors import InputError
from neurocli.systems.fmri.cohorts import COHORTS, Cohort
from neurocli.systems.fmri.mask import mask_sources
from neurocli.systems.fmri.phenotypes import find_tables, person_of, read_phenotypes

_MAX_DEPTH = 10
_NOT_RUNS = frozenset({"metadata", "hdf5", "code", "logs", "figures"})


@dataclass(frozen=True)
class _Run:
    """Hold a run: where it lies, whose it is, what tells it apart, and how good the pattern is."""

    path: Path
    person: str
    labels: tuple[tuple[str, str], ...]
    rank: int

    @property
    def is_frames(self) -> bool:
        return self.path.is_dir()


def find_cohort(cohort: Cohort, sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List the runs of a cohort and what its tables tell of their people.

    Where a run exists in several forms the best is taken: frames of the family before NIfTI, then
    in the order of the cohort's patterns.

    Args:
        cohort: The row.
        sources: Folders.
        options: Values of `PreprocessOptions`.

    Returns:
        Items, phenotypes of their people with what the columns mean, and what was left out.

    Raises:
        InputError: A source is missing or holds no run of this layout, or a table cannot be read.
        UsageError: The mask is no file.
    """
    masks = mask_sources(str(options["mask"]))
    runs: list[_Run] = []
    for source in sources:
        if not source.is_dir():
            problem = "is a file, a folder is needed" if source.exists() else "does not exist"
            raise InputError(source, problem, f"give the folder that holds {cohort.name}")
        found = list(_scan(cohort, source))
        if not found:
            raise InputError(
                source,
                f"holds no run in the layout of {cohort.name}",
                "see the patterns in the manual, or use `neuro preprocess nifti` or `bids`",
            )
        runs += found
    chosen, notes = _choose(runs)
    items: list[Item] = []
    failures: list[tuple[str, str]] = []
    for subject, run in _named(chosen):
        try:
            items.append(_item(cohort, subject, run, masks))
        except InputError as error:
            failures.append((subject, reason_text(error)))
    given = options.get("metadata")
    tables = find_tables(cohort, sources, Path(given) if given else None)
    told = read_phenotypes(cohort, tables, (run.person for run in chosen))
    people = told.people if tables else None
    return Found(
        items,
        failures,
        notes + told.notes,
        people,
        dictionary=told.dictionary,
        left_out=told.left_out,
    )


def _scan(cohort: Cohort, source: Path) -> Iterator[_Run]:
    patterns = [re.compile(pattern) for pattern in cohort.files]
    frames = re.compile(cohort.frames)
    # A source may be one person's own folder, whose name tells the person.
    prefix = source.resolve().name
    for folder, names, files in os.walk(source):
        here = Path(folder)
        depth = len(here.relative_to(source).parts)
        names[:] = sorted(n for n in names if not n.startswith(".") and n not in _NOT_RUNS)
        if depth >= _MAX_DEPTH:
            names.clear()
        if FIRST_FRAME in files:
            match = frames.fullmatch(here.resolve().name)
            person = person_of(cohort, match["id"]) if match else None
            if person is not None:
                yield _Run(here, person, (), 0)
            names.clear()
            continue
        for name in sorted(files):
            if not name.startswith(".") and name.endswith((".nii", ".nii.gz")):
                path = here / name
                yield from _matched(cohort, patterns, path, f"{prefix}/{path.relative_to(source)}")


def _matched(
    cohort: Cohort, patterns: Sequence[re.Pattern[str]], path: Path, text: str
) -> Iterator[_Run]:
    for rank, pattern in enumerate(patterns, start=1):
        match = pattern.search(text)
        person = person_of(cohort, match["id"]) if match else None
        if match and person is not None:
            labels = {k: v for k, v in match.groupdict().items() if k != "id" and v is not None}
            yield _Run(path, person, tuple(sorted(labels.items())), rank)
            return


def _choose(runs: Sequence[_Run]) -> tuple[list[_Run], list[str]]:
    """Return one form of each run, and a note where there were several."""
    forms: defaultdict[tuple[str, tuple[tuple[str, str], ...]], list[_Run]] = defaultdict(list)
    with_frames = {run.person for run in runs if run.is_frames}
    n_other = 0
    for run in runs:
        if run.person in with_frames and not run.is_frames:
            n_other += 1
        else:
            forms[run.person, run.labels].append(run)
    chosen = []
    for group in forms.values():
        first, *others = sorted(group, key=lambda run: (run.rank, str(run.path)))
        chosen.append(first)
        n_other += len(others)
    notes = [f"{n_other} files are other forms of runs that are taken once"] if n_other else []
    return sorted(chosen, key=lambda run: (run.person, run.labels)), notes


def _named(runs: Sequence[_Run]) -> Iterator[tuple[str, _Run]]:
    """Yield each run with its id: the person, and what differs among that person's runs."""
    by_person: defaultdict[str, list[_Run]] = defaultdict(list)
    for run in runs:
        by_person[run.person].append(run)
    for person, group in by_person.items():
        labels = [dict(run.labels) for run in group]
        keys = sorted({key for each in labels for key in each})
        differing = [key for key in keys if len({each.get(key) for each in labels}) > 1]
        for run, each in zip(group, labels, strict=True):
            parts = [f"{key}-{each[key]}" for key in differing if key in each]
            yield "_".join([person, *parts]), run


def _item(cohort: Cohort, subject: str, run: _Run, masks: Sequence[Path]) -> Item:
    details = {
        "kind": "frames" if run.is_frames else "nifti",
        "tr_s": cohort.tr_s,
        "tr_source": f"the row of {cohort.name}",
        "spaces": cohort.spaces,
    }
    paths = [run.path]
    if run.is_frames:
        stats = run.path / STATS_FILE
        paths = [*frame_paths(run.path), *([stats] if stats.exists() else [])]
    return Item(subject, run.person, (*paths, *masks), details)


find_s1200, find_abcd, find_ukb, find_hbn, find_abide, find_adni = (
    partial(find_cohort, COHORTS[name]) for name in ("s1200", "abcd", "ukb", "hbn", "abide", "adni")
)
