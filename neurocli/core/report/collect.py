"""From a run folder to one value that holds everything a page says about the run.

A run folder is read as `train` and `evaluate` write it (`config.yaml`, `result.json`,
`log.jsonl`, `evaluations/<part>/metrics.json`, ...). Any of these may be missing: an interrupted
run is shown as far as it came. No absolute path is kept, so that a page can be given away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurocli.core.errors import InputError
from neurocli.core.report.curves import Curves, read_curves
from neurocli.core.report.evaluations import ALIGN_SCHEMA, Evaluation, read_evaluations
from neurocli.core.report.records import RecordReader, as_mapping, as_number, as_texts

# One of these makes a folder a run; the last one an evaluation that stands alone.
SIGNS = ("config.yaml", "result.json", "data.json", "log.jsonl", "metrics.json")
_DEPTH = 3  # experiment / model / seed and fold
_PARTS_OF_RUNS = ("checkpoints", "evaluations", "tensorboard", "predictions", "explanations")


@dataclass(frozen=True)
class Run:
    """Hold everything a page says about one run.

    Args:
        name: Base name of the folder, made unique among the runs of a page.
        folder: The folder.
        settings: Dotted config key -> value.
        origins: Dotted config key -> where the value came from.
        environment: Versions and devices.
        data: `data.json`.
        split: Part -> number of participants, of `split.json`.
        result: `result.json`.
        alignment: `metrics.json` of an alignment; empty for other runs.
        curves: Losses and metrics over steps.
        evaluations: Judgements, "test" first.
        missing: Files that a finished run has and this one has not.
        problems: What was dropped while reading, each naming its file.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    origins: Mapping[str, Any]
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    split: Mapping[str, int]
    result: Mapping[str, Any]
    alignment: Mapping[str, Any]
    curves: Curves
    evaluations: tuple[Evaluation, ...]
    missing: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def model(self) -> str:
        """Return the model's name, or "unknown model"."""
        return str(self.result.get("model") or self.settings.get("model.name") or "unknown model")

    @property
    def method(self) -> str:
        """Return what gave the figures: the model, or the closed form that was solved instead."""
        return str(self.alignment.get("model") or self.model)

    @property
    def objective(self) -> str:
        """Return what was learned, or "unknown objective"."""
        found = self.data.get("objective") or self.result.get("objective")
        return str(found or self.settings.get("task.objective") or "unknown objective")

    @property
    def learned(self) -> str:
        """Return objective and target, such as "classification of sex": what may be compared."""
        target = self.settings.get("task.target")
        return self.objective if target is None else f"{self.objective} of {target}"

    @property
    def is_built_in(self) -> bool:
        """Return whether synthetic data stood in for real data anywhere in the run."""
        records = (self.data, self.result)
        return any(record.get("built_in_data") is True for record in records) or any(
            evaluation.built_in_data for evaluation in self.evaluations
        )

    @property
    def n_participants(self) -> Mapping[str, int]:
        """Return participants by part, from `data.json`, else from `split.json`."""
        counts = {
            str(part): as_number(as_mapping(row).get("participants"))
            for part, row in as_mapping(self.data.get("parts")).items()
        }
        return {part: int(n) for part, n in counts.items() if n is not None} or self.split


def collect_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read run folders; a folder of runs stands for the runs in it, by name.

    Args:
        folders: Run folders, or folders that hold run folders.

    Returns:
        One value per run, names made unique.

    Raises:
        InputError: A folder is missing or holds no run.
    """
    found = [path for folder in folders for path in _expand(Path(folder))]
    # Resolved, so that a run named twice, or by a link, is shown once.
    unique = list(dict.fromkeys(path.resolve() for path in found))
    names = [path.name for path in unique]
    labels = [
        f"{path.parent.name}/{path.name}" if names.count(path.name) > 1 else path.name
        for path in unique
    ]
    runs = []
    for index, (path, label) in enumerate(zip(unique, labels, strict=True)):
        n_before = labels[:index].count(label)
        runs.append(collect_run(path, name=f"{label} ({n_before + 1})" if n_before else label))
    return runs


def _expand(folder: Path) -> list[Path]:
    if not folder.is_dir():
        kind = "is a file, not a run folder" if folder.exists() else "no such run folder"
        raise InputError(folder, kind, "name the folder that `neuro train` printed")
    if (folder / "log.jsonl").is_file():
        return [folder]  # a judgement that was put into it is no run of its own
    inside = _runs_inside(folder, _DEPTH)
    # An experiment has records of its own beside its runs.
    if _is_run(folder) and not inside:
        return [folder]
    if not inside:
        raise InputError(
            folder,
            f"no run here: none of {', '.join(SIGNS)}, in it or in folders of it",
            "name the folder that `neuro train` printed",
        )
    return inside


def _runs_inside(folder: Path, depth: int) -> list[Path]:
    """Return the runs below a folder, in order of their names, none that lies in another run."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        # A judgement inside a run looks like a run of its own.
        if not path.is_dir() or path.is_symlink() or path.name in _PARTS_OF_RUNS:
            continue
        if _is_run(path):
            found.append(path)
        elif depth > 1:
            found += _runs_inside(path, depth - 1)
    return found


def _is_run(folder: Path) -> bool:
    return any((folder / sign).is_file() for sign in SIGNS)


def collect_run(folder: Path, *, name: str | None = None, with_curves: bool = True) -> Run:
    """Read one run folder.

    Args:
        folder: The folder.
        name: What the page calls it; the folder's base name by default.
        with_curves: Read the logs too, by far the largest files.
    """
    reader = RecordReader(folder)
    evaluations = tuple(read_evaluations(reader))
    # An evaluation of other data may lie outside its run; then nothing of a run is missing.
    stands_alone = not any((folder / sign).is_file() for sign in SIGNS[:-1])
    split = as_mapping(reader.mapping("split.json").get("parts"))
    alignment = _alignment(reader)
    # A closed form is solved in one go: it logs no steps.
    is_solved = bool(alignment) and not (folder / "log.jsonl").exists()
    return Run(
        name=name or folder.name,
        folder=folder,
        settings=reader.settings("config.yaml"),
        origins=reader.mapping("config.sources.json"),
        environment=reader.mapping("environment.json"),
        data=reader.mapping("data.json"),
        split={str(part): len(as_texts(people)) for part, people in split.items()},
        result=reader.mapping("result.json"),
        alignment=alignment,
        curves=read_curves(reader) if with_curves else Curves(),
        evaluations=evaluations,
        missing=() if stands_alone or is_solved else tuple(reader.missing),
        problems=tuple(dict.fromkeys(reader.problems)),
    )


def _alignment(reader: RecordReader) -> Mapping[str, Any]:
    if not (reader.folder / "metrics.json").is_file():
        return {}
    record = reader.mapping("metrics.json")
    return record if record.get("schema") == ALIGN_SCHEMA else {}
