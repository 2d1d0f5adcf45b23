"""The function behind `neuro evaluate`: one checkpoint, an ensemble, or several side by side."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack, cast

from neurocli.core.data.documents import read_json
from neurocli.core.engine.checkpoint import BEST
from neurocli.core.engine.evaluate import EvaluateOptions, evaluate
from neurocli.core.engine.judgement import EvalResult
from neurocli.core.engine.run_folder import read_result
from neurocli.core.engine.weights import BEST_MODEL
from neurocli.core.errors import InputError, NeuroError
from neurocli.core.events import Note, ignore
from neurocli.core.experiment.contest import (
    Judged,
    comparison_values,
    contests_of,
    write_comparison,
)
from neurocli.core.experiment.plan import RECORD, planned_runs
from neurocli.core.paths import runs_dir, safe_name


@dataclass(frozen=True)
class ManyResult:
    """Hold the judgements of several checkpoints, and how their models compare.

    Args:
        out: Where `comparison.csv` and `comparison.json` are.
        results: One judgement per checkpoint that could be judged.
        names: What the model of each is called in the comparison.
        comparison: Metric -> models, best, pairs.
        left_out: (checkpoint, reason) of the others.
        notes: Sentences the user should read.
    """

    out: Path
    results: list[EvalResult]
    names: list[str]
    comparison: Mapping[str, Any] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Named:
    """Hold a checkpoint, what its model is called, and what its own folder is called."""

    path: Path
    name: str
    folder: str


def evaluate_many(
    *checkpoints: str | Path, average: bool = False, **options: Unpack[EvaluateOptions]
) -> EvalResult | ManyResult:
    """Judge what a command line names.

    Args:
        *checkpoints: Checkpoints, run folders (their best checkpoint), or an experiment's folder
            (those of all its runs that have ended).
        average: Judge the mean of all of them instead of each by itself.
        **options: The flags of `neuro evaluate`.

    Returns:
        One judgement; or several with a paired comparison, where several were named and not
        averaged.

    Raises:
        InputError: A checkpoint, a folder or the data cannot be read.
        UsageError: Options do not fit the checkpoints.
        NeuroError: Nobody is left to judge, or no checkpoint could be judged.
    """
    named = _named(checkpoints)
    if len(named) == 1:
        return evaluate(named[0].path, **options)
    out = _home(checkpoints, options, "ensemble" if average else "comparison")
    if average:
        # Never in the folder of a member: it holds what that run was judged by.
        more = {"ensemble": [each.path for each in named[1:]], "out": out}
        return evaluate(named[0].path, **cast(EvaluateOptions, {**options, **more}))
    return _each(named, options, out)


def _each(named: Sequence[_Named], options: EvaluateOptions, out: Path) -> ManyResult:
    listener = options.get("listener") or ignore
    results: list[EvalResult] = []
    names: list[str] = []
    left_out: list[tuple[str, str]] = []
    errors: list[NeuroError] = []
    for number, each in enumerate(named):
        same = sum(other.folder == each.folder for other in named[:number])
        own = {**options, "out": out / safe_name(f"{each.folder}-{same}" if same else each.folder)}
        listener(Note(f"checkpoint {number + 1} of {len(named)}: {each.path}"))
        try:
            results.append(evaluate(each.path, **cast(EvaluateOptions, own)))
            names.append(each.name)
        except NeuroError as error:
            left_out.append((str(each.path), error.message.splitlines()[0]))
            errors.append(error)
    if not results:
        raise errors[0]
    notes = [note for result in results for note in result.notes]
    found = ManyResult(out, results, names, left_out=left_out, notes=list(dict.fromkeys(notes)))
    if options.get("dry_run"):
        return found
    judged = [
        Judged(name, result.metrics, _rows(result.out / "per_subject.csv"))
        for name, result in zip(names, results, strict=True)
    ]
    contests = contests_of(judged)
    write_comparison(out, contests)
    return ManyResult(out, results, names, comparison_values(contests), left_out, found.notes)


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _home(checkpoints: Sequence[str | Path], options: EvaluateOptions, kind: str) -> Path:
    """Return where a judgement of several goes: where it is asked for, else a folder of its own."""
    if options.get("out"):
        return Path(str(options.get("out")))
    if len(checkpoints) == 1:
        return Path(checkpoints[0]) / f"{kind}s" / (options.get("part") or "test")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return runs_dir() / f"{kind}-{stamp}-{secrets.token_hex(3)}"


def _named(checkpoints: Sequence[str | Path]) -> list[_Named]:
    found: list[_Named] = []
    for path in map(Path, checkpoints):
        if (path / RECORD).is_file():
            found += _of_experiment(path)
        elif path.is_dir():
            found.append(_Named(_best_of(path), path.name, path.name))
        else:
            inside = path.parent.name == "checkpoints"
            name = path.parent.parent.name if inside else path.stem.removesuffix("_best")
            found.append(_Named(path, name, name))
    return found


def _of_experiment(folder: Path) -> list[_Named]:
    record = read_json(folder / RECORD)
    runs = planned_runs(record["models"], record["seeds"], record["folds"])
    # Seeds and folds of a model are one model in a comparison.
    found = [
        _Named(_best_of(folder / run.name), run.model, run.name)
        for run in runs
        if (folder / run.name / "result.json").is_file()
    ]
    if not found:
        raise InputError(folder, "holds no run that has ended", f"neuro train --resume {folder}")
    return found


def _best_of(run: Path) -> Path:
    result = read_result(run) or {}
    path = run / "checkpoints" / Path(str(result.get("checkpoint", BEST))).name
    if not path.is_file():  # a run that solves instead of training keeps its model beside
        path = run / BEST_MODEL
    if not path.is_file():
        raise InputError(run, "holds no checkpoint", "name a run of `neuro train`, or a .pth file")
    return path
