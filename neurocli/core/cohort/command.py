"""The public door to splitting: a table or a dataset folder in, a split file and its report out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurocli.core.cohort.balance import largest_smd
from neurocli.core.cohort.divide import Division, divide
from neurocli.core.cohort.files import Split, render_split, split_sha256
from neurocli.core.cohort.options import SplitOptions, split_options
from neurocli.core.cohort.page import split_page
from neurocli.core.cohort.people import read_people
from neurocli.core.errors import ExitCode, NeuroError, UsageError
from neurocli.core.names import choices_text
from neurocli.core.paths import durable_write

REPORT_SCHEMA = "neuro/split-report/1"


@dataclass(frozen=True)
class SplitResult:
    """Hold what a split led to.

    Args:
        out: The split file.
        report_json: Counts, balance and audit as data.
        report_html: The same as a page.
        counts: People by part.
        n_folds: Folds in the file; 0 for a single split.
        n_groups_divided: Groups with members in more than one part; 0 unless something is broken.
        imbalanced: Judged columns whose train and test parts differ by more than the limit.
        notes: Sentences the user should read.
        split: The split itself.
        is_written: Whether files were written; False for a dry run or an equal file.
    """

    out: Path
    report_json: Path
    report_html: Path
    counts: dict[str, int]
    n_folds: int
    n_groups_divided: int
    imbalanced: list[str]
    notes: list[str]
    split: Split
    is_written: bool


def make_split(
    table: str | Path,
    out: str | Path,
    options: SplitOptions | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    **named: Any,
) -> SplitResult:
    """Divide people into train, val and test, and say how even the parts are.

    The same people, columns and seed give the same bytes on any machine, for any order of rows
    and any table format. The split file is written last, so it never stands without its report.

    Args:
        table: Phenotype table (CSV, TSV, Parquet), or a dataset folder.
        out: The split file; the reports stand beside it under its name.
        options: All options at once; None for the defaults.
        force: Replace another split.
        dry_run: Divide, but write nothing.
        **named: Any field of `SplitOptions`, over `options`.

    Returns:
        Where the files are, counts, audit and notes.

    Raises:
        UsageError: An option, a column or an id is wrong, or `out` holds another split.
        InputError: The table cannot be read.
        NotBuiltYetError: An option belongs to a later part.
        NeuroError: A column is out of balance and `fail_on_imbalance` is set (exit code 3, after
            writing), or the disk is full.
    """
    chosen = split_options(options, named)
    source, target = Path(table), Path(out)
    people, notes = read_people(source, id_column=chosen.id_column)
    division = divide(people, chosen)
    notes += division.notes
    text = render_split(division.split, chosen.format, allow_unsafe_ids=chosen.allow_unsafe_ids)
    is_same = _check_target(target, source, text, force=force or dry_run)
    if dry_run and target.exists() and not is_same:
        notes.append(f"{target} holds something else; writing it needs --force")
    report = _report(target, division, notes)
    report_json, report_html = (_beside(target, ending) for ending in ("json", "html"))
    if not dry_run:
        pretty = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
        durable_write(report_json, pretty + "\n")
        durable_write(report_html, split_page(report))
        if not is_same:
            durable_write(target, text)
    if chosen.fail_on_imbalance and division.imbalanced:
        free = [name for name in division.imbalanced if name not in chosen.stratify_names]
        cure = f"--stratify {','.join(free[:3])}" if free else "another --seed or fewer groups"
        raise NeuroError(
            f"train and test are out of balance in {choices_text(division.imbalanced)}",
            where=str(target),
            hint=f"see {report_html}; try {cure}",
            code=ExitCode.PARTIAL,
        )
    return SplitResult(
        out=target,
        report_json=report_json,
        report_html=report_html,
        counts=report["counts"],
        n_folds=len(division.split.folds),
        n_groups_divided=division.split.groups["split"],
        imbalanced=division.imbalanced,
        notes=notes,
        split=division.split,
        is_written=not dry_run and not is_same,
    )


def _check_target(target: Path, source: Path, text: str, *, force: bool) -> bool:
    """Return whether the target already holds just this text; refuse to destroy anything else."""
    if target.is_dir():
        raise UsageError("is a folder, a file is needed", where=str(target), hint="-o split.json")
    if not target.exists():
        return False
    if target.samefile(source):
        raise UsageError(
            "is the table itself", where=str(target), hint="choose another file with --out"
        )
    content = text.encode("utf-8", "surrogateescape")
    if target.stat().st_size == len(content) and target.read_bytes() == content:
        return True
    if not force:
        raise UsageError(
            "holds something else already",
            where=str(target),
            hint="choose another file with --out, or replace it with --force",
        )
    return False


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f"{target.name}.report.{ending}")


def _report(target: Path, division: Division, notes: list[str]) -> dict[str, Any]:
    split = division.split
    counts = {part: len(names) for part, names in split.parts.items()}
    return {
        "schema": REPORT_SCHEMA,
        "split": target.name,
        "split_sha256": split_sha256(split.parts),
        "n": sum(counts.values()),
        "counts": counts,
        "seed": split.seed,
        "method": split.method,
        "folds": len(split.folds),
        "groups": dict(split.groups),
        "largest_smd": largest_smd(split.balance),
        "imbalanced": division.imbalanced,
        "balance": list(split.balance),
        "notes": notes,
        "options": dict(split.options),
        "inputs": {"sha256": split.inputs_sha256},
    }
