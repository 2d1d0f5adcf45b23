"""Look into stored runs: which files are damaged, and what is done about them.

A run is read whole. Broken is what cannot be read, holds NaN or Inf, contradicts its own
attributes or the manifest, or is not of the shape that was asked for. What merely differs from
most of its neighbours is mentioned and never moved.
"""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from neurocli.core.data import output
from neurocli.core.data.frames import STATS_FILE, frame_paths
from neurocli.core.data.manifest import Manifest
from neurocli.core.data.verify import CheckResult
from neurocli.core.data.workers import reason_text
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted, ignore
from neurocli.core.paths import folder_lock
from neurocli.systems.fmri.store import find_stores, open_store, scan_runs
from neurocli.systems.fmri.store_base import RunStore
from neurocli.systems.fmri.store_foreign import ForeignStore

QUARANTINE_FILE = "quarantine.jsonl"
_STATISTICS = ("valid_voxels", "global_mean", "global_std", "global_max")
_ANY = 0


@dataclass(frozen=True)
class Looked:
    """Hold what one stored run turned out to be.

    Args:
        name: The run.
        path: Its file or folder.
        problem: Why it is broken; None when it is sound.
        shape: (X, Y, Z, T); None when it could not be told.
        lacks: Statistics that its attributes lack, of older files only.
        is_certain: Whether the file is to blame, not this machine or its permissions.
    """

    name: str
    path: Path
    problem: str | None
    shape: tuple[int, ...] | None = None
    lacks: tuple[str, ...] = ()
    is_certain: bool = True


def check_runs(
    folder: Path,
    *,
    expect: Sequence[int] | None = None,
    quarantine: Path | None = None,
    delete: bool = False,
    jobs: int = 1,
    listener: Listener = ignore,
) -> CheckResult:
    """Read every stored run of a folder whole and report the broken ones.

    Args:
        folder: Files of this program, older HDF5, frame folders, or a mix.
        expect: X, Y, Z, T that every run must have; 0 accepts any size of that axis.
        quarantine: Move broken runs there, with their reasons; None leaves them.
        delete: Delete broken runs. What this machine or its permissions kept from being read is
            neither moved nor deleted.
        jobs: Processes that read.
        listener: Told the progress.

    Returns:
        The broken runs with their reasons, and what was moved or deleted.

    Raises:
        UsageError: Both moving and deleting are asked for, the shape has not four sizes, or another
            process works in the folder.
        InputError: The folder holds no stored run.
        NeuroError: A broken run cannot be moved or deleted, or a process was killed.
    """
    if quarantine is not None and delete:
        raise UsageError("--quarantine and --delete exclude each other", where="--delete")
    if expect is not None and (len(expect) != 4 or min(expect) < 0):
        sizes = ",".join(map(str, expect))
        raise UsageError(
            f"{sizes} is no shape", where="--expect", hint="X,Y,Z,T; 0 accepts any size"
        )
    claims = _claims(folder)
    found = _runs(folder)
    listener(WorkStarted("check", len(found), "runs"))
    looked = []
    for each in _look_at_all([(n, path, expect or claims.get(n)) for n, path in found], jobs):
        looked.append(each)
        listener(ItemDone(each.name, "failed" if each.problem else "done", each.problem or ""))
    listener(WorkFinished("check"))
    looked = [_without_statistics(each, looked) for each in looked]
    broken = [each for each in looked if each.problem]
    certain = [each for each in broken if each.is_certain]
    moved = _clear_away(folder, certain, quarantine) if quarantine is not None or delete else []
    problems = [(each.name, str(each.problem)) for each in broken]
    return CheckResult(folder, len(found), problems, moved, _remarks(looked))


def _runs(folder: Path) -> list[tuple[str, Path]]:
    if (folder / output.MANIFEST_FILE).is_file() or not folder.is_dir():
        return [(name, path) for name, _, path in find_stores(folder)]
    found = sorted(scan_runs(folder))
    if not found:
        raise InputError(folder, "holds no stored run", "give a folder of .h5 or frame_{i}.pt")
    return [(name, path) for name, _, path in found]


def _claims(folder: Path) -> dict[str, Sequence[int]]:
    records = Manifest(folder / output.MANIFEST_FILE).records() if folder.is_dir() else {}
    return {name: record["shape"] for name, record in records.items() if record.get("shape")}


def _look_at_all(
    runs: Sequence[tuple[str, Path, Sequence[int] | None]], jobs: int
) -> Iterator[Looked]:
    if jobs <= 1:
        yield from itertools.starmap(look, runs)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(look, *zip(*runs, strict=True))
        except BrokenProcessPool as error:
            raise NeuroError(
                "a process that reads was killed (out of memory?)", hint="use fewer --jobs"
            ) from error


def look(name: str, path: Path, expect: Sequence[int] | None = None) -> Looked:
    """Read one stored run whole.

    Args:
        name: What the run is called.
        path: Its file or folder.
        expect: Shape it must have; 0 accepts any size of an axis.

    Returns:
        What it is; an unreadable run is no error here.
    """
    try:
        with open_store(path) as store:
            shape = store.shape
            _read_all(store)
            lacks = _missing_statistics(store)
    except (NeuroError, OSError, MemoryError) as error:
        return Looked(name, path, reason_text(error), is_certain=_is_to_blame(path, error))
    if expect is not None and any(
        want not in (_ANY, have) for have, want in zip(shape, expect, strict=True)
    ):
        sizes = ("x".join(map(str, size)) for size in (shape, expect))
        problem = "is {}, {} is expected (0 is any)".format(*sizes)
        return Looked(name, path, problem, shape)
    return Looked(name, path, None, shape, lacks)


def _is_to_blame(path: Path, error: Exception) -> bool:
    """Tell whether a file itself is broken."""
    # Short memory, a missing library or a closed door may be gone tomorrow, and content that was
    # never fetched is not damaged.
    outside = isinstance(error.__cause__, MemoryError | PermissionError)
    is_elsewhere = not path.exists() or (getattr(error, "hint", None) or "").startswith("fetch")
    return isinstance(error, InputError) and not outside and not is_elsewhere


def _read_all(store: RunStore) -> None:
    for block in store.iter_blocks():
        del block
    _ = store.voxel_moments, store.stats


def _missing_statistics(store: RunStore) -> tuple[str, ...]:
    if not isinstance(store, ForeignStore):
        return ()
    frames = store.attributes.get("n_frames", store.n_frames)
    if frames != store.n_frames:
        raise InputError(store.path, f"holds {store.n_frames} frames and claims {frames}")
    missing = tuple(name for name in _STATISTICS if name not in store.attributes)
    if missing and len(missing) < len(_STATISTICS):
        raise InputError(store.path, f"lacks the attribute {', '.join(missing)}")
    return missing


def _without_statistics(each: Looked, looked: Sequence[Looked]) -> Looked:
    """Call an older file broken that lacks the statistics which most of the others carry."""
    sound = [other for other in looked if other.problem is None]
    n_lacking = sum(bool(other.lacks) for other in sound)
    if not each.lacks or each.problem or 2 * n_lacking >= len(sound):
        return each
    problem = f"lacks the attribute {', '.join(each.lacks)}, which most files here carry"
    return Looked(each.name, each.path, problem, each.shape, each.lacks)


def _remarks(looked: Sequence[Looked]) -> list[str]:
    grids = Counter(each.shape[:3] for each in looked if each.shape)
    if len(grids) < 2:
        return []
    usual = grids.most_common(1)[0][0]
    others = [each.name for each in looked if each.shape and each.shape[:3] != usual]
    text = "x".join(map(str, usual))
    return [
        f"{len(others)} runs have another grid than {text}, which most have ({others[0]} ...); "
        f"--expect {','.join(map(str, usual))},0 would call them broken"
    ]


def _clear_away(folder: Path, broken: Sequence[Looked], target: Path | None) -> list[str]:
    """Move broken runs to a folder, or delete them; return what was moved."""
    root = folder if folder.is_dir() else folder.parent
    if target is not None and target.resolve().is_relative_to(root.resolve()):
        raise UsageError(
            "the quarantine lies inside the folder itself",
            where=str(target),
            hint="give a folder beside it, or broken runs would be found again",
        )
    moved = []
    with folder_lock(root):
        for each in broken:
            inside = each.path.relative_to(root).as_posix() if each.path != root else each.path.name
            try:
                _move(each, target / inside) if target is not None else _delete(each.path)
            except OSError as error:
                raise NeuroError(
                    f"cannot be {'deleted' if target is None else 'moved'}: "
                    f"{error.strerror or error}",
                    where=str(each.path),
                    hint="what was moved before it stays moved",
                ) from error
            if target is not None:
                entry: dict[str, Any] = {"subject": inside, "reason": each.problem}
                Manifest(target / QUARANTINE_FILE).append(entry)
            moved.append(inside)
    return moved


def _move(each: Looked, target: Path) -> None:
    if target.exists():
        raise NeuroError(
            "an earlier file is in quarantine under this name",
            where=str(target),
            hint="choose another --quarantine folder",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(each.path, target)


def _delete(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    # Of a folder only what belongs to the run goes; other files of the user stay.
    try:
        files = frame_paths(path)
    except InputError:
        files = sorted(path.glob("frame_*.pt"))
    for file in (*files, path / STATS_FILE):
        file.unlink(missing_ok=True)
    if not any(path.iterdir()):
        path.rmdir()
