"""Write and read the parts of a split as text: the family's subject lists, CSV, nnU-Net's folds.

The family's format has three headings with one id per line below each. Its older readers find a
heading by a substring and cut the last character of every line, so what is written here has all
three headings, ends with a line feed, and holds no id that they would take for a heading; what is
read here is matched exactly, whatever the line ends.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from os import PathLike

from neurocli.core.cohort.splits import PARTS, Parts
from neurocli.core.data.tables import safe_cell
from neurocli.core.errors import InputError, UsageError
from neurocli.core.names import choices_text, nearest

MARKERS: Mapping[str, str] = {f"{part}_subjects": part for part in PARTS}
CSV_COLUMNS = ("id", "part")


def swift_text(parts: Mapping[str, Sequence[str]], *, allow_unsafe_ids: bool = False) -> str:
    r"""Return parts in the family's text format.

    Args:
        parts: Ids by part; a missing part is written empty.
        allow_unsafe_ids: Whether ids that contain "train", "val" or "test" are let through;
            readers by substring then put people into wrong parts.

    Raises:
        UsageError: An id would be read as a heading, or has blanks at an end.

    >>> swift_text({"train": ["a"], "test": ["b"]})
    'train_subjects\na\nval_subjects\ntest_subjects\nb\n'
    """
    lines: list[str] = []
    for marker, part in MARKERS.items():
        lines += [marker, *parts.get(part, ())]
        for name in parts.get(part, ()):
            _check_line(name, allow_unsafe_ids)
    return "\n".join(lines) + "\n"


def _check_line(name: str, allow_unsafe_ids: bool) -> None:
    if name != name.strip() or name in MARKERS or len(_lines(name)) > 1:
        raise UsageError(
            f"id '{name}' cannot stand on a line of the swift format", hint="take --format json"
        )
    if not allow_unsafe_ids and any(part in name for part in PARTS):
        raise UsageError(
            f"id '{name}' holds train, val or test: older readers of the swift format would take "
            "it for a heading",
            hint="take --format json, or set allow_unsafe_ids when only neuro will read the file",
        )


def parse_swift(text: str, path: str | PathLike[str]) -> Parts:
    """Return the parts of a text in the family's format.

    Sections may come in any order and be missing; blank lines count for nothing.

    Args:
        text: The content.
        path: The file, for errors.

    Raises:
        InputError: An id stands before the first heading, or a heading comes twice.
    """
    found: Parts = {}
    current: list[str] | None = None
    for number, line in enumerate(_lines(text), start=1):
        name = line.strip()
        if name in MARKERS:
            if MARKERS[name] in found:
                raise InputError(path, f"line {number}: second heading '{name}'", "keep one")
            current = found[MARKERS[name]] = []
        elif name and current is None:
            raise InputError(
                path,
                f"line {number}: '{name}' stands before any heading",
                f"the headings are {', '.join(MARKERS)}, each alone on a line",
            )
        elif name and current is not None:
            current.append(name)
    return {part: found.get(part, []) for part in PARTS}


def is_swift(text: str) -> bool:
    """Return whether some line of a text is a heading of the family's format."""
    return any(line.strip() in MARKERS for line in _lines(text))


def _lines(text: str) -> list[str]:
    # str.splitlines() also cuts at separators such as U+2028, which an id may hold.
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def csv_text(parts: Mapping[str, Sequence[str]]) -> str:
    r"""Return parts as CSV with the columns id and part.

    Ids that a spreadsheet would run as formulas are guarded, as in every table written here.

    >>> csv_text({"train": ["a"], "test": ["b"]})
    'id,part\na,train\nb,test\n'
    """
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows((safe_cell(name), part) for part in PARTS for name in parts.get(part, ()))
    return target.getvalue()


def nnunet_text(splits: Sequence[Mapping[str, Sequence[str]]]) -> str:
    """Return splits as nnU-Net's `splits_final.json`: a list of folds with train and val.

    Of a single split train and val are written; its test part has no place there, as nnU-Net keeps
    test cases in another folder. Of a cross-validation each fold's test block is what nnU-Net
    validates on, so that everyone is validated once.

    Args:
        splits: One split, or one per fold.
    """
    folds = []
    for parts in splits:
        train, val = list(parts.get("train", ())), list(parts.get("val", ()))
        if len(splits) > 1:
            train, val = sorted(train + val), list(parts.get("test", ()))
        folds.append({"train": train, "val": val})
    return json.dumps(folds, indent=2, ensure_ascii=False) + "\n"


def parse_nnunet(text: str, path: str | PathLike[str]) -> list[Parts]:
    """Return the folds of nnU-Net's `splits_final.json`, each with an empty test part.

    Args:
        text: The content.
        path: The file, for errors.

    Raises:
        InputError: The text is no list of folds with train and val.
        UsageError: Someone is in both parts of a fold.
    """
    fix = 'as in [{"train": ["a"], "val": ["b"]}]'
    try:
        folds = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            path, f"is no sound JSON: {str(error)[:120]}", "repair the file"
        ) from error
    if not isinstance(folds, list) or not folds:
        raise InputError(path, "holds no folds", fix)
    found = []
    for number, fold in enumerate(folds):
        if not isinstance(fold, dict) or set(fold) != {"train", "val"}:
            raise InputError(path, f"fold {number} is no pair of train and val", fix)
        for part, names in fold.items():
            if not isinstance(names, list) or not all(
                isinstance(name, str) and name.strip() for name in names
            ):
                raise InputError(path, f"fold {number}, {part}: no list of ids", fix)
        found.append(checked_parts(fold, path))
    return found


def parts_of_column(
    ids: Sequence[str], column: Sequence[str | None], path: str | PathLike[str]
) -> Parts:
    """Return parts from a column that names the part of each id.

    Args:
        ids: Participants.
        column: Part of each.
        path: The file, for errors.

    Raises:
        InputError: A cell is empty or names no part.
    """
    found: Parts = {part: [] for part in PARTS}
    for name, part in zip(ids, column, strict=True):
        if part not in found:
            raise InputError(path, f"'{name}' has part '{part}'", f"parts: {', '.join(PARTS)}")
        found[part].append(name)
    return found


def checked_parts(parts: Mapping[str, Sequence[str]], path: str | PathLike[str]) -> Parts:
    """Return sorted parts, all three of them, after making sure that nobody is in two places.

    Args:
        parts: Ids by part.
        path: The file they come from, for errors.

    Raises:
        InputError: A part is unknown.
        UsageError: Someone is in two parts, or twice in one.
    """
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        near = nearest(unknown[0], PARTS)
        guess = f"; did you mean {near}?" if near else ""
        raise InputError(path, f"unknown part '{unknown[0]}'{guess}", f"parts: {', '.join(PARTS)}")
    homes: dict[str, list[str]] = {}
    for part, names in parts.items():
        for name in names:
            homes.setdefault(name, []).append(part)
    leaks = sorted(name for name, found in homes.items() if len(found) > 1)
    if leaks:
        told = choices_text(f"'{name}' ({', '.join(homes[name])})" for name in leaks[:3])
        raise UsageError(
            f"{len(leaks)} ids stand more than once: {told}",
            where=str(path),
            hint="leave each id in one part",
        )
    return {part: sorted(parts.get(part, ())) for part in PARTS}
