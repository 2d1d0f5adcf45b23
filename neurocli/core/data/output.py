"""The output folder of a preparation: whose it is, how an item enters it, what describes it.

`dataset.json` names room, kind, dataset and options. It is there from the first moment on, so a
killed run is recognised, and `complete` says whether the last run came to its end. Everything here
assumes that the caller holds the folder's lock.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neurocli.core.data.documents import read_json
from neurocli.core.data.items import Found, OutputSpec
from neurocli.core.data.tables import read_table, write_tsv
from neurocli.core.errors import InputError, UsageError
from neurocli.core.paths import durable_json, safe_name, sync_folder

DATASET_SCHEMA = "neuro/dataset/1"
DATASET_FILE = "dataset.json"
MANIFEST_FILE = "manifest.jsonl"
PEOPLE_FILE = "participants.tsv"
MEANING_FILE = "participants.json"
LEFT_OUT_FILE = "left_out.tsv"
ID_COLUMN = "participant_id"
_PART = ".part-"


def item_folder(subject: str) -> str:
    """Return the name of an item's folder inside the output folder."""
    return safe_name(subject)


def part_path(out: Path, subject: str) -> Path:
    """Return the private folder in which this process builds an item."""
    return out / f"{item_folder(subject)}{_PART}{os.getpid()}"


def clear_parts(out: Path) -> None:
    """Remove private folders that killed workers left behind."""
    for path in out.glob(f"*{_PART}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON holds them, with paths cut to their last part.

    Outputs must not tell where on a machine the inputs lay.

    >>> plain_values({"mask": "/data/me/mask.nii", "size": (1, 2)})
    {'mask': 'mask.nii', 'size': [1, 2]}
    """
    return {str(key): _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_values(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path) or (isinstance(value, str) and os.sep in value):
        return Path(value).name
    return value


def check_output(out: Path, spec: OutputSpec, options: Mapping[str, Any], *, force: bool) -> None:
    """Refuse a folder that holds something else.

    Args:
        out: The output folder; may be missing.
        spec: What would be written.
        options: Under which options.
        force: Accept any folder.

    Raises:
        UsageError: The folder holds other files, or another dataset or other options.
        InputError: Its `dataset.json` cannot be read.
    """
    if force or not out.exists():
        return
    path = out / DATASET_FILE
    if not path.exists():
        strangers = [p.name for p in sorted(out.iterdir()) if not _is_ours(p.name)]
        if strangers:
            raise UsageError(
                f"the folder is not empty (it holds {strangers[0]})",
                where=str(out),
                hint="choose another --out, or --force to write beside what is there",
            )
        return
    found = read_json(path)
    wanted = _description(spec, options)
    for key, value in wanted.items():
        if found.get(key) != value:
            raise UsageError(
                f"the folder is of another run: {_difference(key, found.get(key), value)}",
                where=str(out),
                hint="choose another --out, or --force to replace it",
            )


def _is_ours(name: str) -> bool:
    return name == ".lock" or _PART in name


def _description(spec: OutputSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    description = {
        "schema": DATASET_SCHEMA,
        "room": spec.room,
        "kind": spec.kind,
        "dataset": spec.dataset,
        "options": plain_values(options),
    }
    return dict(json.loads(json.dumps(description)))


def _difference(key: str, found: Any, wanted: Any) -> str:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        name = next((n for n in sorted({*found, *wanted}) if found.get(n) != wanted.get(n)), key)
        return f"{name} is {found.get(name)} there and {wanted.get(name)} here"
    return f"{key} is {found} there and {wanted} here"


def write_dataset(
    out: Path,
    spec: OutputSpec,
    options: Mapping[str, Any],
    *,
    built_in_data: bool,
    records: Iterable[Mapping[str, Any]] | None,
) -> None:
    """Write `dataset.json`.

    Args:
        out: The output folder.
        spec: What it is.
        options: Under which options.
        built_in_data: Whether the data is made up.
        records: All records of the manifest at the end; None at the start, when nothing is known.
    """
    states = [record.get("status") for record in records or ()]
    counts = {
        "n_done": states.count("done"),
        "n_failed": states.count("failed"),
        "built_in_data": built_in_data,
        "complete": records is not None,
    }
    durable_json(out / DATASET_FILE, {**_description(spec, options), **counts})


def is_prepared(folder: Path) -> bool:
    """Return whether a folder holds a dataset."""
    return (folder / DATASET_FILE).is_file()


def write_people(out: Path, found: Found) -> None:
    """Write `participants.tsv`, keeping people whom an earlier run put there.

    What its columns mean goes into `participants.json` beside it, and what of the phenotypes is
    not used into `left_out.tsv`.

    Args:
        out: The output folder.
        found: Its participants are written; None writes nothing.
    """
    if found.participants is None:
        return
    people = {**read_people(out / PEOPLE_FILE), **found.participants}
    columns = list(dict.fromkeys(name for row in people.values() for name in row))
    rows = [[person, *(people[person].get(name) for name in columns)] for person in sorted(people)]
    write_tsv(out / PEOPLE_FILE, [ID_COLUMN, *columns], rows)
    if found.dictionary:
        durable_json(out / MEANING_FILE, {**read_meanings(out), **found.dictionary})
    if found.left_out:
        write_tsv(out / LEFT_OUT_FILE, ["what", "reason"], found.left_out)


def read_meanings(folder: Path) -> dict[str, Any]:
    """Return what the columns of a folder's phenotypes mean; empty when it does not say.

    Raises:
        InputError: The file is there and cannot be read.
    """
    path = folder / MEANING_FILE
    return read_json(path) if path.is_file() else {}


def read_people(path: Path) -> dict[str, dict[str, str | None]]:
    """Return phenotypes by participant, then by column; empty when there is no such file.

    Raises:
        InputError: The table cannot be read.
    """
    if not path.exists():
        return {}
    table = read_table(path, id_column=ID_COLUMN)
    return {
        person: {name: cells[row] for name, cells in table.columns.items()}
        for row, person in enumerate(table.ids)
    }


def publish(part: Path, out: Path, subject: str, *, is_flat: bool) -> None:
    """Give a finished item its final name.

    Args:
        part: The private folder.
        out: The output folder.
        subject: The item.
        is_flat: Whether its files go directly into `out`.

    Raises:
        OSError: The disk refuses.
    """
    for path in part.rglob("*"):
        if path.is_file():
            _sync_file(path)
    sync_folder(part)
    if is_flat:
        for path in sorted(part.iterdir()):
            path.replace(out / path.name)
        part.rmdir()
    else:
        target = out / item_folder(subject)
        if target.exists():
            # A full folder cannot be replaced in one step; the manifest still calls it stale.
            target.rename(part_path(out, f"{subject}.old"))
        part.rename(target)
        shutil.rmtree(part_path(out, f"{subject}.old"), ignore_errors=True)
    sync_folder(out)


def _sync_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def retire(out: Path, record: Mapping[str, Any]) -> None:
    """Remove what an earlier run wrote for an item.

    Args:
        out: The output folder.
        record: The item's line in the manifest; names that lead outside the item are ignored.
    """
    folder = out / item_folder(str(record["subject"]))
    for name in record.get("files") or ():
        path = out / str(name)
        if path.parent == out and path.name.startswith(folder.name):
            path.unlink(missing_ok=True)
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)


def has_files(out: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether all files of a finished item are there."""
    names = record.get("files") or ()
    return bool(names) and all((out / str(name)).is_file() for name in names)


def describe(folder: Path) -> dict[str, Any]:
    """Return `dataset.json` of a folder, or an empty mapping where there is none.

    Raises:
        InputError: The file is there and cannot be read, or is of another schema.
    """
    path = folder / DATASET_FILE
    if not path.is_file():
        return {}
    found = read_json(path)
    if found.get("schema") != DATASET_SCHEMA:
        raise InputError(
            path, f"is of schema {found.get('schema')!r}", f"{DATASET_SCHEMA} is needed"
        )
    return found
