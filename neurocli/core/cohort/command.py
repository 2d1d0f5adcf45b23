"""The public door to splitting: a table or a dataset folder in, a split file and its report out."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurocli.core.cohort.balance import largest_smd
from neurocli.core.cohort.divide import Division
from neurocli.core.cohort.files import Split, render_split, split_sha256
from neurocli.core.cohort.options import SplitOptions, seed_list, split_options
from neurocli.core.cohort.page import split_page
from neurocli.core.cohort.people import read_people
from neurocli.core.cohort.plan import plan_split
from neurocli.core.cohort.sample import Sample
from neurocli.core.data.documents import indented
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
        sampling: How the cohort was chosen, with its balance; empty when everyone was kept.
        others: Results of further seeds.
        likeness: Largest Jaccard index of two test parts of several seeds; None for one.
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
    sampling: dict[str, Any] = field(default_factory=dict)
    others: Sequence[SplitResult] = ()
    likeness: float | None = None


def make_split(
    table: str | Path,
    out: str | Path,
    options: SplitOptions | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    **named: Any,
) -> SplitResult:
    """Choose whom to keep, divide them into train, val and test, and say how even that is.

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
        Where the files are, counts, audit and notes. With several seeds those of the first; the
        others stand in `others`.

    Raises:
        UsageError: An option, a column or an id is wrong, or `out` holds another split.
        InputError: The table cannot be read.
        NeuroError: A column is out of balance and `fail_on_imbalance` is set (exit code 3, after
            writing), or the disk is full.
    """
    chosen = split_options(options, named)
    with _without_collecting():
        return _made(Path(table), Path(out), chosen, force=force, dry_run=dry_run)


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep the search for cycles away while millions of texts, which make none, are held."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _made(
    source: Path, target: Path, chosen: SplitOptions, *, force: bool, dry_run: bool
) -> SplitResult:
    people, notes = read_people(source, id_column=chosen.id_column)
    seeds = seed_list(chosen)
    runs = [(replace(chosen, seed=seed), _named_after(target, seed)) for seed in seeds]
    plans = []
    for run, path in runs or [(chosen, target)]:
        division, sample = plan_split(people, run)
        text = render_split(division.split, run.format, allow_unsafe_ids=run.allow_unsafe_ids)
        is_same = _check_target(path, source, text, force=force or dry_run)
        plans.append(_Plan(path, run, division, sample, text, is_same))
    results = [_finish(plan, notes, dry_run=dry_run) for plan in plans]
    if len(results) > 1:
        results[0] = replace(results[0], others=results[1:], likeness=_likeness(results))
        results[0].notes.append(_likeness_note(results[0].likeness, len(results)))
    for plan in plans:
        _judge(plan)
    return results[0]


@dataclass(frozen=True)
class _Plan:
    target: Path
    options: SplitOptions
    division: Division
    sample: Sample
    text: str
    is_same: bool


def _named_after(target: Path, seed: int) -> Path:
    return target.with_name(f"{target.stem}_{seed}{target.suffix}")


def _finish(plan: _Plan, notes: list[str], *, dry_run: bool) -> SplitResult:
    """Write one split with its reports, and return what it led to."""
    target, division, sample = plan.target, plan.division, plan.sample
    told = notes + sample.notes + division.notes
    if dry_run and target.exists() and not plan.is_same:
        told.append(f"{target} holds something else; writing it needs --force")
    if plan.options.format == "nnunet" and not division.split.folds:
        told.append("nnU-Net's file has no test part: it lists train and val only")
    report = _report(target, division, sample, told)
    report_json, report_html = (_beside(target, ending) for ending in ("json", "html"))
    if not dry_run:
        durable_write(report_json, indented(report) + "\n")
        durable_write(report_html, split_page(report))
        if not plan.is_same:
            durable_write(target, plan.text)
    return SplitResult(
        out=target,
        report_json=report_json,
        report_html=report_html,
        counts=report["counts"],
        n_folds=len(division.split.folds),
        n_groups_divided=division.split.groups["split"],
        imbalanced=_imbalanced(plan),
        notes=told,
        split=division.split,
        is_written=not dry_run and not plan.is_same,
        sampling=report["sampling"],
    )


def _imbalanced(plan: _Plan) -> list[str]:
    return list(dict.fromkeys([*plan.sample.imbalanced, *plan.division.imbalanced]))


def _judge(plan: _Plan) -> None:
    """Raise when some column is out of balance and that was to be an error."""
    if not plan.options.fail_on_imbalance:
        return
    page = _beside(plan.target, "html")
    if wrong := plan.sample.imbalanced:
        raise NeuroError(
            f"matching leaves the classes out of balance in {choices_text(wrong)}",
            where=str(plan.target),
            hint=f"see {page}; try a smaller --caliper, --exact {wrong[0]} or --discard both",
            code=ExitCode.PARTIAL,
        )
    if wrong := plan.division.imbalanced:
        free = [name for name in wrong if name not in plan.options.stratify_names]
        cure = f"--stratify {','.join(free[:3])}" if free else "another --seed or fewer groups"
        raise NeuroError(
            f"train and test are out of balance in {choices_text(wrong)}",
            where=str(plan.target),
            hint=f"see {page}; try {cure}",
            code=ExitCode.PARTIAL,
        )


def _likeness(results: list[SplitResult]) -> float:
    """Return the largest Jaccard index of two test parts."""
    tests = [set(result.split.parts["test"]) for result in results]
    found = [
        len(one & other) / len(one | other) if one | other else 0.0
        for index, one in enumerate(tests)
        for other in tests[index + 1 :]
    ]
    return max(found)


def _likeness_note(likeness: float | None, n: int) -> str:
    told = f"{n} splits; two test parts share at most {100 * (likeness or 0):.0f} % (Jaccard)"
    return told + ("; some are equal, so they are no repetition" if likeness == 1 else "")


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


def _report(target: Path, division: Division, sample: Sample, notes: list[str]) -> dict[str, Any]:
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
        "sampling": dict(sample.audit),
        "unmatched_covariates": list(sample.imbalanced),
        "balance": list(split.balance),
        "notes": notes,
        "options": dict(split.options),
        "inputs": {"sha256": split.inputs_sha256},
    }
