"""Which files of a folder are latents, by name alone: there may be as many as a study has people.

Names stay plain texts, since a path object for each costs more than opening a packed study.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from neurocli.core.errors import InputError, UsageError

ARRAYS = (".npz", ".npy")


def latent_names(folder: Path, pattern: str) -> tuple[dict[str, str], list[str]]:
    """Return the names of the latent files of a folder by id.

    Args:
        folder: Searched in itself, hidden files left alone.
        pattern: File name with `{iid}`; when no file fits, the stem of every array file without
            a trailing `_latent` is the id, which is noted.

    Returns:
        id -> name, sorted by id, and notes.

    Raises:
        InputError: The folder is missing, or holds no array.
        UsageError: The pattern has no `{iid}`, or two files have one id.
    """
    if "{iid}" not in pattern:
        raise UsageError(f"'{pattern}' has no {{iid}}", where="latent_pattern")
    if not folder.is_dir():
        raise InputError(folder, "is no folder of latents", "give the folder with {IID}_latent.npz")
    stem = pattern
    for suffix in ARRAYS:
        stem = stem.removesuffix(suffix)
    before, _, after = stem.partition("{iid}")
    arrays = sorted([n for n in os.listdir(folder) if n.endswith(ARRAYS) and not n.startswith(".")])
    ends = tuple(after + suffix for suffix in ARRAYS)
    least, end = len(before) + len(ends[0]), -len(ends[0])
    fitting = [n for n in arrays if n.startswith(before) and n.endswith(ends) and len(n) > least]
    found = _by_id(folder, ((n[len(before) : end], n) for n in fitting if "\n" not in n))
    if found:
        return found, _others(len(arrays) - len(found), pattern)
    if not arrays:
        raise InputError(
            folder, "holds no .npz or .npy file", "give the folder with {IID}_latent.npz"
        )
    note = f"no file is called {pattern}; ids are the names of the {len(arrays)} array files"
    return _by_id(folder, ((n[:-4].removesuffix("_latent"), n) for n in arrays)), [note]


def _others(count: int, pattern: str) -> list[str]:
    return [f"{count} array files are not called {pattern} and are left out"] if count else []


def _by_id(folder: Path, named: Iterator[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for owner, name in named:
        if owner in found:
            raise UsageError(
                f"{found[owner]} and {name} are of one id '{owner}'",
                where=str(folder),
                hint="keep one of them",
            )
        found[owner] = name
    return {owner: found[owner] for owner in sorted(found)}
