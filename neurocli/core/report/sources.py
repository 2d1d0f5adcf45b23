"""What a page is made of: run folders, and records of other commands that stand beside them.

A folder is a run, or holds runs (an experiment, a tree of seeds and folds). A file is told by its
schema: the report of a split, the split itself, or what `neuro profile --json` printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocli.core.errors import InputError
from neurocli.core.experiment.columns import (
    EPOCHS_TABLE,
    MODELS_TABLE,
    MODELS_TIDY,
    RUNS_TABLE,
    STAGES_TABLE,
)
from neurocli.core.report.collect import Run, collect_runs
from neurocli.core.report.costs import PROFILE_SCHEMA, Profile, profile_of
from neurocli.core.report.records import RecordReader
from neurocli.core.report.tables import FOREIGN

SPLIT_SCHEMA = "neuro/split/1"
SPLIT_REPORT_SCHEMA = "neuro/split-report/1"
_TABLES = (RUNS_TABLE, EPOCHS_TABLE, MODELS_TABLE, MODELS_TIDY, STAGES_TABLE, *FOREIGN)
_HINT = "name run folders, FILE.report.json of `neuro split`, or the JSON of `neuro profile`"


@dataclass(frozen=True)
class SplitReport:
    """Hold what `neuro split` told of a division.

    Args:
        name: What the page calls it.
        source: Name of its file.
        report: The object.
    """

    name: str
    source: str
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """Hold everything that a page shows.

    Args:
        runs: Run folders.
        splits: Reports of splits.
        profiles: Profiles that were named as files.
        tables: Name of a table -> where an experiment folder already holds it.
    """

    runs: Sequence[Run] = ()
    splits: Sequence[SplitReport] = ()
    profiles: Sequence[Profile] = ()
    tables: Mapping[str, Path] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return what the page calls its runs and splits."""
        return [*(run.name for run in self.runs), *(split.name for split in self.splits)]


def collect_sources(paths: Sequence[str | Path]) -> Sources:
    """Read everything that was named.

    Args:
        paths: Run folders, folders that hold run folders, and files of other commands.

    Raises:
        InputError: Something is missing, holds no run, or is a file of another kind.
    """
    folders: list[Path] = []
    splits: dict[Path, SplitReport] = {}
    profiles: list[Profile] = []
    for path in map(Path, paths):
        # A shell's `runs/*` also meets files that lie between runs.
        if not path.is_file():
            folders.append(path)
            continue
        record = _record(path)
        schema = record.get("schema")
        if schema == PROFILE_SCHEMA:
            profiles.append(profile_of(record, path.name))
        elif schema in (SPLIT_SCHEMA, SPLIT_REPORT_SCHEMA):
            found = path if schema == SPLIT_REPORT_SCHEMA else _beside(path)
            record = record if found == path else _record(found)
            name = str(record.get("split") or path.name)
            splits[found.resolve()] = SplitReport(name, found.name, record)
        else:
            raise InputError(path, "is neither a run folder nor a record a page can show", _HINT)
    runs = collect_runs(folders) if folders else []
    tables = {
        name: folder / name for folder in folders for name in _TABLES if (folder / name).is_file()
    }
    return Sources(runs, tuple(splits.values()), tuple(profiles), tables)


def _record(path: Path) -> Mapping[str, Any]:
    reader = RecordReader(path.parent)
    record = reader.mapping(path.name)
    if reader.problems:
        raise InputError(path, "is no JSON object", _HINT)
    return record


def _beside(path: Path) -> Path:
    report = path.with_name(f"{path.name}.report.json")
    if not report.is_file():
        raise InputError(path, f"{report.name} is not beside this split", "run `neuro split` again")
    return report
