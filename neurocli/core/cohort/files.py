"""Keep a split in a file: which participant is in which part, how it was made, how even it is.

Four formats are read, told apart by content and never by name: JSON of schema `neuro/split/1`, the
family's text lists, CSV, and nnU-Net's list of folds. The hash of a split depends only on who is
where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocli.core.cohort.formats import (
    checked_parts,
    csv_text,
    is_swift,
    nnunet_text,
    parse_nnunet,
    parse_swift,
    parts_of_column,
    swift_text,
)
from neurocli.core.cohort.options import FORMATS
from neurocli.core.cohort.splits import PARTS, Parts
from neurocli.core.data.documents import indented, read_json
from neurocli.core.data.source import HEAD_BYTES, foreign_content, open_regular
from neurocli.core.data.tables import read_table
from neurocli.core.errors import InputError, UsageError
from neurocli.core.names import lookup
from neurocli.core.paths import durable_write

SCHEMA = "neuro/split/1"
_MAX_BYTES = 1 << 28


@dataclass(frozen=True)
class Split:
    """Hold participants by part, and how they came there.

    Args:
        parts: Ids by part, sorted; always train, val and test, any of them may be empty.
        seed: Seed of the order; None when the file does not say.
        method: How people were divided, such as "stratified" or "random, grouped".
        folds: One split per fold of a cross-validation; `parts` equals the first.
        inputs_sha256: Hash of the ids and of the columns that were used; None when unknown.
        groups: Audit of the people who must stay together; `split` counts divided groups.
        balance: One row per phenotype column.
        options: The options that made the split.
        pairs: [treated, control] of a matched cohort, which no part divides.
        sampling: How the cohort was chosen before it was divided; empty when it was not.
    """

    parts: Parts
    seed: int | None = None
    method: str = "given"
    folds: Sequence[Parts] = ()
    inputs_sha256: str | None = None
    groups: Mapping[str, Any] = field(default_factory=dict)
    balance: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    pairs: Sequence[Sequence[str]] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitCheck:
    """Hold how a split fits a dataset, ids sorted.

    Args:
        unknown: Ids of the split that the dataset does not hold.
        missing: Ids of the dataset that are in no part.
    """

    unknown: list[str]
    missing: list[str]


def split_sha256(parts: Mapping[str, Iterable[str]]) -> str:
    """Return the hash of who is in which part, whatever file that came from.

    Args:
        parts: Ids by part, in any order; a missing part counts as an empty one.

    Returns:
        64 hexadecimal digits.

    >>> split_sha256({"train": ["b", "a"]}) == split_sha256({"train": ["a", "b"], "val": []})
    True
    """
    canonical = {part: sorted(names) for part, names in parts.items()}
    for part in PARTS:
        canonical.setdefault(part, [])
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def check_split(split: Split, known_ids: Iterable[str]) -> SplitCheck:
    """Compare a split with the participants of a dataset.

    Args:
        split: The split.
        known_ids: Participants of the dataset.
    """
    known = set(known_ids)
    named = {name for names in split.parts.values() for name in names}
    return SplitCheck(unknown=sorted(named - known), missing=sorted(known - named))


def render_split(split: Split, format: str = "json", *, allow_unsafe_ids: bool = False) -> str:
    """Return the text of a split file; equal splits give equal bytes.

    Args:
        split: The split.
        format: "json", "swift", "csv" or "nnunet".
        allow_unsafe_ids: See `formats.swift_text`.

    Raises:
        UsageError: The format is unknown, has no place for folds, or an id does not fit it.
    """
    lookup("split format", format, dict.fromkeys(FORMATS))
    if format == "nnunet":
        return nnunet_text(split.folds or [split.parts])
    if format == "json":
        return indented(_as_json(split)) + "\n"
    if split.folds:
        raise UsageError(f"the {format} format has no place for folds", hint="take --format json")
    if format == "csv":
        return csv_text(split.parts)
    return swift_text(split.parts, allow_unsafe_ids=allow_unsafe_ids)


def write_split(
    path: str | Path, split: Split, format: str = "json", *, allow_unsafe_ids: bool = False
) -> Path:
    """Write a split file whole, or leave what was there.

    Args:
        path: The file.
        split: The split.
        format: "json", "swift", "csv" or "nnunet".
        allow_unsafe_ids: See `formats.swift_text`.

    Raises:
        UsageError: The format is unknown, has no place for folds, or an id does not fit it.
        NeuroError: The disk is full or read-only.
    """
    return durable_write(Path(path), render_split(split, format, allow_unsafe_ids=allow_unsafe_ids))


def read_split(path: str | Path) -> Split:
    """Read a split file of any known format.

    Args:
        path: JSON of schema `neuro/split/1`, the family's text lists, CSV with a column `part`, or
            nnU-Net's `splits_final.json`.

    Returns:
        The split; only JSON knows more than parts.

    Raises:
        InputError: The file is missing, damaged or of no known format.
        UsageError: Someone is in two parts.
    """
    file = Path(path)
    text = _read_text(file)
    start = text.lstrip()[:1]
    if start == "{":
        return _from_json(read_json(file, max_bytes=_MAX_BYTES), file)
    if start == "[":
        folds = parse_nnunet(text, file)
        return Split(folds[0], folds=folds if len(folds) > 1 else ())
    if is_swift(text):
        return Split(checked_parts(parse_swift(text, file), file))
    table = read_table(file)
    if "part" not in table.columns:
        raise InputError(
            file,
            "is no split file",
            "known are JSON, the headings train_subjects / val_subjects / test_subjects with one "
            "id per line, and CSV with the columns id and part",
        )
    return Split(checked_parts(parts_of_column(table.ids, table.columns["part"], file), file))


def _read_text(path: Path) -> str:
    with open_regular(path, max_bytes=_MAX_BYTES) as handle:
        content = handle.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem, fix = foreign_content(content[:HEAD_BYTES]) or (
            "is no UTF-8 text",
            "save it as UTF-8",
        )
        raise InputError(path, problem, fix) from error


def _as_json(split: Split) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "schema": SCHEMA,
        "seed": split.seed,
        "method": split.method,
        "parts": {part: list(split.parts.get(part, ())) for part in PARTS},
        "folds": [{part: list(fold.get(part, ())) for part in PARTS} for fold in split.folds],
        "inputs": {"sha256": split.inputs_sha256},
        "groups": dict(split.groups),
        "balance": [dict(row) for row in split.balance],
        "options": dict(split.options),
    }
    if split.sampling:
        shown["sampling"] = dict(split.sampling)
    if split.pairs:
        shown["pairs"] = [list(pair) for pair in split.pairs]
    return shown


def _from_json(value: Mapping[str, Any], path: Path) -> Split:
    if value.get("schema") != SCHEMA:
        raise InputError(
            path, f"has schema {value.get('schema')!r}", f"a split file has schema '{SCHEMA}'"
        )
    folds = _typed(value, "folds", list, path, default=[])
    seed = value.get("seed")
    if seed is not None and type(seed) is not int:
        raise InputError(path, f"key seed: {seed!r} is no whole number", "give a number or null")
    return Split(
        parts=_parts(value.get("parts"), path, "parts"),
        seed=seed,
        method=_typed(value, "method", str, path, default="given"),
        folds=[_parts(fold, path, f"folds[{i}]") for i, fold in enumerate(folds)],
        inputs_sha256=_typed(value, "inputs", dict, path, default={}).get("sha256"),
        groups=_typed(value, "groups", dict, path, default={}),
        balance=_typed(value, "balance", list, path, default=[]),
        options=_typed(value, "options", dict, path, default={}),
        pairs=_pairs(_typed(value, "pairs", list, path, default=[]), path) or (),
        sampling=_typed(value, "sampling", dict, path, default={}),
    )


def _pairs(value: list[Any], path: Path) -> list[list[str]]:
    for pair in value:
        if not isinstance(pair, list) or not all(isinstance(name, str) for name in pair):
            raise InputError(
                path, f"key pairs: {str(pair)[:40]!r} is no list of ids", "as in [[case, control]]"
            )
    return value


def _typed(value: Mapping[str, Any], key: str, kind: type, path: Path, *, default: Any) -> Any:
    found = value.get(key, default)
    if not isinstance(found, kind):
        raise InputError(
            path, f"key {key}: {str(found)[:40]!r} is no {kind.__name__}", "repair the file"
        )
    return found


def _parts(value: Any, path: Path, key: str) -> Parts:
    if not isinstance(value, dict) or not all(isinstance(v, list) for v in value.values()):
        raise InputError(
            path, f"key {key}: no lists of ids by part", 'as in {"train": [..], "test": [..]}'
        )
    for part, names in value.items():
        wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
        if wrong:
            raise InputError(
                path, f"key {key}.{part}: {str(wrong[0])[:40]!r} is no id", "ids are quoted texts"
            )
    return checked_parts(value, path)
