"""Names and inheritance of the Brain Imaging Data Structure, as far as functional runs need it.

A name is `key-value` parts and bare words joined by `_`, then a suffix. Old fMRIPrep put words
behind `bold` (`..._bold_space-X_preproc.nii.gz`), which the same reading covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurocli.core.data.documents import read_json
from neurocli.core.errors import InputError

IMAGE_SUFFIXES = (".nii.gz", ".nii")
PERSON_PREFIX = "sub-"
# These say how a run was derived, not which run it is.
_DERIVED = ("space", "desc", "res", "den", "cohort")
_MAX_TR_S = 100.0


@dataclass(frozen=True)
class BidsFile:
    """Hold a parsed file name.

    Args:
        path: The file.
        entities: Values by key, in the order of the name.
        words: Bare parts, the suffix last: ("bold",), ("mask",), ("bold", "preproc").
    """

    path: Path
    entities: dict[str, str]
    words: tuple[str, ...]

    @property
    def person(self) -> str:
        """Return the participant, with its prefix."""
        return f"{PERSON_PREFIX}{self.entities['sub']}"

    @property
    def run_key(self) -> tuple[tuple[str, str], ...]:
        """Return the entities that tell runs apart, as sorted pairs."""
        return tuple(sorted((k, v) for k, v in self.entities.items() if k not in _DERIVED))

    @property
    def run_stem(self) -> str:
        """Return the run's name without what derivation added."""
        return "_".join(f"{k}-{v}" for k, v in self.entities.items() if k not in _DERIVED)

    @property
    def grid_key(self) -> tuple[str, ...]:
        """Return the entities that a mask must share with its run."""
        return tuple(self.entities.get(key, "") for key in ("space", "res", "cohort"))

    @property
    def is_raw_bold(self) -> bool:
        """Tell whether this is a run as acquired."""
        return self.words == ("bold",) and not any(key in self.entities for key in _DERIVED)

    @property
    def is_preprocessed_bold(self) -> bool:
        """Tell whether this is the preprocessed run of a derivative, not a step on the way."""
        new = self.words == ("bold",) and self.entities.get("desc") == "preproc"
        return new or self.words == ("bold", "preproc")

    @property
    def is_brain_mask(self) -> bool:
        """Tell whether this is the brain mask of a run."""
        new = self.words == ("mask",) and self.entities.get("desc") == "brain"
        return new or self.words == ("bold", "brainmask")


def stem_of(path: Path) -> str | None:
    """Return a file name without its NIfTI ending, or None for another ending.

    >>> stem_of(Path("a/run.1.nii.gz")), stem_of(Path("notes.txt"))
    ('run.1', None)
    """
    lowered = path.name.lower()
    for suffix in IMAGE_SUFFIXES:
        if lowered.endswith(suffix) and len(lowered) > len(suffix):
            return path.name[: -len(suffix)]
    return None


def parse_name(path: Path) -> BidsFile | None:
    """Read a file name.

    Args:
        path: Any path.

    Returns:
        The parts, or None when it is no NIfTI file or names no participant.

    >>> parse_name(Path("sub-01_task-rest_bold.nii.gz")).entities
    {'sub': '01', 'task': 'rest'}
    """
    stem = stem_of(path)
    if stem is None or not stem.startswith(PERSON_PREFIX):
        return None
    entities: dict[str, str] = {}
    words = []
    for part in stem.split("_"):
        key, dash, value = part.partition("-")
        if dash and key and value:
            entities[key] = value
        else:
            words.append(part)
    return BidsFile(path, entities, tuple(words)) if "sub" in entities else None


def functional_files(root: Path, people: frozenset[str] | None = None) -> Iterator[BidsFile]:
    """Yield the NIfTI files of all `func` folders of a root, sorted.

    Args:
        root: Raw root or derivatives root: holds `sub-*` folders.
        people: Only these participants; None for all.
    """
    for folder in _folders(root, PERSON_PREFIX):
        if people is None or folder.name in people:
            homes = [folder, *_folders(folder, "ses-")]
            for home in homes:
                func = home / "func"
                for path in sorted(func.iterdir()) if func.is_dir() else ():
                    parsed = None if path.name.startswith(".") else parse_name(path)
                    if parsed is not None:
                        yield parsed


def _folders(folder: Path, prefix: str) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.startswith(prefix) and p.is_dir())


def derivative_roots(root: Path) -> list[Path]:
    """Return the folders below `derivatives` that hold participants, sorted."""
    home = root / "derivatives"
    if not home.is_dir():
        return []
    candidates = [home, *(p for p in sorted(home.iterdir()) if p.is_dir())]
    return [folder for folder in candidates if _folders(folder, PERSON_PREFIX)]


def is_root(folder: Path) -> bool:
    """Tell whether a folder holds participants."""
    return bool(_folders(folder, PERSON_PREFIX))


class Sidecars:
    """Read the metadata of runs; every document is read once.

    Args:
        roots: Roots to look in, the most trusted last.
    """

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self._roots = roots
        self._folders: dict[Path, list[tuple[Path, frozenset[tuple[str, str]]]]] = {}
        self._loaded: dict[Path, dict[str, Any]] = {}

    def read(self, file: BidsFile) -> dict[str, Any]:
        """Return the metadata of a run, nearer and more specific documents over others.

        A document applies when its suffix is the run's and its entities are among the run's, in
        the run's folder or one above it, up to the root (the inheritance principle).

        Args:
            file: The run.

        Raises:
            InputError: A document that applies is no sound JSON.
        """
        found: dict[str, Any] = {}
        for root in self._roots:
            for folder in _levels(file, root):
                for path, entities in self._documents(folder):
                    if entities <= set(file.entities.items()):
                        found.update(self._load(path))
        return found

    def repetition_time(self, file: BidsFile) -> float | None:
        """Return the repetition time that the sidecars tell, in seconds, or None.

        Raises:
            InputError: It is no positive number.
        """
        value = self.read(file).get("RepetitionTime")
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < _MAX_TR_S:
            raise InputError(
                file.path, f"its sidecar says RepetitionTime {value!r:.40}", "give it in seconds"
            )
        return float(value)

    def _documents(self, folder: Path) -> list[tuple[Path, frozenset[tuple[str, str]]]]:
        """Return the `bold` documents of a folder with their entities, the least specific first."""
        if folder not in self._folders:
            found = []
            for path in sorted(folder.glob("*bold*.json")) if folder.is_dir() else ():
                parts = path.name[: -len(".json")].split("_")
                if "bold" in parts and not path.name.startswith("."):
                    pairs = [part.partition("-") for part in parts if "-" in part]
                    found.append((path, frozenset((key, value) for key, _, value in pairs)))
            self._folders[folder] = sorted(found, key=lambda entry: len(entry[1]))
        return self._folders[folder]

    def _load(self, path: Path) -> dict[str, Any]:
        if path not in self._loaded:
            self._loaded[path] = read_json(path)
        return self._loaded[path]


def _levels(file: BidsFile, root: Path) -> list[Path]:
    person = root / file.person
    session = person / f"ses-{file.entities['ses']}" if "ses" in file.entities else person
    return list(dict.fromkeys([root, person, session, session / "func"]))
