"""Scores of cases and their summary: what is counted, what is undefined, what is told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from neurocli.core.metrics.measures import baseline_texts, compare, measure
from neurocli.core.metrics.segmentation import WORST_MM
from neurocli.systems.brats.blocks import BratsTaskBlock
from neurocli.systems.brats.judging import METRICS, score_case, summarise_cases

SPACING = (1.0, 1.0, 2.0)
SETTINGS = BratsTaskBlock()


def maps(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a truth of nested boxes and a prediction that is one voxel off."""
    truth = np.zeros((24, 22, 20), dtype=np.uint8)
    a = 2 + seed % 4
    truth[a : a + 14, 3:15, 3:14] = 2
    truth[a + 3 : a + 10, 5:12, 5:11] = 3
    truth[a + 5 : a + 8, 7:10, 7:9] = 1
    return truth, np.roll(truth, 1, axis=0)


def row(seed: int = 0, who: str | None = None, **change: Any) -> dict[str, Any]:
    scores = score_case(*maps(seed), SPACING, BratsTaskBlock(**change))
    name = who or f"p{seed}"
    return {"participant": name, "subject": f"{name}-scan", "start": 0, **scores}


def test_a_shifted_box_by_hand() -> None:
    scores = score_case(*maps(), SPACING, SETTINGS)
    # 14 planes of which 13 overlap: 2 * 13 / (14 + 14). Enhancing and core: 7 planes, 6 overlap.
    assert scores["dice_wt"] == pytest.approx(13 / 14)
    assert scores["dice_tc"] == pytest.approx(6 / 7)
    assert scores["voxels_wt"] == scores["voxels_predicted_wt"] == 14 * 12 * 11
    # One voxel of 1 mm along the axis; every other face stays where it was.
    assert scores["hd95_wt"] == 1.0
    assert scores["lesion_dice_wt"] == pytest.approx(13 / 14)
    assert (scores["lesions_found_wt"], scores["lesions_missed_wt"]) == (1, 0)
    mean = (scores["dice_wt"] + scores["dice_tc"] + scores["dice_et"]) / 3
    assert scores["dice_mean"] == pytest.approx(mean)


def test_a_perfect_prediction() -> None:
    truth, _ = maps()
    scores = score_case(truth, truth, SPACING, SETTINGS)
    assert all(scores[f"dice_{name}"] == 1 for name in ("wt", "tc", "et", "mean"))
    assert all(scores[f"hd95_{name}"] == 0 for name in ("wt", "tc", "et"))
    assert scores["precision"] == scores["recall"] == 1


def test_overlap_alone_while_training() -> None:
    scores = score_case(*maps(), SPACING, SETTINGS, overlap_only=True)
    assert not any(name.startswith(("hd95", "lesion")) for name in scores)
    assert scores["dice_wt"] == pytest.approx(13 / 14)


def test_lesions_may_be_left_out() -> None:
    scores = score_case(*maps(), SPACING, BratsTaskBlock(lesions="none"))
    assert not any(name.startswith("lesion") for name in scores)
    assert "hd95_wt" in scores


@pytest.mark.parametrize(
    ("rule", "dice", "distance"),
    [("brats", 1.0, 0.0), ("nan", math.nan, math.nan), ("zero", 0.0, WORST_MM)],
)
def test_no_enhancing_tumour(rule: str, dice: float, distance: float) -> None:
    truth = np.where(maps()[0] == 3, 1, maps()[0]).astype(np.uint8)
    scores = score_case(truth, truth, SPACING, BratsTaskBlock(empty=rule))
    assert scores["dice_et"] == pytest.approx(dice, nan_ok=True)
    assert scores["hd95_et"] == pytest.approx(distance, nan_ok=True)
    known = [1.0, 1.0, dice] if not math.isnan(dice) else [1.0, 1.0]
    assert scores["dice_mean"] == pytest.approx(np.mean(known))
    assert math.isnan(scores["recall_et"])
    # Two classes are there, and their mean is taken.
    assert scores["recall"] == 1.0


def test_the_summary_is_the_mean_over_cases() -> None:
    rows = [row(seed) for seed in range(4)]
    found = summarise_cases(rows, SETTINGS)
    assert set(found.metrics) == set(METRICS)
    for name in METRICS:
        assert found.metrics[name] == pytest.approx(np.mean([r[name] for r in rows]))
    assert (found.n, found.unit) == (4, "cases")
    low, high = found.ci95["dice_wt"]
    assert low <= found.metrics["dice_wt"] <= high


def test_undefined_scores_enter_no_mean_and_are_counted() -> None:
    truth = np.where(maps()[0] == 3, 1, maps()[0]).astype(np.uint8)
    settings = BratsTaskBlock(empty="nan")
    false = np.where(truth == 1, 3, truth).astype(np.uint8)
    rows = [
        {"participant": "a", "subject": "a", **score_case(truth, false, SPACING, settings)},
        row(1, empty="nan"),
    ]
    found = summarise_cases(rows, settings)
    assert found.metrics["dice_et"] == rows[1]["dice_et"]
    counted = found.details["empty_regions"]["et"]
    assert counted == {"n_empty_truth": 1, "n_false": 1, "n_missed": 0}
    assert found.details["conventions"]["empty"] == "nan"


def test_a_miss_is_counted_and_costs_the_most() -> None:
    truth, _ = maps()
    nothing = np.zeros_like(truth)
    scored = {"participant": "a", "subject": "a", **score_case(truth, nothing, SPACING, SETTINGS)}
    found = summarise_cases([scored], SETTINGS)
    assert found.metrics["dice_wt"] == 0.0
    assert found.metrics["hd95_wt"] == WORST_MM
    assert found.metrics["lesion_hd95_wt"] == 374.0
    assert found.details["empty_regions"]["wt"]["n_missed"] == 1


def test_scans_of_one_person_are_drawn_together() -> None:
    rows = [row(seed, who="one") for seed in range(4)]
    assert summarise_cases(rows, SETTINGS).ci95 == {}  # one person gives no interval
    rows += [row(seed, who=who) for seed, who in ((1, "two"), (2, "three"))]
    assert "dice_wt" in summarise_cases(rows, SETTINGS).ci95


def test_cases_without_labels_are_named_and_not_counted() -> None:
    bare = {"participant": "x", "subject": "x", "start": 0}
    found = summarise_cases([row(0), bare], SETTINGS)
    assert found.n == 1
    assert [r["subject"] for r in found.per_subject] == ["p0-scan", "x"]
    assert "1 cases have no labels" in found.notes[0]
    alone = summarise_cases([bare], SETTINGS)
    assert (alone.n, dict(alone.metrics), dict(alone.details)) == (0, {}, {})


def test_the_table_of_cases_holds_scores_and_no_cells_of_the_matrix() -> None:
    found = summarise_cases([row(0)], SETTINGS)
    names = list(found.per_subject[0])
    assert names[:2] == ["participant", "subject"]
    assert "dice_et" in names
    assert not any("_as_" in name for name in names)
    counts = np.array(found.details["confusion"]["counts"])
    assert counts.sum() == maps()[0].size
    assert counts[3, 3] == (np.logical_and(*(m == 3 for m in maps()))).sum()


def test_the_definition_of_the_distance_is_told() -> None:
    for definition, said in (("max", "larger of the two"), ("pooled", "both directions")):
        settings = BratsTaskBlock(hd95=definition)
        found = summarise_cases([row(0, hd95=definition)], settings)
        assert said in found.notes[-1]
        assert said in found.details["conventions"]["hd95"]


def test_every_metric_has_a_unit_and_a_direction() -> None:
    for name in METRICS:
        known = measure(name)
        assert known.unit in ("share", "mm"), name
        assert known.better == ("lower" if "hd95" in name else "higher"), name
    assert compare("lesion_hd95_et", (1.0, 2.0), 3.0) == "better"
    assert baseline_texts(["threshold"])
