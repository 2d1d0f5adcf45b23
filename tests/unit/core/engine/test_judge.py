"""The steps of a judgement, on a task whose answers can be counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from neurocli.core.engine.judge import per_group, verdicts, with_baselines
from neurocli.core.engine.task import BaselineRows, RunData, SampleSet, Summary
from neurocli.core.events import Listener, ignore


def summary(**changes: Any) -> Summary:
    plain: dict[str, Any] = {
        "metrics": {"accuracy": 0.9, "mae": 2.0, "odd": 1.0},
        "ci95": {"accuracy": (0.8, 1.0), "mae": (1.0, 3.0)},
        "baselines": {"plain": {"accuracy": 0.5, "mae": 3.5, "odd": 0.0, "other": 1.0}},
        "per_subject": [],
        "n": 4,
    }
    return Summary(**{**plain, **changes})


class Counting:
    """Count rows; two baselines, one of them with its own interval."""

    def summarise(self, rows: list[dict[str, Any]]) -> Summary:
        return summary(metrics={"accuracy": float(np.mean([row["right"] for row in rows]))})

    summarise_baseline = summarise

    def baseline_rows(
        self, train: SampleSet, judged: Sequence[SampleSet], listener: Listener
    ) -> BaselineRows:
        return BaselineRows({"fitted": [{"right": 1.0}, {"right": 0.0}]}, ["fitted on air"])


def run_data(**parts: Any) -> RunData:
    return RunData("ar", parts, {}, {}, "", "")  # type: ignore[arg-type]


def test_words_follow_the_intervals() -> None:
    found = verdicts(summary(), in_sample=False)
    # A value without interval is a point; an unknown measure has no good direction.
    assert found == {"plain": {"accuracy": "better", "mae": "better", "odd": "no claim"}}
    wide = summary(baseline_ci95={"plain": {"accuracy": (0.2, 0.8), "mae": (0.1, 0.9)}})
    assert verdicts(wide, in_sample=False)["plain"] == {
        "accuracy": "not distinguishable",
        "mae": "worse",
        "odd": "no claim",
    }
    assert set(verdicts(wide, in_sample=True)["plain"].values()) == {"no claim"}


def test_fitted_baselines_are_judged_like_the_model() -> None:
    task: Any = Counting()
    found, notes = with_baselines(task, run_data(train=[]), [], summary(), ignore)
    assert found.baselines["fitted"] == {"accuracy": 0.5}
    assert found.baselines["plain"]["mae"] == 3.5
    assert found.baseline_ci95["fitted"] == {"accuracy": (0.8, 1.0), "mae": (1.0, 3.0)}
    assert notes == ["fitted on air"]


def test_without_a_training_part_nothing_is_fitted_and_it_is_said() -> None:
    task: Any = Counting()
    found, notes = with_baselines(task, run_data(test=[]), [], summary(), ignore)
    assert set(found.baselines) == {"plain"}
    assert "training part" in notes[0]


@pytest.mark.parametrize("missing", [False, True])
def test_sites_have_their_own_rows(missing: bool) -> None:
    task: Any = Counting()
    rows = [{"participant": f"p{i}", "right": float(i % 2)} for i in range(7)]
    rows += [{"participant": "p0", "right": 1.0}]
    sites = {f"p{i}": "north" if i < 4 else "south" for i in range(5 if missing else 7)}
    table = {row.pop("site"): row for row in per_group(task, rows, sites, "site")}
    assert table["north"] == {"n": 4, "accuracy": pytest.approx(3 / 5)}
    if missing:
        assert table["south"] == {"n": 1}
        assert table["n/a"] == {"n": 2}
    else:
        assert table["south"] == {"n": 3, "accuracy": pytest.approx(1 / 3)}
    assert per_group(task, rows, {f"p{i}": "one" for i in range(7)}, "site") == []


def test_a_task_may_compare_rows_with_those_of_baselines() -> None:
    class Comparing(Counting):
        def beside(self, rows: Any, baselines: Any) -> dict[str, Any]:
            return {"seen": (rows, sorted(baselines))}

    task: Any = Comparing()
    rows: Any = [{"participant": "p0"}]
    found, _ = with_baselines(task, run_data(train=[]), [], summary(), ignore, rows=rows)
    assert found.details["seen"] == (rows, ["fitted"])
    plain, _ = with_baselines(task, run_data(train=[]), [], summary(), ignore)
    assert "seen" not in plain.details
