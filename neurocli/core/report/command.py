"""Run folders in, one page out: the function behind `neuro report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocli.core.errors import UsageError
from neurocli.core.paths import durable_write
from neurocli.core.report.beside import Beside, files_beside, folder_of, write_beside
from neurocli.core.report.material import Material
from neurocli.core.report.page import MARKER, page_of
from neurocli.core.report.sources import collect_sources

_HEAD_BYTES = 4096
_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class ReportResult:
    """Hold the outcome of `make_report`.

    Args:
        out: The page.
        runs: Names of the runs and splits on it.
        notes: What is missing or was dropped, one sentence each.
        files: Tables and pictures that stand beside the page, by name.
        plan: What would be done, when nothing was done.
    """

    out: Path
    runs: list[str]
    notes: list[str] = field(default_factory=list)
    files: Mapping[str, Path] = field(default_factory=dict)
    plan: Mapping[str, Any] | None = None


def make_report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> ReportResult:
    """Write one self-contained HTML page about runs, its tables and pictures beside it.

    The page works offline, needs no torch to be made, asks nothing of the network, and has the same
    bytes for the same run folders. `report.html` has its files in `report_files/`.

    Args:
        runs: Run folders, folders that hold run folders (an experiment), reports of `split`, and
            what `profile --json` printed.
        out: The page, `*.html`; a page made before is replaced.
        force: Replace `out` even when it is no page of this function.
        dry_run: Read everything and write nothing.

    Returns:
        The page and what it lacks.

    Raises:
        UsageError: No run was named, or `out` is no name for a page or another file.
        InputError: A folder is missing or holds no run, or a file is of another kind.
        NeuroError: The page cannot be written.
    """
    runs = [runs] if isinstance(runs, (str, Path)) else list(runs)
    if not runs:
        raise UsageError("no run folder was named", hint="neuro report RUN... -o report.html")
    target = Path(out)
    # Before the runs are read: nobody waits for a page that may not be written.
    _check_target(target, force=force)
    sources = collect_sources(runs)
    material = Material(sources, folder_of(target).name)
    beside = files_beside(material, target)
    notes = [f"{run.name}: {problem}" for run in sources.runs for problem in run.problems]
    notes += [
        f"{run.name}: missing {', '.join(run.missing)}" for run in sources.runs if run.missing
    ]
    files = {file.name: target.parent / file.href for file in beside}
    if dry_run:
        plan = {
            "would_write": str(target),
            "files": [str(files[file.name]) for file in beside if file.content is not None],
            "runs": sources.names,
        }
        return ReportResult(target, sources.names, notes, files, plan)
    _write(target, material, beside)
    return ReportResult(target, sources.names, notes, files)


def _write(target: Path, material: Material, beside: list[Beside]) -> None:
    # The page comes last: where it stands, what it links to stands too.
    write_beside(beside, target)
    # A lone surrogate from a damaged file has no UTF-8 form; it is written out instead.
    durable_write(target, page_of(material, beside).encode("utf-8", "backslashreplace"))


def _check_target(target: Path, *, force: bool) -> None:
    # Even --force must not turn a mistyped name into the loss of a checkpoint.
    if target.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"'{target.name}' is no name for a page",
            where="--out",
            hint="end it in .html, for example -o report.html",
        )
    if target.is_dir():
        raise UsageError("is a folder", where=str(target), hint="name a file, such as report.html")
    if target.exists() and not force and not _is_report(target):
        raise UsageError(
            "this file was not made by `neuro report`, so it is not replaced",
            where=str(target),
            hint="choose another --out, or --force to replace it",
        )


def _is_report(path: Path) -> bool:
    with path.open("rb") as handle:
        return MARKER.encode() in handle.read(_HEAD_BYTES)
