"""Pictures over all runs: what they plot, which score they take, what their axes say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neurocli.core.report.collect import collect_run
from neurocli.core.report.figures import LIGHT, Panel
from neurocli.core.report.overview import (
    bar_panels,
    column_label,
    curve_panels,
    efficiency_panels,
    primary_score,
)

WriteRun = Callable[..., Path]
ROWS: list[dict[str, Any]] = [
    {"model_name": "a", "total_params": 10, "flops": 5.0, "test_dice": 0.5},
    {"model_name": "a", "total_params": 10, "flops": 5.0, "test_dice": 0.7},
    {"model_name": "b", "total_params": 5000, "flops": 9.0, "test_dice": 0.9},
]


def _axes(panel: Panel) -> Any:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    panel.paint(axes, LIGHT)
    return axes


def test_bars_are_means_over_the_runs_of_a_model() -> None:
    dice = next(panel for panel in bar_panels(ROWS) if panel.title.startswith("test Dice"))
    assert dice.title == "test Dice, n = 1 to 2 runs each"
    axes = _axes(dice)
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.6, 0.9])
    assert axes.get_xlabel() == "test Dice [share]"


def test_costs_are_drawn_against_the_score_of_every_model() -> None:
    score = primary_score([], ROWS)
    assert score is not None
    assert (score.column, score.is_high_good) == ("test_dice", True)
    panels = efficiency_panels(ROWS, score)
    # Memory and latency were not measured, so they have no panel.
    assert [panel.title.partition(",")[0] for panel in panels] == [
        "parameters", "operations of a forward pass",
    ]  # fmt: skip
    axes = _axes(panels[0])
    assert axes.get_xscale() == "log"  # 10 to 5000
    frontier, points = axes.lines
    assert points.get_xydata().ravel().tolist() == pytest.approx([10, 0.6, 5000, 0.9])
    assert len(frontier.get_xydata()) == 2
    assert axes.get_xlabel() == "parameters [count]"


def test_the_metric_that_chose_the_checkpoint_is_the_score(write_run: WriteRun) -> None:
    run = collect_run(write_run())
    rows = [{"model_name": "m", "test_auroc": 0.9, "test_accuracy": 0.8}]
    score = primary_score([run], rows)
    assert score is not None
    assert score.column == "test_accuracy"
    assert primary_score([run], [{"model_name": "m"}]) is None


def test_curves_of_runs_lie_over_each_other(write_run: WriteRun) -> None:
    runs = [collect_run(write_run(name)) for name in ("one", "two")]
    loss, metric = curve_panels(runs)
    axes = _axes(loss)
    assert [line.get_label() for line in axes.lines] == ["one", "two"]
    assert axes.lines[0].get_ydata()[1] == pytest.approx(1 / 2)
    assert len({line.get_color() for line in axes.lines}) == 2
    assert _axes(metric).get_ylabel() == "val accuracy [share]"
    many = [collect_run(runs[0].folder, name=f"r{i}") for i in range(15)]
    assert curve_panels(many)[0].title == "Training loss, first 12 of 15 runs"


def test_columns_have_units() -> None:
    assert column_label("val_wt") == "val Dice WT [share]"
    assert column_label("precision") == "test precision [share]"
    assert column_label("test_hd95_et") == "test hd95 et [mm]"
    assert column_label("pam_train").endswith("[bytes]")
