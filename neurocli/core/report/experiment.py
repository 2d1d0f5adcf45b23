"""From runs to the rows of an experiment's tables, made as the experiment itself makes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from neurocli.core.experiment import columns
from neurocli.core.experiment.columns import COSTS, KEYS, Epochs, Row
from neurocli.core.experiment.plan import RECORD
from neurocli.core.report.collect import Run
from neurocli.core.report.costs import Costs
from neurocli.core.report.evaluations import Evaluation
from neurocli.core.report.records import as_mapping, as_number
from neurocli.core.report.tables import room_of

Costed = Sequence[tuple[Run, Costs]]
_FOLD = re.compile(r"_fold_([0-9]{1,4})$")


def identity(run: Run) -> Row:
    """Return what tells a row of one run from that of another: dataset, seed, fold, model."""
    path = run.settings.get("data.path")
    dataset = "built-in" if run.is_built_in or not path else Path(str(path)).name
    seed = as_number(run.settings.get("run.seed"))
    found = (dataset, None if seed is None else int(seed), _fold(run), run.method)
    return dict(zip(KEYS, found, strict=True))


def _fold(run: Run) -> int | None:
    recorded = run.result.get("fold", run.settings.get("run.fold"))
    number = as_number(recorded)
    if number is None and (run.folder.parent / RECORD).is_file():
        # An experiment names the folders of its runs after model, seed and fold.
        found = _FOLD.search(run.folder.name)
        number = None if found is None else float(found[1])
    return None if number is None else int(number)


def judged_by_part(run: Run) -> dict[str, Evaluation]:
    """Return part -> judgement; of several of one part the first, and none of training data."""
    found: dict[str, Evaluation] = {}
    for evaluation in run.evaluations:
        if not evaluation.in_sample:
            found.setdefault(evaluation.part, evaluation)
    return found


@dataclass(frozen=True)
class _Scores:
    """Tell how well a run does, as far as its folder says it."""

    run: Run

    @property
    def best_epoch(self) -> int | None:
        epoch = as_number(as_mapping(self.run.result.get("best")).get("epoch"))
        return None if epoch is None else int(epoch)

    @property
    def epochs(self) -> Epochs:
        return self.run.curves.epochs

    @cached_property
    def _judged(self) -> dict[str, Evaluation]:
        return judged_by_part(self.run)

    def names(self, part: str) -> Iterable[str]:
        return list(self._of(part))

    def value(self, part: str, metric: str) -> float | int | None:
        if part == "run":
            return self.best_epoch if metric == "best_epoch" else None
        return self._of(part).get(metric)

    def _of(self, part: str) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        if part != "test" and self.best_epoch is not None:
            # Validation was judged while training, on the very checkpoint that was kept.
            found |= self.epochs.get(self.best_epoch, {}).get(part, {})
        judged = self._judged[part].metrics if part in self._judged else {}
        return found | {name: v for name, v in judged.items() if v is not None or name not in found}


def run_rows(costed: Costed) -> list[Row]:
    """Return one row per run: what it is, what it costs, how well it does on test and val.

    Args:
        costed: Runs with their costs.
    """
    return [
        columns.run_row(identity(run), _costs(costs), _Scores(run), room_of(run.method))
        for run, costs in costed
    ]


def _costs(costs: Costs) -> Row:
    found = (
        _whole(costs.params), _whole(costs.flops), costs.pam_train, costs.pam_inference,
        costs.latency_ms,
    )  # fmt: skip
    return dict(zip(COSTS, found, strict=True))


def _whole(value: float | None) -> int | float | None:
    return int(value) if value is not None and float(value).is_integer() else value


def epoch_rows(costed: Costed) -> list[Row]:
    """Return one row per epoch of every run; the test score stands on the best epoch alone."""
    return [
        row
        for run, _ in costed
        for row in columns.epoch_rows(identity(run), _Scores(run), room_of(run.method))
    ]


def stage_rows(costed: Costed) -> list[Row]:
    """Return one row per stage and mode of a model, where memory was profiled by stage."""
    return list(
        columns.stage_rows(
            (identity(run), [_stage(stage) for stage in costs.stages]) for run, costs in costed
        )
    )


def _stage(stage: Row) -> Row:
    return {
        **{name: str(stage.get(name)) for name in ("mode", "stage_name")},
        **{name: as_number(stage.get(name)) for name in ("pam_mean", "pam_std")},
        "num_runs": _whole(as_number(stage.get("num_runs"))),
    }
