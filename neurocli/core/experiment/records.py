"""What the runs of an experiment left in their folders, as plain values; nothing here needs torch.

Everything a table says is read back from run folders, so that the tables are the same whether an
experiment was killed ten times or never.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from neurocli.core.data.documents import read_json
from neurocli.core.errors import InputError
from neurocli.core.experiment.columns import Epochs
from neurocli.core.experiment.plan import PlannedRun

PROFILE = "profile.json"
TEST_FOLDER = Path("evaluations") / "test"
_NOT_METRICS = ("loss", "lr", "grad_norm", "skipped", "spike")


@dataclass(frozen=True)
class RunFacts:
    """Hold what is known of one run.

    Args:
        run: Which one.
        result: `result.json`; empty while it is trained.
        epochs: Epoch -> part -> metric -> value.
        test: `metrics.json` of the test part; empty before it is judged.
        per_case: Rows of its `per_subject.csv` as texts.
    """

    run: PlannedRun
    result: Mapping[str, Any] = field(default_factory=dict)
    epochs: Epochs = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)
    per_case: Sequence[Mapping[str, str]] = ()

    @property
    def best_epoch(self) -> int | None:
        """Return the epoch of the best checkpoint, from 1; None before the run has ended."""
        found = self.result.get("best", {}).get("epoch")
        return int(found) if found is not None else None

    def value(self, part: str, metric: str) -> float | int | None:
        """Return a metric of the test part, or of another part at the best epoch."""
        if part == "run":
            return self.best_epoch if metric == "best_epoch" else None
        found = self._scores(part).get(metric)
        return found if found is not None and isfinite(found) else None

    def names(self, part: str) -> Iterable[str]:
        """Return the metrics of the test part, or of another part at the best epoch."""
        return self._scores(part)

    def _scores(self, part: str) -> Mapping[str, float | None]:
        if part == "test":
            found: Mapping[str, float | None] = self.test.get("metrics", {})
            return found
        return self.epochs.get(self.best_epoch or -1, {}).get(part, {})


def read_facts(run: PlannedRun, folder: Path) -> RunFacts:
    """Return what a run folder holds; a folder that is not there yet holds nothing.

    Args:
        run: Which run it is.
        folder: Its folder.

    Raises:
        InputError: A file in it is damaged.
    """
    test = folder / TEST_FOLDER
    return RunFacts(
        run,
        _object(folder / "result.json"),
        read_epochs(folder),
        _object(test / "metrics.json"),
        _rows(test / "per_subject.csv") if (test / "metrics.json").is_file() else (),
    )


def read_epochs(folder: Path) -> Epochs:
    """Return the metrics of every epoch of a run, those of its steps as means over the epoch.

    Args:
        folder: The run folder.

    Raises:
        InputError: `metrics.csv` is damaged.
    """
    found: dict[int, dict[str, dict[str, float]]] = {}
    for row in _rows(folder / "metrics.csv"):
        try:
            epoch, value = int(row["epoch"]), float(row["value"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                folder / "metrics.csv", f"holds no row of metrics: {row}", "train the run again"
            ) from error
        found.setdefault(epoch, {}).setdefault(row["part"], {})[row["metric"]] = value
    for epoch, means in _step_means(folder / "log.jsonl").items():
        if epoch in found:
            train = found[epoch].setdefault("train", {})
            train.update({name: mean for name, mean in means.items() if name not in train})
    return found


def _step_means(path: Path) -> dict[int, dict[str, float]]:
    """Return epoch -> scalar of the task -> its mean over the steps that were logged."""
    values: dict[int, dict[str, list[float]]] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        if not line.startswith('{"event": "step"'):
            continue
        try:
            step = json.loads(line)
        except ValueError:  # the last line of a killed run
            continue
        for name, value in step.items():
            if name in ("event", "step", "epoch", *_NOT_METRICS) or value is None:
                continue
            values.setdefault(step["epoch"], {}).setdefault(name, []).append(float(value))
    return {
        epoch: {name: sum(all_) / len(all_) for name, all_ in means.items()}
        for epoch, means in values.items()
    }


def _object(path: Path) -> Mapping[str, Any]:
    return read_json(path, max_bytes=1 << 28) if path.is_file() else {}


def _rows(path: Path) -> list[Mapping[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def read_profile(out: Path) -> dict[str, dict[str, Any]]:
    """Return the measured cost of models by name, of an experiment's `profile.json`.

    Raises:
        InputError: The file is damaged.
    """
    return {str(row["model"]): row for row in _object(out / PROFILE).get("models", ())}
