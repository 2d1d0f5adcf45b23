"""A session as this room keeps it: `session.json`, `traces.npy` and `labels/*.npy`.

The traces are float32, frames first, in one piece, so a run maps them instead of reading them.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neurocli.core.data.arrays import npy_bytes, read_npy
from neurocli.core.data.documents import read_json
from neurocli.core.errors import InputError
from neurocli.core.paths import durable_json, durable_write
from neurocli.systems.calcium.session import PARTS, Segments, Session

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
        InputError: Two labels would have one file name.
        NeuroError: The disk is full or the folder cannot be written.
    """
    names = [SESSION_FILE, TRACES_FILE]
    labels = _by_file(session)
    durable_write(folder / TRACES_FILE, npy_bytes(session.rows(slice(None))))
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
    if session.is_tuned is not None:
        record["is_tuned"] = session.is_tuned.tolist()
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
    if traces.ndim != 2 or traces.dtype.kind not in "fiu":
        raise InputError(
            folder / TRACES_FILE, f"has shape {traces.shape} of {traces.dtype}", "prepare it again"
        )
    try:
        segments = {
            part: np.array(record["segments"].get(part, []), dtype=np.int64).reshape(-1, 2)
            for part in PARTS
        }
        neurons = tuple(_texts(record, "neurons"))
        labels = {name: _label(folder, name, len(traces)) for name in _texts(record, "labels")}
        told: dict[str, Any] = {key: str(record[key]) for key in ("layout", "split")}
        session = Session(
            name=str(record["name"]),
            traces=traces,
            rate_hz=_rate(float(record["rate_hz"])),
            start_s=float(record["start_s"]),
            segments=segments,
            labels=labels,
            neurons=neurons,
            stimuli={str(name): int(count) for name, count in record["stimuli"].items()},
            repairs=tuple(_texts(record, "repairs")),
            is_tuned=_tuned(record, len(neurons)),
            **told,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(path, f"is no sound description: {error}", "prepare it again") from error
    _check_segments(segments, len(traces), path)
    if traces.shape[1] != len(neurons):
        raise InputError(
            folder / TRACES_FILE,
            f"has shape {traces.shape}, which {SESSION_FILE} does not describe",
        )
    return session


def _by_file(session: Session) -> dict[str, npt.NDArray[Any]]:
    """Return labels by the names that their files may have."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name, values in session.labels.items():
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "_"
        if safe in found:
            raise InputError(
                session.name, f"has two labels that are '{safe}' as a file", "rename one of them"
            )
        found[safe] = values
    return found


def _texts(record: dict[str, Any], key: str) -> list[str]:
    found = record[key]
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{key} is no list of texts")
    return found


def _tuned(record: dict[str, Any], n_neurons: int) -> npt.NDArray[np.bool_] | None:
    found = record.get("is_tuned")
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != n_neurons or {*map(type, found)} - {bool}:
        raise ValueError(f"is_tuned is no list of {n_neurons} truths")
    return np.array(found, dtype=bool)


def _rate(rate_hz: float) -> float:
    if not 0 < rate_hz < float("inf"):
        raise ValueError(f"rate_hz is {rate_hz}")
    return rate_hz


def _check_segments(segments: dict[str, Segments], n_frames: int, path: Path) -> None:
    """Refuse segments that run backward, leave the recording or share frames."""
    for part, own in segments.items():
        edges = own.ravel()
        if (np.diff(edges) < 0).any() or (own[:, 0] >= own[:, 1]).any():
            raise InputError(path, f"has segments of '{part}' that run backward or overlap")
        if len(edges) and (edges[0] < 0 or edges[-1] > n_frames):
            raise InputError(path, f"has segments of '{part}' outside the {n_frames} frames")
    every = sorted((int(a), int(b)) for own in segments.values() for a, b in own)
    for (_, stop), (start, _) in pairwise(every):
        if start < stop:
            raise InputError(path, f"has parts that share frame {start}", "prepare it again")


def _label(folder: Path, name: str, n_frames: int) -> npt.NDArray[Any]:
    if not _NAME.fullmatch(name):
        raise InputError(folder / SESSION_FILE, f"names a label {name!r}, which is no file name")
    values = read_npy(folder / LABELS_FOLDER / f"{name}.npy")
    if values.ndim not in (1, 2) or len(values) != n_frames or values.dtype.kind in "SU":
        raise InputError(
            folder / LABELS_FOLDER / f"{name}.npy",
            f"has shape {values.shape} of {values.dtype} for {n_frames} frames",
            "prepare it again",
        )
    return values
