"""Open a session file or folder of any known kind, told by its content."""

from __future__ import annotations

from pathlib import Path

from neurocli.core.data.arrays import is_npy, is_zip
from neurocli.core.data.hdf5 import SIGNATURE, open_h5
from neurocli.core.data.source import HEAD_BYTES, foreign_content, open_regular
from neurocli.core.errors import InputError
from neurocli.systems.calcium import bare, layouts, nwb
from neurocli.systems.calcium.session import Session, cleaned
from neurocli.systems.calcium.store import is_stored, read_stored

SUFFIXES = (".h5", ".hdf5", ".nwb", ".npz", ".npy")
DEFAULT_RATE_HZ = 30.0
_KINDS = "an Allen or kirby HDF5 file, NWB, .npz, .npy, or a suite2p folder"


def open_sessions(path: Path, rate_hz: float = DEFAULT_RATE_HZ) -> list[Session]:
    """Return the sessions of a file or folder, cleaned.

    Args:
        path: A session file, a suite2p folder, or a session that `neuro preprocess` stored.
        rate_hz: Frames per second where the files do not tell them.

    Returns:
        One session, or several for an archive of several matrices.

    Raises:
        InputError: There is none, or it is damaged; names file and dataset.
    """
    if is_stored(path):
        return [read_stored(path)]
    found = _suite2p(path, rate_hz) if path.is_dir() else _file(path, rate_hz)
    return [cleaned(session, str(path)) for session in found]


def is_suite2p(path: Path) -> bool:
    """Return whether a folder is a suite2p plane."""
    return path.is_dir() and (path / "F.npy").is_file()


def find_sources(source: Path) -> list[Path]:
    """Return the session files and suite2p planes that a path means, in order of their names.

    Args:
        source: A file, a suite2p plane, a stored session, or a folder of such.

    Raises:
        InputError: The path is missing or holds nothing of the kind.
    """
    if not source.is_dir() or is_stored(source) or is_suite2p(source):
        if not source.exists():
            raise InputError(source, "does not exist", "check the name and the folder")
        return [source]
    entries = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    found = [path for path in entries if path.is_file() and path.suffix in SUFFIXES]
    for path in entries:
        if is_stored(path) or is_suite2p(path):
            found.append(path)
        elif path.is_dir():
            found += [plane for plane in sorted(path.rglob("*")) if is_suite2p(plane)]
    if not found:
        raise InputError(source, "holds no session", f"give {_KINDS}")
    return found


def _suite2p(path: Path, rate_hz: float) -> list[Session]:
    if not is_suite2p(path):
        raise InputError(path, "holds no F.npy", f"give {_KINDS}")
    return [bare.read_suite2p(path, rate_hz)]


def _file(path: Path, rate_hz: float) -> list[Session]:
    with open_regular(path) as handle:
        head = handle.read(HEAD_BYTES)
    if is_npy(head) or is_zip(head):
        return bare.read_arrays(path, rate_hz)
    if not head.startswith(SIGNATURE):
        if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            raise InputError(
                path,
                "is a Python pickle, which could run code and is never opened",
                f"give {_KINDS}",
            )
        problem, fix = foreign_content(head) or ("is no session file", f"give {_KINDS}")
        raise InputError(path, problem, fix)
    with open_h5(path) as file:
        if nwb.is_nwb(file):
            return [nwb.read_session(file, path)]
        if layouts.find_traces(file):
            return [layouts.read_session(file, path)]
        if bare.find_matrix(file):
            return [bare.read_hdf5(file, path, rate_hz)]
        listing = ", ".join(str(name) for name in list(file)[:8]) or "nothing"
        raise InputError(
            path,
            f"holds no calcium traces (it holds {listing})",
            "calcium_traces/df_over_f is looked for",
        )
