"""Folders of the cache that are made once: whole or absent, whoever starts or is killed when."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from neurocli.core.errors import NeuroError, UsageError
from neurocli.core.events import Listener, Note
from neurocli.core.paths import folder_lock

_CONTENT = "content"


def made_once(
    target: Path,
    make: Callable[[Path], object],
    *,
    what: str,
    listener: Listener,
    is_ready: Callable[[Path], bool] = Path.is_dir,
) -> Path:
    """Return a folder of the cache, made when it is not there yet.

    It is built beside its place and renamed whole, so processes that start together all end with
    the same one. What a killed process left is removed by the next that has to make it.

    Args:
        target: The folder.
        make: Called with an empty folder to fill.
        what: What is made, for people.
        listener: Told that it is made.
        is_ready: Whether a folder is finished.

    Raises:
        NeuroError: The cache cannot be written.
    """
    if is_ready(target):
        return target
    _clear_drafts(target)
    draft = target.with_name(f"{target.name}.part-{os.getpid()}")
    listener(Note(f"making {what} once, in {target}"))
    try:
        with folder_lock(draft):  # says that the draft is somebody's work
            (draft / _CONTENT).mkdir()
            make(draft / _CONTENT)
            if not is_ready(target):
                (draft / _CONTENT).rename(target)
    except OSError as error:
        if not is_ready(target):
            raise NeuroError(
                f"cannot keep {what}: {error.strerror or error}",
                where=str(target),
                hint="point NEURO_CACHE at a folder that can be written",
            ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _clear_drafts(target: Path) -> None:
    for draft in target.parent.glob(f"{target.name}.part-*"):
        with contextlib.suppress(UsageError), folder_lock(draft):
            shutil.rmtree(draft, ignore_errors=True)
