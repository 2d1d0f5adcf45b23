"""Find the cases of a tumour dataset: BraTS trees of any year, flat folders, labelled or not.

A file belongs to a case by what stands before its last word: `Brats18_X_t1ce.nii.gz` is the t1ce of
`Brats18_X`. Both spellings of the contrasts are known; the newer one comes with labels 0 1 2 3
instead of 0 1 2 4. Files are judged when they are processed, so a bad one never stops the rest.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocli.core.data.items import Found, Item
from neurocli.core.errors import InputError
from neurocli.systems.brats.blocks import MODALITIES

_WORDS = {
    "t1": "t1", "t1n": "t1", "t1ce": "t1ce", "t1c": "t1ce", "t1gd": "t1ce",
    "t2": "t2", "t2w": "t2", "flair": "flair", "t2f": "flair", "seg": "seg",
}  # fmt: skip
_NEW_WORDS = frozenset(["t1n", "t1c", "t2w", "t2f"])
_NAME = re.compile(
    r"(?P<case>.+?)[_-](?P<word>t1ce|t1gd|t1c|t1n|t1|t2w|t2f|t2|flair|seg)\.nii(\.gz)?",
    re.IGNORECASE,
)
_SEG = re.compile(r".*seg.*\.nii(\.gz)?", re.IGNORECASE)
_TIMEPOINT = re.compile(r"(?P<person>BraTS-[A-Z]+-\d+)-\d{3}", re.IGNORECASE)
# Names of 2017 to 2019 end in the number of the scan; those of 2020 in that of the patient.
_SCAN = re.compile(r"(?P<person>Brats1[789]_.+)_\d+", re.IGNORECASE)
_GRADES = ("HGG", "LGG")
_MAX_DEPTH = 5
_SAMPLE_BYTES = 1 << 16


class _Case:
    """Collect the files of one case: contrast -> path."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.files: dict[str, Path] = {}
        self.is_new = False
        self.problem: str | None = None

    def add(self, word: str, path: Path) -> None:
        kind = _WORDS[word]
        if kind in self.files:
            twice = f"{self.files[kind].name} and {path.name}"
            self.problem = f"{self.folder}: two files are the {kind}: {twice}"
        self.files[kind] = path
        self.is_new |= word in _NEW_WORDS


def find_cases(sources: Sequence[Path], options: Mapping[str, Any]) -> Found:
    """List the cases below folders.

    Args:
        sources: Roots of a tree, or folders of cases, searched five levels down.
        options: Values of `PreprocessOptions`.

    Returns:
        Items of the cases with all four contrasts; cases that lack one, that are there twice, or
        whose images equal those of another case are failures. `grade` and `site` of the names.

    Raises:
        InputError: A source is missing or holds no case.
    """
    cases: list[_Case] = []
    for source in sources:
        if not source.is_dir():
            problem = "is a file, a folder is needed" if source.exists() else "does not exist"
            raise InputError(source, problem, "give the folder that holds the cases")
        below = list(_cases_below(source))
        if not below:
            raise InputError(
                source,
                "holds no case: no files such as CASE_flair.nii.gz or CASE-t2f.nii.gz",
                "check the folder",
            )
        cases += below
    failures: list[tuple[str, str]] = []
    usable = _without_repeats(_complete(cases, failures), failures)
    items = [_item(case, str(options.get("labels", "auto"))) for case in usable]
    people = {item.participant: _traits(case) for item, case in zip(items, usable, strict=True)}
    columns = {name for row in people.values() for name, value in row.items() if value}
    table = {who: {k: row[k] for k in row if k in columns} for who, row in people.items()}
    return Found(items, failures, _notes(usable), table if columns else None)


def _cases_below(root: Path) -> Iterator[_Case]:
    for folder, below, names in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        below[:] = sorted(n for n in below if not n.startswith(".")) if depth < _MAX_DEPTH else []
        yield from _cases_in(Path(folder), sorted(names))


def _cases_in(folder: Path, names: Sequence[str]) -> Iterator[_Case]:
    cases: dict[str, _Case] = {}
    others = []
    for name in names:
        match = None if name.startswith(".") else _NAME.fullmatch(name)
        if match is None:
            others.append(name)
            continue
        case = cases.setdefault(match["case"], _Case(match["case"], folder))
        case.add(match["word"].lower(), folder / name)
    for case in cases.values():
        # One label file of 2020 has a name of its own; alone in its case's folder it is known.
        stray = [n for n in others if _SEG.fullmatch(n) and not n.startswith(".")]
        if len(cases) == 1 and "seg" not in case.files and len(stray) == 1:
            case.files["seg"] = folder / stray[0]
        if set(case.files) != {"seg"}:
            yield case


def _complete(cases: Sequence[_Case], failures: list[tuple[str, str]]) -> list[_Case]:
    whole = []
    for case in cases:
        missing = [name for name in MODALITIES if name not in case.files]
        if case.problem is not None:
            _refuse(failures, case, case.problem)
        elif missing:
            have = ", ".join(path.name for path in case.files.values())
            lacks = " and no ".join(missing)
            _refuse(failures, case, f"{case.folder}: no {lacks} (it holds {have})")
        else:
            whole.append(case)
    return whole


def _without_repeats(cases: Sequence[_Case], failures: list[tuple[str, str]]) -> list[_Case]:
    """Keep the first of cases with one name, or with the same images under two names."""
    kept: dict[str, _Case] = {}
    sizes: dict[int, list[_Case]] = defaultdict(list)
    digests: dict[tuple[int, str], _Case] = {}
    for case in cases:
        if case.name in kept:
            first = kept[case.name]
            reason = f"{case.folder}: is also in {first.folder}; that one is taken"
            _refuse(failures, case, reason, taken=kept)
            continue
        size = _size(case.files["flair"])
        if size in sizes:
            for other in sizes[size]:
                digests.setdefault((size, _sample(other.files["flair"])), other)
            twin = digests.get((size, _sample(case.files["flair"])))
            if twin is not None:
                path = case.files["flair"]
                reason = f"{path}: holds the same image as {twin.files['flair']}: one patient twice"
                _refuse(failures, case, reason)
                continue
        sizes[size].append(case)
        kept[case.name] = case
    return list(kept.values())


def _refuse(
    failures: list[tuple[str, str]], case: _Case, reason: str, *, taken: Collection[str] = ()
) -> None:
    # Two unusable cases may share a name, too; what is reported needs names of its own.
    known, name, count = {name for name, _ in failures} | set(taken), case.name, 1
    while name in known:
        count += 1
        name = f"{case.name} ({count})"
    failures.append((name, reason))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _sample(path: Path) -> str:
    """Return a digest of a file's middle; headers are alike, the middle of a brain is not."""
    if not path.is_file():
        return str(path)
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size // 2 - _SAMPLE_BYTES // 2))
        return hashlib.sha256(handle.read(_SAMPLE_BYTES)).hexdigest()


def _item(case: _Case, labels: str) -> Item:
    files = [case.files[name] for name in (*MODALITIES, "seg") if name in case.files]
    values = ("et3" if case.is_new else "et4") if labels == "auto" else labels
    details = {
        "kind": "files",
        "files": {name: str(path) for name, path in case.files.items()},
        "labels": values,
    }
    return Item(case.name, person_of(case.name), tuple(files), details)


def person_of(case: str) -> str:
    """Return whose case it is: names end in the number of a visit or a scan.

    >>> person_of("BraTS-GLI-00005-001"), person_of("Brats18_TCIA01_201_1")
    ('BraTS-GLI-00005', 'Brats18_TCIA01_201')
    >>> person_of("BraTS2021_00000"), person_of("BraTS20_Training_355")
    ('BraTS2021_00000', 'BraTS20_Training_355')
    """
    match = _TIMEPOINT.fullmatch(case) or _SCAN.fullmatch(case)
    return match["person"] if match else case


def _traits(case: _Case) -> dict[str, str | None]:
    grade = next((name for name in _GRADES if name in case.folder.parts), None)
    words = case.name.split("_")
    site = words[1] if re.fullmatch(r"brats1[789]", words[0].lower()) and len(words) > 2 else None
    return {"grade": grade, "site": site}


def _notes(cases: Sequence[_Case]) -> list[str]:
    bare = [case.name for case in cases if "seg" not in case.files]
    if not bare:
        return []
    return [f"{len(bare)} of {len(cases)} cases have no labels: they can be predicted, not learned"]
