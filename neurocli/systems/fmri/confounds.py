"""Read the nuisance signals of a run as fMRIPrep writes them, old column names included."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurocli.core.data.tables import read_records
from neurocli.core.errors import InputError, UsageError
from neurocli.core.names import choices_text

Float64 = npt.NDArray[np.float64]

_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_TISSUE = ("csf", "white_matter")
_GLOBAL = ("global_signal",)
_EXPANSIONS = ("", "_derivative1", "_power2", "_derivative1_power2")


def _expanded(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{name}{ending}" for name in names for ending in _EXPANSIONS)


CONFOUND_SETS: Mapping[str, tuple[str, ...]] = {
    "6p": _MOTION,
    "8p": _MOTION + _TISSUE,
    "9p": _MOTION + _TISSUE + _GLOBAL,
    "24p": _expanded(_MOTION),
    "36p": _expanded(_MOTION + _TISSUE + _GLOBAL),
    "acompcor": (*_expanded(_MOTION), *(f"a_comp_cor_{index:02d}" for index in range(5))),
}
# What fMRIPrep called the same signals before 1.2.
_OLD_NAMES: Mapping[str, str] = {
    **dict(zip(_MOTION, ("X", "Y", "Z", "RotX", "RotY", "RotZ"), strict=True)),
    "csf": "CSF",
    "white_matter": "WhiteMatter",
    "global_signal": "GlobalSignal",
    **{f"a_comp_cor_{index:02d}": f"aCompCor{index:02d}" for index in range(5)},
}
CONFOUND_ENDINGS = (
    "desc-confounds_timeseries.tsv",
    "desc-confounds_regressors.tsv",
    "bold_confounds.tsv",
)


def find_confounds(folder: Path, stem: str) -> Path | None:
    """Return the confounds table of a run, or None.

    Args:
        folder: Of the run.
        stem: Its name up to what derivation added, such as `sub-01_task-rest_run-1`.
    """
    for ending in CONFOUND_ENDINGS:
        path = folder / f"{stem}_{ending}"
        if path.is_file():
            return path
    return None


def read_confounds(path: Path, wanted: str, n_frames: int) -> tuple[Float64, list[str]]:
    """Read the signals that are to be regressed out.

    Args:
        path: The table, one row per frame.
        wanted: A name of `CONFOUND_SETS`, or columns separated by commas, with * for many.
        n_frames: T.

    Returns:
        Signals (T, C) float64 and their names. Derivatives have no first value; it is taken as
        the mean of the others.

    Raises:
        InputError: The table has another number of rows, lacks a column, or holds words.
        UsageError: Nothing is asked for.
    """
    records = [row for _, row in read_records(path)]
    if len(records) != n_frames:
        raise InputError(path, f"has {len(records)} rows for {n_frames} frames", "take its own run")
    names = _columns(path, list(records[0]), wanted)
    signals = np.array([[_number(path, row[name]) for name in names] for row in records])
    for column, name in zip(signals.T, names, strict=True):
        known = np.isfinite(column)
        if known.sum() < n_frames - 1:
            raise InputError(
                path, f"{name} has no value in {n_frames - known.sum()} frames", "leave it out"
            )
        column[~known] = column[known].mean()
    return signals, names


def _columns(path: Path, header: list[str], wanted: str) -> list[str]:
    patterns = CONFOUND_SETS.get(wanted) or [part.strip() for part in wanted.split(",")]
    found: dict[str, None] = {}
    for pattern in filter(None, patterns):
        old = _OLD_NAMES.get(pattern)
        matching = fnmatch.filter(header, pattern) or [name for name in header if name == old]
        if not matching:
            raise InputError(
                path,
                f"has no column {pattern}",
                f"sets are {choices_text(CONFOUND_SETS)}; columns are {choices_text(header)}",
            )
        found |= dict.fromkeys(sorted(matching) if "*" in pattern else matching)
    if not found:
        raise UsageError(
            "no confound is named", where="--confounds", hint=choices_text(CONFOUND_SETS)
        )
    return list(found)


def _number(path: Path, text: str | None) -> float:
    try:
        return np.nan if text is None else float(text)
    except ValueError as error:
        raise InputError(path, f"holds '{text:.40}' where a number is needed") from error
