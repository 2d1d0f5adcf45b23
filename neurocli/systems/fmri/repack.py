"""Rewrite HDF5 of older converters where it lies, each file whole or untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurocli.core.data import output
from neurocli.core.data.items import Item
from neurocli.core.data.verify import CheckResult
from neurocli.core.data.workers import reason_text
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.core.events import ItemDone, Listener, WorkFinished, WorkStarted, ignore
from neurocli.core.paths import clear_leftovers, folder_lock
from neurocli.systems.fmri.convert import form_of, write_run
from neurocli.systems.fmri.store import open_store, scan_runs
from neurocli.systems.fmri.store_base import RunStore
from neurocli.systems.fmri.store_foreign import ForeignStore
from neurocli.systems.fmri.store_write import StoreForm

_FLOAT16_SHARE = 2.0**-11
_FLOAT16_STEP = 2.0**-24
_FLOAT32_SHARE = 2.0**-23


def repack_runs(folder: Path, *, listener: Listener = ignore, **form: Any) -> CheckResult:
    """Rewrite every older HDF5 file of a folder in the layout of this program.

    A file is replaced after its new form was read back and compared; its name stays. Files of this
    program and frame folders are left alone.

    Args:
        folder: Holds the files.
        listener: Told the progress.
        **form: `layout`, `dtype`, `compression` ..., see `StoreForm`.

    Returns:
        What was rewritten, and what could not be, with reasons.

    Raises:
        UsageError: An unknown word, or the folder is one of this program or in use.
        InputError: There is no HDF5 file.
    """
    wanted = form_of(form)
    if (folder / output.MANIFEST_FILE).is_file():
        raise UsageError(
            "the files here are this program's own",
            where=str(folder),
            hint="convert them into another folder with -o",
        )
    root = folder if folder.is_dir() else folder.parent
    found = [(folder.stem, folder)] if folder.is_file() else _files(folder)
    problems, rewritten = [], []
    with folder_lock(root):
        clear_leftovers(root)
        listener(WorkStarted("repack", len(found), "files"))
        for name, path in found:
            try:
                is_done = _repack(path, wanted)
            except (NeuroError, OSError, MemoryError) as error:
                problems.append((name, reason_text(error)))
                listener(ItemDone(name, "failed", problems[-1][1]))
                continue
            rewritten += [path.relative_to(root).as_posix()] if is_done else []
            listener(ItemDone(name, "done" if is_done else "skipped"))
        listener(WorkFinished("repack"))
    return CheckResult(folder, len(found), problems, rewritten)


def _files(folder: Path) -> list[tuple[str, Path]]:
    found = sorted((name, path) for name, _, path in scan_runs(folder) if path.is_file())
    if not found:
        raise InputError(folder, "holds no HDF5 file", "--repack rewrites .h5 and .hdf5 files")
    return found


def _repack(path: Path, form: StoreForm) -> bool:
    with open_store(path) as store:
        if not isinstance(store, ForeignStore):
            return False
        fresh = path.with_name(f"{path.name}.part-0")
        try:
            write_run(store, Item(store.subject, store.participant, ()), fresh, form)
            with open_store(fresh) as again:
                _compare(store, again, form)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
    return True


def _compare(before: RunStore, after: RunStore, form: StoreForm) -> None:
    """Refuse a new file whose values are not those of the older one, as far as its dtype goes."""
    problem = InputError(before.path, "its new form reads back differently; it was kept")
    if after.n_frames != before.n_frames or not np.array_equal(after.mask, before.mask):
        raise problem
    if after.scaling != before.scaling:
        return  # another scaling was asked for: there are no equal values to compare
    step = getattr(after, "attributes", {}).get("scale_factor", 0.0)
    share = _FLOAT16_SHARE if form.dtype == "float16" else _FLOAT32_SHARE
    size = 0
    for block in before.iter_blocks():
        again = after.read_packed(slice(size, size + len(block)))
        size += len(block)
        limit = np.abs(block) * share + max(_FLOAT16_STEP, 0.5001 * step)
        if not (np.abs(again - block) <= limit).all():
            raise problem
