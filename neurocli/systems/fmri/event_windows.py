"""Windows that carry labels: what a person did or saw, from tables of onset and duration.

Each event gives one window that starts `event_lag_s` after it, because the blood response comes
seconds after its cause. Tables are those of BIDS: one `*_events.tsv` per run, or one that holds
for every run whose name has all of its entities, or one table with a column of run ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurocli.core.data.tables import Table, read_records
from neurocli.core.errors import InputError, NeuroError, UsageError
from neurocli.core.names import choices_text
from neurocli.systems.fmri.clips import window_name
from neurocli.systems.fmri.config import FmriDataBlock
from neurocli.systems.fmri.found import Found, FoundRun
from neurocli.systems.fmri.targets import Targets, TargetType, targets_of

_SUFFIX = "_events"
_ENDINGS = (".tsv", ".csv")
_RUN_COLUMNS = ("subject", "run_id", "run", "participant_id")


@dataclass(frozen=True)
class Event:
    """Hold one row of a table of events.

    Args:
        onset_s: Seconds from the first frame of the run.
        label: Text of the wanted column; None where missing.
    """

    onset_s: float
    label: str | None


def label_windows(
    found: Found, data: FmriDataBlock, column: str, kind: TargetType | None
) -> Targets:
    """Replace the windows of a dataset by those of its events.

    Args:
        found: Its runs keep only windows that begin at an event; runs without one are left out.
        data: Names the tables, the lag and the length of a window.
        column: The column with the label, such as trial_type.
        kind: None decides: numbers with more than ten distinct values are regressed.

    Returns:
        One value per window, by `clips.window_name`.

    Raises:
        UsageError: The tables have no such column.
        InputError: A row has no usable onset, or a run's repetition time is unknown.
        NeuroError: No event fits into a run.
    """
    path = Path(str(data.events))
    events_of = _events(path, found, column)
    labels: dict[str, str | None] = {}
    outside = unlabelled = shared = 0
    for each in found.usable:
        each.starts = []
        span = data.sequence_length * data.stride_within
        for event in events_of.get(each.run.subject, ()):
            if event.label is None:
                unlabelled += 1
                continue
            start = round((event.onset_s + data.event_lag_s) / _tr_s(each))
            name = window_name(each.run.subject, start)
            if start < 0 or start + span > each.n_frames:
                outside += 1
            elif name in labels:
                shared += 1
            else:
                labels[name] = event.label
                each.starts.append(start)
        each.starts.sort()
    for count, reason in (
        (outside, f"lie outside their run: windows have {data.sequence_length} frames"),
        (unlabelled, f"have no {column}"),
        (shared, "begin in the frame of an earlier one"),
    ):
        if count:
            found.notes.append(f"{count} events take no part because they {reason}")
    _drop_empty(found, path)
    table = Table(list(labels), "window", {column: list(labels.values())}, path)
    found.digest += [f"{name} {label}" for name, label in labels.items()]
    return targets_of(table, column, kind)


def _tr_s(each: FoundRun) -> float:
    if each.tr_s is None:
        raise InputError(
            each.run.path,
            "its repetition time is unknown, so no event can be placed",
            "prepare the run again with --tr SECONDS",
        )
    return each.tr_s


def _drop_empty(found: Found, path: Path) -> None:
    empty = [each.run.subject for each in found.usable if not each.starts]
    found.left_out += [(name, "no event gives it a window") for name in empty]
    found.usable = [each for each in found.usable if each.starts]
    if not found.usable:
        raise NeuroError(
            "no event fits into a run of the dataset",
            where=str(path),
            hint=f"the dataset's runs are {choices_text(empty)}; the table must name them, and a "
            "window must end before its run does",
        )


def _events(path: Path, found: Found, column: str) -> Mapping[str, Sequence[Event]]:
    if path.is_dir():
        tables = sorted(file for ending in _ENDINGS for file in path.rglob(f"*{_SUFFIX}{ending}"))
        if not tables:
            raise InputError(path, f"holds no table named *{_SUFFIX}.tsv", "name one table")
        chosen = {each.run.subject: _table_of(each.run.subject, tables) for each in found.usable}
        read = {file: _read(file, column) for file in set(chosen.values()) - {None} if file}
        return {run: [e for _, e in read[file]] for run, file in chosen.items() if file}
    by_run: dict[str, list[Event]] = {}
    for run, event in _read(path, column, needs_run=True):
        by_run.setdefault(str(run), []).append(event)
    unknown = sorted(set(by_run) - {each.run.subject for each in found.usable})
    if unknown:
        found.notes.append(
            f"{len(unknown)} runs of the events are not in this data: {choices_text(unknown)}"
        )
    return by_run


def _table_of(run: str, tables: Sequence[Path]) -> Path | None:
    # As BIDS inherits: a table holds for runs that have all of its entities, the closest one wins.
    entities = set(run.split("_"))
    fitting = []
    for file in tables:
        name = file.name.partition(".")[0].removesuffix(_SUFFIX)
        if name == run:
            return file
        own = set(name.split("_"))
        if own <= entities:
            fitting.append((len(own), file))
    return max(fitting)[1] if fitting else None


def _read(path: Path, column: str, *, needs_run: bool = False) -> list[tuple[str | None, Event]]:
    records = read_records(path)
    names = list(records[0][1]) if records else []
    run_column = next((name for name in _RUN_COLUMNS if name in names), None)
    if "onset" not in names:
        raise InputError(path, "has no column 'onset'", "give onsets in seconds, as BIDS does")
    if needs_run and run_column is None:
        raise InputError(
            path,
            f"has no column of run ids ({choices_text(_RUN_COLUMNS)})",
            f"add one, or give a folder of RUN{_SUFFIX}.tsv",
        )
    if column not in names:
        raise UsageError(
            f"no column '{column}'",
            where=str(path),
            hint=f"with data.events, --task takes a column of the events: {choices_text(names)}",
        )
    return [
        (
            record[run_column] if run_column else None,
            Event(_onset(path, line, record["onset"]), record[column]),
        )
        for line, record in records
    ]


def _onset(path: Path, line: int, text: str | None) -> float:
    try:
        onset = float(text or "")
    except ValueError:
        onset = math.nan
    if not math.isfinite(onset):
        raise InputError(
            f"{path}:{line}", f"onset '{text or 'n/a'}' is no time", "give seconds from frame 0"
        )
    return onset
