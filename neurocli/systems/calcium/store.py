"""A session as this room keeps it: `session.json`, `traces.npy` and `labels/*.npy`.

The traces are float32, frames first, in one piece, so a run maps them instead of reading them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.arrays import npy_bytes, read_npy
from neurocli.core.data.documents import read_json
from neurocli.core.errors import InputError
from neurocli.core.paths import durable_json, durable_write
from neurocli.systems.calcium.session import PARTS, Session

SESSION_FILE, TRACES_FILE, LABELS_FOLDER = "session.json", "traces.npy", "labels"
SCHEMA = "neuro/calcium-session/1"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def is_stored(path: Path) -> bool:
    """Return whether a folder is a stored session."""
    return (path / SESSION_FILE).is_file()


def write_stored(session: Session, folder: Path) -> list[str]:
    """Write a session into a folder.

    Args:
        session: Cleaned.
        folder: Exists.

    Returns:
        Names of the files, the main one first.

    Raises:
        NeuroError: The disk is full or the folder cannot be written.
    """
    names = [SESSION_FILE, TRACES_FILE]
    durable_write(folder / TRACES_FILE, npy_bytes(session.rows(slice(None))))
    labels = {re.sub(r"[^A-Za-z0-9_.-]", "_", name): v for name, v in session.labels.items()}
    for name, values in labels.items():
        (folder / LABELS_FOLDER).mkdir(exist_ok=True)
        durable_write(folder / LABELS_FOLDER / f"{name}.npy", npy_bytes(values))
        names.append(f"{LABELS_FOLDER}/{name}.npy")
    record = {
        "schema": SCHEMA,
        "name": session.name,
        "rate_hz": session.rate_hz,
        "start_s": session.start_s,
        "segments": {part: own.tolist() for part, own in session.segments.items()},
        "labels": sorted(labels),
        "neurons": list(session.neurons),
        "layout": session.layout,
        "split": session.split,
        "stimuli": dict(session.stimuli),
        "repairs": list(session.repairs),
    }
    durable_json(folder / SESSION_FILE, record)
    return names


def read_stored(folder: Path) -> Session:
    """Return a stored session, its traces mapped.

    Args:
        folder: `is_stored` is true of it.

    Raises:
        InputError: A file is missing, damaged, or does not fit the others.
    """
    path = folder / SESSION_FILE
    record = read_json(path)
    if record.get("schema") != SCHEMA:
        raise InputError(path, f"is of the schema {record.get('schema')!r}, {SCHEMA} is needed")
    traces = read_npy(folder / TRACES_FILE, mapped=True)
    try:
        segments = {
            part: np.array(record["segments"].get(part, []), dtype=np.int64).reshape(-1, 2)
            for part in PARTS
        }
        neurons = tuple(map(str, record["neurons"]))
        labels = {name: _label(folder, name, len(traces)) for name in record["labels"]}
        told: dict[str, Any] = {key: record[key] for key in ("layout", "split", "stimuli")}
        session = Session(
            name=str(record["name"]),
            traces=traces,
            rate_hz=float(record["rate_hz"]),
            start_s=float(record["start_s"]),
            segments=segments,
            labels=labels,
            neurons=neurons,
            repairs=tuple(record["repairs"]),
            **told,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(path, f"is no sound description: {error}", "prepare it again") from error
    last = max((int(own.max(initial=0)) for own in segments.values()), default=0)
    if traces.ndim != 2 or traces.shape[1] != len(neurons) or last > len(traces):
        raise InputError(
            folder / TRACES_FILE,
            f"has shape {traces.shape}, which {SESSION_FILE} does not describe",
        )
    return session


def _label(folder: Path, name: str, n_frames: int) -> npt.NDArray[Any]:
    if not _NAME.fullmatch(name):
        raise InputError(folder / SESSION_FILE, f"names a label {name!r}, which is no file name")
    values = read_npy(folder / LABELS_FOLDER / f"{name}.npy")
    if values.ndim not in (1, 2) or len(values) != n_frames:
        raise InputError(folder / LABELS_FOLDER / f"{name}.npy", f"has shape {values.shape}")
    return values
